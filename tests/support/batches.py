"""Sessions of two tenants on two servers, for tests of the writer."""

from datetime import UTC, datetime, timedelta

from tests.support.feed import Feed, Run

TICK = timedelta(seconds=30)
T = datetime(2026, 3, 2, 10, tzinfo=UTC)
TABLES = ("tenant", "server", "room", "session", "poll", "sample")
SERVERS = ("bbb1", "bbb2")


async def counts(feed: Feed) -> dict[str, int]:
    """Return the number of rows of each table."""
    return {
        table: await feed.pool.fetchval(f"SELECT count(*) FROM meter.{table}")  # noqa: S608
        for table in TABLES
    }


def some_runs() -> list[Run]:
    """Return two sessions of two tenants on each of two servers, ten ticks long."""
    return [
        Run(server, tenant, f"room of {tenant}", T, T + 10 * TICK, 5)
        for server in ("bbb1", "bbb2")
        for tenant in ("arts", "law")
    ]


def ticks(since: int, until: int) -> list[datetime]:
    """Return the ticks [since, until) after T."""
    return [T + n * TICK for n in range(since, until)]
