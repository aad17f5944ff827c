"""The day rollups: days of the billing time zone, rebuilt when the time zone changes."""

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
# Each day rollup: the SQL for the amount that it holds of a day, and a query for the same amount
# in its source. A rebuild is refused where the source holds less than the rollup.
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
    "unseen_1d": (
        "session_seconds",
        "SELECT bucket AS ts, session_seconds AS held FROM meter.unseen_1h",
    ),
}
# The settings whose values are part of the day rollups' SQL.
BAKED = ("billing_timezone", "large_session_participants")
# This key is in meter.setting from when the day rollups are created again until they are computed.
_UNFINISHED = "days_to_be_computed"


async def check_baked(connection: Connection, settings: Settings, *, rebuild_days: bool) -> bool:
    """Return whether the day rollups must be rebuilt.

    Raises MigrationError where a setting changed without `rebuild_days`, or where a rebuild would
    lose history.
    """
    if await connection.fetchval("SELECT to_regclass('meter.setting')") is None:
        return False
    rows = await connection.fetch("SELECT key, value FROM meter.setting")
    stored = {row["key"]: row["value"] for row in rows}
    changed = [key for key in BAKED if stored.get(key) != str(getattr(settings, key))]
    if not changed:
        return False
    texts = ", ".join(f"{k} ({stored.get(k)} → {getattr(settings, k)})" for k in changed)
    if not rebuild_days:
        msg = f"{texts} changed: run `bbbmeter migrate --rebuild-days` to rebuild the day rollups"
        raise MigrationError(msg)
    if hour_of(stored["billing_timezone"]) != hour_of(settings.billing_timezone):
        msg = (
            f"{texts}: the hour rollups would have to be rebuilt too, which is not possible: "
            "set it back"
        )
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
            msg = (
                f"{texts}: {lost} days of {rollup} are older than its source and would be lost: "
                "set it back"
            )
            raise MigrationError(msg)
    return True


async def drop_days(connection: Connection) -> None:
    """Drop the day rollups, and note that the new ones must be computed."""
    for rollup in _DAY_ROLLUPS:
        await connection.execute(f"DROP MATERIALIZED VIEW meter.{rollup}")
    await connection.execute(
        "INSERT INTO meter.setting (key, value) VALUES ($1, '') ON CONFLICT DO NOTHING",
        _UNFINISHED,
    )


async def unfinished_days(connection: Connection) -> list[str]:
    """Return the day rollups that were created again and are not computed yet.

    Computing them cannot be part of the transaction that creates them. That transaction leaves a
    note, which stays until they are computed: by this `migrate`, or by the next one.
    """
    query = "SELECT EXISTS (SELECT FROM meter.setting WHERE key = $1)"
    return list(_DAY_ROLLUPS) if await connection.fetchval(query, _UNFINISHED) else []


async def compute_days(connection: Connection, rollup: str) -> None:
    """Compute a day rollup from everything that its source still holds."""
    await connection.execute(
        f"CALL public.refresh_continuous_aggregate('meter.{rollup}', NULL, NULL)"
    )


async def days_finished(connection: Connection) -> None:
    """Remove the note: the day rollups are computed."""
    await connection.execute("DELETE FROM meter.setting WHERE key = $1", _UNFINISHED)


def hour_of(zone: str) -> str:
    """Return the width of the hour rollups, as SQL text such as "1 hour".

    Days in `zone` must begin at the start of a bucket, and buckets are aligned to UTC. So the width
    is less than an hour if an offset from UTC in 2020 to 2035 is not a whole hour. Hours of the
    zone itself would not work: when its clocks go back, one hour happens twice.
    """
    for width, minutes in (("1 hour", 60), ("30 minutes", 30)):
        if all(offset % timedelta(minutes=minutes) == timedelta() for offset in _offsets(zone)):
            return width
    return "15 minutes"


def _offsets(zone: str) -> Iterator[timedelta]:
    """Yield the zone's offset from UTC at the start of each month, 2020 to 2035."""
    for year in range(2020, 2036):
        for month in range(1, 13):
            yield datetime(year, month, 1, tzinfo=UTC).astimezone(ZoneInfo(zone)).utcoffset() or (
                timedelta()
            )
