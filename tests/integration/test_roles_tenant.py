"""What a tenant's role sees: all of its own rows, with the figures of the operator's report."""

from collections.abc import Iterator

import asyncpg
import pytest

from collector.database.roles import grant_sql, revoke_sql
from tests.support.roles import DAY, HOUR, VIEWS, House, T, make_login

# The day of T in the billing time zone, Berlin.
MIDNIGHT = T.replace(hour=0) - HOUR
DAY_OF_T = (MIDNIGHT, MIDNIGHT + DAY)


async def test_a_tenant_sees_all_its_rows_and_the_reports_figures(house: House) -> None:
    """Its views hold what the tables hold of it, its report is the fleet's without the others."""
    pool = house.feed.pool
    async with house.enter(house.login) as connection:
        for view in VIEWS:
            key = "id" if view == "my_tenant" else "tenant_id"
            whole = await pool.fetch(
                f"SELECT x.* FROM meter.{view.removeprefix('my_')} AS x "  # noqa: S608
                f"WHERE x.{key} = $1 ORDER BY x::text",
                house.own,
            )
            seen = await connection.fetch(f"SELECT x.* FROM meter.{view} AS x ORDER BY x::text")  # noqa: S608
            assert seen == whole != []
            assert list(seen[0].keys()) == list(whole[0].keys())
        for per in ("day", "month", "total"):
            query = "SELECT * FROM meter.{}($1, $2, $3)"
            period = (MIDNIGHT - DAY, MIDNIGHT + 3 * DAY, per)
            fleet = await pool.fetch(query.format("tenant_usage"), *period)
            seen = await connection.fetch(query.format("my_usage"), *period)
            assert seen == [row for row in fleet if row["tenant"] == "arts"] != []
        report = await pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", *period[:2])
        (own,) = [dict(row) for row in report if row["tenant"] == "arts"]
        assert dict(seen[0]) == {"period": MIDNIGHT - DAY, **own}
        servers = await connection.fetch("SELECT * FROM meter.my_coverage($1, $2)", *DAY_OF_T)
        assert [(row["server"], row["coverage"]) for row in servers] == [
            ("shared", pytest.approx(1 / 13))
        ]


async def test_a_period_reads_only_its_days(house: House) -> None:
    """A function returns the rows of exactly its period, and reads no other days' chunks."""
    since, until = T + HOUR / 4, T + HOUR / 2
    scans = (
        "SELECT c.chunk_name, pg_stat_get_xact_numscans(format('%I.%I', c.chunk_schema, "
        "c.chunk_name)::regclass) AS scans, c.range_start <= $1 AND c.range_end > $1 AS wanted "
        "FROM timescaledb_information.chunks AS c WHERE hypertable_name = 'sample'"
    )
    async with house.enter(house.login) as connection:
        rows = await connection.fetch("SELECT ts FROM meter.my_sample($1, $2)", since, until)
        every = await connection.fetch("SELECT ts FROM meter.my_sample")
    seen = sorted(row["ts"] for row in rows)
    assert seen == sorted(row["ts"] for row in every if since <= row["ts"] < until) != []
    # A superuser has the roles of all tenants, and can count scans.
    later = T + DAY
    async with house.feed.pool.acquire() as owner, owner.transaction():
        before = {row["wanted"]: row["scans"] for row in await owner.fetch(scans, later)}
        await owner.fetch("SELECT * FROM meter.my_sample($1, $2)", later, later + HOUR)
        read = {
            row["wanted"]: row["scans"] - before[row["wanted"]]
            for row in await owner.fetch(scans, later)
        }
    assert read[False] == 0
    assert read[True] > 0


async def test_roles_add_up_and_end_with_the_grant(house: House, logins: Iterator[str]) -> None:
    """A login with two tenants' roles sees both; with none, nothing; revoked, at once nothing."""
    feed = house.feed
    other = next(logins)
    await feed.pool.execute(grant_sql("lawyers", other))
    both = await make_login(feed, next(logins), house.role, other)
    none = await make_login(feed, next(logins), "bbbmeter_tenant")
    names = "SELECT array_agg(name ORDER BY name) FROM meter.my_tenant"
    async with house.enter(both) as connection:
        assert await connection.fetchval(names) == ["arts", "lawyers"]
        await connection.execute(f"SET ROLE {other}")
        assert await connection.fetchval(names) == ["lawyers"]
        usage = await connection.fetch("SELECT * FROM meter.my_usage($1, $2)", *DAY_OF_T)
        assert {row["tenant"] for row in usage} == {"lawyers"}
    async with house.enter(none) as connection:
        assert await connection.fetchval(names) is None
        assert await connection.fetch("SELECT * FROM meter.my_usage($1, $2)", *DAY_OF_T) == []
    async with house.enter(house.login) as connection:
        assert await connection.fetchval(names) == ["arts"]
    await feed.pool.execute(revoke_sql("arts", house.role))
    async with house.enter(house.login) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval(names)
