"""Queries for tests of usage: the reports of a fed database, and instants from texts."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.support.feed import Feed

Figures = list[dict[str, Any]]

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# In 2026, clocks go forward on 29 March and back on 25 October.
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)
# Figures that add up: the sum over the parts of a period is the figure of the whole.
ADDITIVE = (
    "participant_minutes",
    "voice_minutes",
    "video_minutes",
    "dialin_minutes",
    "sessions",
    "session_minutes",
    "large_sessions",
    "breakout_minutes",
)


def at(text: str) -> datetime:
    """Return the instant of a UTC time such as `2026-03-02 10:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local(day: date, zone: ZoneInfo = BERLIN, hour: int = 0) -> datetime:
    """Return an hour of a day in `zone`, in UTC."""
    return datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(UTC)


async def report(feed: Feed, since: datetime, until: datetime) -> dict[str, dict[str, Any]]:
    """Return the report of all tenants, by name."""
    rows = await feed.pool.fetch("SELECT * FROM meter.tenant_report($1, $2)", since, until)
    return {row["tenant"]: dict(row) for row in rows}


async def usage(feed: Feed, since: datetime, until: datetime, per: str) -> Figures:
    """Return the rows of meter.tenant_usage."""
    query = "SELECT * FROM meter.tenant_usage($1, $2, $3)"
    return [dict(row) for row in await feed.pool.fetch(query, since, until, per)]


async def by(
    feed: Feed, since: datetime, until: datetime, group: str, server: str | None = None
) -> Figures:
    """Return the rows of meter.usage_by."""
    query = "SELECT * FROM meter.usage_by($1, $2, $3, $4)"
    return [dict(row) for row in await feed.pool.fetch(query, since, until, group, server)]
