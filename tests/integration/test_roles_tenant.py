"""What a tenant's role sees: all of its own rows, with the figures of the operator's report."""

from collections.abc import Iterator

import asyncpg
import pytest

from collector.database.roles import grant_sql, revoke_sql
from tests.support.roles import DAY, HOUR, VIEWS, House, T, make_login


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
            period = (T - DAY, T + 3 * DAY, per)
            fleet = await pool.fetch(query.format("tenant_usage"), *period)
            seen = await connection.fetch(query.format("my_usage"), *period)
            assert seen == [row for row in fleet if row["tenant"] == "arts"] != []
        report = await pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", *period[:2])
        (own,) = [dict(row) for row in report if row["tenant"] == "arts"]
        assert dict(seen[0]) == {"period": T - DAY, **own}
        servers = await connection.fetch("SELECT * FROM meter.my_coverage($1, $2)", T, T + HOUR)
        assert [(row["server"], row["coverage"]) for row in servers] == [("shared", 1)]


async def test_a_months_query_finds_its_chunks_and_segments(house: House) -> None:
    """Times are compared below the barrier: other days' chunks and other tenants' stay unread."""
    async with house.enter(house.login) as connection:
        plan = await connection.fetch(
            "EXPLAIN (COSTS OFF) SELECT sum(participants) FROM meter.my_sample "
            "WHERE ts >= $1 AND ts < $2".replace("$1", f"'{T}'").replace("$2", f"'{T + HOUR}'")
        )
    text = "\n".join(row[0] for row in plan)
    chunks = await house.feed.pool.fetch(
        "SELECT format('%I', c.chunk_name) AS name, c.range_start <= $1 AND c.range_end > $1 "
        "FROM timescaledb_information.chunks AS c WHERE hypertable_name = 'sample'",
        T,
    )
    assert len(chunks) == 2
    assert all((name in text) == wanted for name, wanted in chunks)
    # The tenant is a condition on the segments, before anything is unpacked.
    assert "compress" in text.partition("tenant_id = ANY")[0].rpartition("->")[2]


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
        usage = await connection.fetch("SELECT * FROM meter.my_usage($1, $2)", T, T + HOUR)
        assert {row["tenant"] for row in usage} == {"lawyers"}
    async with house.enter(none) as connection:
        assert await connection.fetchval(names) is None
        assert await connection.fetch("SELECT * FROM meter.my_usage($1, $2)", T, T + HOUR) == []
    async with house.enter(house.login) as connection:
        assert await connection.fetchval(names) == ["arts"]
    await feed.pool.execute(revoke_sql("arts", house.role))
    async with house.enter(house.login) as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval(names)
