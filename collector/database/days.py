"""The day rollups: they are cut in the billing time zone, and made again when that changes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from collector.database.pool import Connection
from collector.errors import MigrationError
from collector.model import LATER_COUNTS
from collector.settings import Settings

# The run-once files that make the day rollups, by the end of their names.
DAYS_FILES = "_days.sql"
_USAGE_HELD = "session_seconds + breakout_participant_seconds"
# Each day rollup with how much it holds of a day, and the same of what it is made from.
_DAY_ROLLUPS = {
    "usage_1d": (
        _USAGE_HELD,
        f"SELECT bucket AS ts, {_USAGE_HELD} AS held FROM meter.usage_1h",  # noqa: S608
    ),
    "server_1d": ("polls", "SELECT bucket AS ts, polls AS held FROM meter.server_1h"),
    "session_1d": (
        "sessions",
        "SELECT started_at AS ts, 1 AS held FROM meter.session WHERE NOT breakout",
    ),
    **{
        f"{count}_1d": (
            "known_seconds",
            f"SELECT bucket AS ts, known_seconds AS held FROM meter.{count}_1h",  # noqa: S608
        )
        for count in LATER_COUNTS
    },
}
# The settings that are built into the day rollups.
BAKED = ("billing_timezone", "large_session_participants")
# The key in meter.setting that stands there from when these are made again until they are computed.
_UNFINISHED = "days_to_be_computed"


async def check_baked(connection: Connection, settings: Settings, *, rebuild_days: bool) -> bool:
    """Say whether the day rollups are to be made again; refuse where history would be lost."""
    if await connection.fetchval("SELECT to_regclass('meter.setting')") is None:
        return False
    rows = await connection.fetch("SELECT key, value FROM meter.setting")
    stored = {row["key"]: row["value"] for row in rows}
    changed = [key for key in BAKED if stored.get(key) != str(getattr(settings, key))]
    if not changed:
        return False
    texts = ", ".join(f"{k} ({stored.get(k)} → {getattr(settings, k)})" for k in changed)
    if not rebuild_days:
        msg = f"{texts} changed: run `bbbmeter migrate --rebuild-days` to cut all days anew"
        raise MigrationError(msg)
    if hour_of(stored["billing_timezone"]) != hour_of(settings.billing_timezone):
        msg = f"{texts}: hours would have to be cut anew as well, which is not possible"
        raise MigrationError(msg)
    for rollup, (held, source) in _DAY_ROLLUPS.items():
        lost = await connection.fetchval(
            f"""
            SELECT count(*)
            FROM (SELECT bucket, sum({held}) AS held FROM meter.{rollup} GROUP BY bucket) AS d
            LEFT JOIN (
                SELECT public.time_bucket('1 day', x.ts, $1) AS bucket, sum(x.held) AS held
                FROM ({source}) AS x
                GROUP BY 1
            ) AS s USING (bucket)
            WHERE d.held > coalesce(s.held, 0)
            """,  # noqa: S608 - from the constants above
            stored["billing_timezone"],
        )
        if lost:
            msg = f"{texts}: {lost} days of {rollup} are older than their source and would be lost"
            raise MigrationError(msg)
    return True


async def drop_days(connection: Connection) -> None:
    """Drop the day rollups, and note that new ones are to be computed."""
    for rollup in _DAY_ROLLUPS:
        await connection.execute(f"DROP MATERIALIZED VIEW meter.{rollup}")
    await connection.execute(
        "INSERT INTO meter.setting (key, value) VALUES ($1, '') ON CONFLICT DO NOTHING",
        _UNFINISHED,
    )


async def unfinished_days(connection: Connection) -> list[str]:
    """Return the day rollups that were made again and are not computed yet.

    To compute them cannot be part of the transaction that made them. The note that it made stays
    until it is done, by the next `migrate` if not by this one.
    """
    query = "SELECT EXISTS (SELECT FROM meter.setting WHERE key = $1)"
    return list(_DAY_ROLLUPS) if await connection.fetchval(query, _UNFINISHED) else []


async def compute_days(connection: Connection, rollup: str) -> None:
    """Compute a day rollup from all that its source still holds."""
    await connection.execute(
        f"CALL public.refresh_continuous_aggregate('meter.{rollup}', NULL, NULL)"
    )


async def days_finished(connection: Connection) -> None:
    """Take the note away: the day rollups are computed."""
    await connection.execute("DELETE FROM meter.setting WHERE key = $1", _UNFINISHED)


def hour_of(zone: str) -> str:
    """Return the width of the hour rollups, as SQL: an hour that days in `zone` begin on, in UTC.

    It is less than an hour where all this decade's offsets from UTC are not whole hours. Hours of
    the zone itself would not do: where its clocks change, one of them comes twice.
    """
    for width, minutes in (("1 hour", 60), ("30 minutes", 30)):
        if all(offset % timedelta(minutes=minutes) == timedelta() for offset in _offsets(zone)):
            return width
    return "15 minutes"


def _offsets(zone: str) -> Iterator[timedelta]:
    """Yield the zone's offsets from UTC, month by month, 2020 to 2035."""
    for year in range(2020, 2036):
        for month in range(1, 13):
            yield datetime(year, month, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset() or (
                timedelta()
            )
