"""Repairs what a verification found."""

from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import structlog

from collector.database import borrowed, translated
from collector.database.deadlines import REFRESH_DEADLINE_S
from collector.database.upkeep import SETTLE_DELAY, refresh_rollup, settle, update_sessions
from collector.rollups import ROLLUPS
from collector.settings import Settings
from collector.verify.result import CountOnce, Refresh, Reopen, Result, Settle

log = structlog.get_logger(__name__)

# The spans that it notes as late are settled at once.
_COUNT_ONCE = """
SELECT meter.find_duplicates(array_agg(s.session_id), array_agg(s.started_at))
FROM meter.session AS s
WHERE s.started_at >= $1 AND s.started_at < $2
"""
_HURRY = """
INSERT INTO meter.late (since, until, added_at)
SELECT l.since, l.until, l.added_at - 2 * $1::interval FROM meter.late AS l
WHERE l.added_at = now()
"""
_REOPEN = "SELECT meter.reopen_sessions($1, $2)"
# The note is backdated, so that these spans are settled at once. Other recent notes keep their
# delay.
_NOTE_LATE = """
INSERT INTO meter.late (since, until, added_at)
SELECT *, now() - 2 * $3::interval FROM unnest($1::timestamptz[], $2::timestamptz[])
"""


async def repair(pool: asyncpg.Pool, settings: Settings, results: Sequence[Result]) -> list[str]:
    """Make the repairs of `results`; return a sentence for each kind of repair.

    First it is noted which sessions count through others. Then late data are settled, and sessions
    are recomputed. At last exactly the differing buckets of rollups are refreshed, each rollup
    after its source. What was polled is never changed. Raises DatabaseError, also if the role does
    not own a rollup that must be refreshed.
    """
    repairs = [repair for result in results for repair in result.repairs]
    done = []
    if duplicates := [r for r in repairs if isinstance(r, CountOnce)]:
        noted = await _count_once(pool, duplicates)
        done.append(f"noted {noted} meetings that two servers show")
    if spans := [r for r in repairs if isinstance(r, Settle)]:
        with translated("note late data"):
            await pool.execute(
                _NOTE_LATE, [r.since for r in spans], [r.until for r in spans], SETTLE_DELAY
            )
    if spans or duplicates:
        done.append(f"settled {await settle(pool)} spans of late data")
    sessions = [r for r in repairs if isinstance(r, Reopen)]
    if sessions:
        await _reopen(pool, sessions)
    if spans or duplicates or sessions:
        touched = await update_sessions(pool, settings.close_after_s)
        done.append(f"recomputed {touched} sessions")
    refreshes = [r for r in repairs if isinstance(r, Refresh)]
    for rollup in ROLLUPS:
        own = [r for r in refreshes if r.rollup == rollup]
        for refresh in own:
            async with borrowed(pool, f"refresh {rollup}", REFRESH_DEADLINE_S) as connection:
                # By force: else TimescaleDB computes only buckets whose source has changed.
                await refresh_rollup(connection, rollup, refresh.since, refresh.until, force=True)
        if own:
            done.append(f"refreshed {len(own)} spans of {rollup}")
    for what in done:
        log.info("repaired", what=what)
    return done


async def _count_once(pool: asyncpg.Pool, repairs: Sequence[CountOnce]) -> int:
    """Note sessions that another server shows too; return their number."""
    noted = 0
    with translated("note duplicates"):
        for span in repairs:
            # Sessions of one meeting can begin at slightly different times.
            around = span.since - timedelta(days=1), span.until + timedelta(days=1)
            async with pool.acquire() as connection, connection.transaction():
                noted += await connection.fetchval(_COUNT_ONCE, *around)
                await connection.execute(_HURRY, SETTLE_DELAY)
    return noted


async def _reopen(pool: asyncpg.Pool, sessions: Sequence[Reopen]) -> None:
    """Reopen ended sessions; sessions in the columnstore are decompressed for it."""
    with translated("reopen sessions"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
            )
            await connection.execute(
                _REOPEN,
                [r.session_id for r in sessions],
                [r.started_at for r in sessions],
            )
