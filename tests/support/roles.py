"""A database with two tenants, and connections with the rights of only one role."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from collector.database.roles import grant_sql
from collector.database.upkeep import update_sessions
from tests.support.feed import Feed, Run

T = datetime(2026, 3, 2, 10, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PASSWORD = "an-invented-password"
# Names and figures that the tenant `arts` must never see in a result, an error or a notice.
OF_OTHERS = ("lawyers", "law-room", "law-server", "Law & Order", "7777", "8888")
# The relations and functions that a tenant may use.
VIEWS = ("my_tenant", "my_room", "my_session", "my_sample", "my_usage_1m", "my_usage_1h")
FORBIDDEN = asyncpg.InsufficientPrivilegeError


@dataclass
class House:
    """The data of two tenants, and connections with the rights of a login.

    `own`, `role` and `login` are the id, the role and a login of the tenant `arts`.
    """

    feed: Feed
    dsn: str
    native: bool
    own: int
    role: str
    login: str

    @asynccontextmanager
    async def enter(self, login: str) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection with only the rights of `login`."""
        if self.native:
            url = urlsplit(self.dsn)
            netloc = f"{login}:{PASSWORD}@{url.netloc.rpartition('@')[2]}"
            connection = await asyncpg.connect(urlunsplit(url._replace(netloc=netloc)))
            try:
                yield connection
            finally:
                await connection.close()
            return
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(f"SET ROLE {login}")
            yield connection
        finally:
            await connection.execute("RESET ROLE")
            await connection.close()


async def make_login(feed: Feed, name: str, *roles: str) -> str:
    """Create a login with `roles`."""
    await feed.pool.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    for role in roles:
        await feed.pool.execute(f"GRANT {role} TO {name}")
    return name


async def furnish(feed: Feed, dsn: str, logins: Iterator[str], *, native: bool) -> House:
    """Feed an hour of two tenants on a shared server and on one of the second tenant's servers.

    The data are in rows and in columns.

    `native` says that `dsn` is a server, on which each role can log in.
    """
    await feed.due(T, shared=None, **{"law-server": "lawyers"})
    runs = [
        Run("shared", "arts", "arts-room", T, T + HOUR, 3, voice=1),
        Run("shared", "lawyers", "law-room", T, T + HOUR, 7777, voice=8888),
        Run("law-server", "lawyers", "law-room", T, T + HOUR, 8888, dialins=7777),
    ]
    servers = ("shared", "law-server")
    await feed.play(servers, feed.ticks(T, T + HOUR), runs)
    await update_sessions(feed.pool, 120)
    await feed.refresh()
    await feed.columnize()
    later = T + DAY
    await feed.play(
        servers,
        feed.ticks(later, later + HOUR / 2),
        [
            Run("shared", "arts", "arts-room", later, later + HOUR, 3, voice=1),
            Run("shared", "lawyers", "law-room", later, later + HOUR, 7777, voice=8888),
        ],
    )
    await update_sessions(feed.pool, 120)
    await feed.pool.execute("UPDATE meter.tenant SET title = 'Law & Order' WHERE name = 'lawyers'")
    await feed.pool.execute("ANALYZE")
    role = next(logins)
    await feed.pool.execute(grant_sql("arts", role))
    login = await make_login(feed, next(logins), role)
    own = await feed.pool.fetchval("SELECT id FROM meter.tenant WHERE name = 'arts'")
    return House(feed, dsn, native, own, role, login)
