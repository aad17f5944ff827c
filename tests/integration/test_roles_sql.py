"""The SQL that `bbbmeter tenant grant-sql` prints: it can be run again, and undone."""

from collections.abc import Iterator

import asyncpg
import pytest

from collector.database.roles import grant_sql, revoke_sql, role_of
from collector.errors import UsageError
from tests.support.feed import Feed
from tests.support.roles import T


async def test_the_sql_can_be_run_again_and_undone(feed: Feed, logins: Iterator[str]) -> None:
    """Twice is as once; undone, neither role nor rights are left, and that can be done twice."""
    await feed.due(T, bbb1="arts.and-Crafts_1")
    role = next(logins)
    held = (
        "SELECT count(*) FROM meter.tenant_role AS r INNER JOIN meter.tenant AS t "
        "ON r.tenant_id = t.id WHERE r.role = $1 AND t.name = 'arts.and-Crafts_1'"
    )
    for _ in range(2):
        await feed.pool.execute(grant_sql("arts.and-Crafts_1", role))
        assert await feed.pool.fetchval(held, role) == 1
        # The tenant's present role is found again.
        async with feed.pool.acquire() as connection:
            assert await role_of(connection, "arts.and-Crafts_1") == role
    for _ in range(2):
        await feed.pool.execute(revoke_sql("arts.and-Crafts_1", role))
        assert await feed.pool.fetchval(held, role) == 0
        assert await feed.pool.fetchval("SELECT to_regrole($1)", role) is None


async def test_a_role_is_named_by_number(feed: Feed) -> None:
    """All users of a server see the roles' names: the database and a number, never the tenant."""
    await feed.due(T, bbb1="arts")
    async with feed.pool.acquire() as connection:
        database, number = await connection.fetchrow(
            "SELECT current_database(), id FROM meter.tenant WHERE name = 'arts'"
        ) or ("", 0)
        assert await role_of(connection, "arts") == f"{database}_tenant_{number}"
        with pytest.raises(UsageError, match="no tenant 'nobody'"):
            await role_of(connection, "nobody")


async def test_a_role_that_is_somebody_elses_is_refused(feed: Feed, logins: Iterator[str]) -> None:
    """Neither granting nor revoking touches a role that was not made for this tenant."""
    await feed.due(T, bbb1="arts", bbb2="lawyers")
    await feed.pool.execute(grant_sql("arts", role := next(logins)))
    for sql in (
        grant_sql("lawyers", role),
        revoke_sql("lawyers", role),
        grant_sql("arts", "bbbmeter_reader"),
        revoke_sql("arts", "bbbmeter_writer"),
        grant_sql("nobody", next(logins)),
    ):
        async with feed.pool.acquire() as connection:
            with pytest.raises(asyncpg.RaiseError):
                await connection.execute(sql)
            await connection.execute("ROLLBACK")
    rows = await feed.pool.fetch("SELECT role FROM meter.tenant_role")
    assert [row["role"] for row in rows] == [role]
    assert await feed.pool.fetchval("SELECT to_regrole('bbbmeter_writer')") is not None
