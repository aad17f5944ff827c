"""Mending what a verification found."""

from collections.abc import Sequence

import asyncpg
import structlog

from collector.database import borrowed, translated
from collector.database.deadlines import REFRESH_DEADLINE_S
from collector.database.upkeep import SETTLE_DELAY, refresh_rollup, settle, update_sessions
from collector.rollups import ROLLUPS
from collector.settings import Settings
from collector.verify.result import Refresh, Reopen, Result, Settle

log = structlog.get_logger(__name__)

_REOPEN = """
UPDATE meter.session AS s SET ended_at = NULL
FROM unnest($1::bigint[], $2::timestamptz[]) AS r (session_id, started_at)
WHERE s.session_id = r.session_id AND s.started_at = r.started_at
    AND s.started_at >= $3 AND s.started_at <= $4
"""
# As if noted long enough ago to be seen to at once; what is recent keeps its delay.
_NOTE_LATE = """
INSERT INTO meter.late (since, until, added_at)
SELECT *, now() - 2 * $3::interval FROM unnest($1::timestamptz[], $2::timestamptz[])
"""


async def repair(pool: asyncpg.Pool, settings: Settings, results: Sequence[Result]) -> list[str]:
    """Mend what can be mended of `results`; return in plain words what was done.

    Late data are seen to, sessions computed anew, and at last exactly the differing buckets of
    rollups refreshed, each after what it is made of. A poll or a real sample is never touched.
    To refresh a rollup is its owner's business: others get a DatabaseError.
    """
    repairs = [repair for result in results for repair in result.repairs]
    done = []
    if spans := [r for r in repairs if isinstance(r, Settle)]:
        with translated("note late data"):
            await pool.execute(
                _NOTE_LATE, [r.since for r in spans], [r.until for r in spans], SETTLE_DELAY
            )
        done.append(f"saw to {await settle(pool)} spans of late data")
    sessions = [r for r in repairs if isinstance(r, Reopen)]
    if sessions:
        await _reopen(pool, sessions)
    if spans or sessions:
        touched = await update_sessions(pool, settings.close_after_s)
        done.append(f"computed {touched} sessions anew")
    refreshes = [r for r in repairs if isinstance(r, Refresh)]
    for rollup in ROLLUPS:
        own = [r for r in refreshes if r.rollup == rollup]
        for refresh in own:
            async with borrowed(pool, f"refresh {rollup}", REFRESH_DEADLINE_S) as connection:
                # By force: where nothing is noted as changed, nothing would be computed.
                await refresh_rollup(connection, rollup, refresh.since, refresh.until, force=True)
        if own:
            done.append(f"refreshed {rollup} in {len(own)} places")
    for what in done:
        log.info("repaired", what=what)
    return done


async def _reopen(pool: asyncpg.Pool, sessions: Sequence[Reopen]) -> None:
    """Open sessions that had ended; those that lie in columns are unpacked for it."""
    with translated("reopen sessions"):
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
            )
            await connection.execute(
                _REOPEN,
                [r.session_id for r in sessions],
                [r.started_at for r in sessions],
                min(r.started_at for r in sessions),
                max(r.started_at for r in sessions),
            )
