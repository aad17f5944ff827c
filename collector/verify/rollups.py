"""Checks that each rollup equals the sum of its source's rows."""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from collector.clock import utc
from collector.database import translated
from collector.errors import DatabaseError
from collector.rollups import DAY, MINUTE, ROLLUPS, Grain
from collector.verify.recount import RECOUNTS, Recount
from collector.verify.result import Examined, Refresh, Result, Tally, examine
from collector.verify.scope import Scope

# A bucket is compared once its policy must have refreshed it: after the policy's delay and two of
# its runs, but not earlier than this.
MIN_THROUGH = timedelta(minutes=10)
_HOUR_S = {"1 hour": 3600, "30 minutes": 1800, "15 minutes": 900}
# The times whose sessions changed since a rollup of them was computed. A session changes until it
# has ended, and the rollup's policy runs later.
_CHANGED = """
WITH rollup AS (
    SELECT
        a.mat_hypertable_id AS id, a.raw_hypertable_id AS source_id
    FROM _timescaledb_catalog.continuous_agg AS a
    WHERE a.user_view_schema = 'meter' AND a.user_view_name = $3
), changed AS (
    SELECT l.lowest_modified_value AS lo, l.greatest_modified_value AS hi
    FROM _timescaledb_catalog.continuous_aggs_materialization_invalidation_log AS l
    INNER JOIN rollup AS r ON r.id = l.materialization_id
    UNION ALL
    SELECT l.lowest_modified_value, l.greatest_modified_value
    FROM _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log AS l
    INNER JOIN rollup AS r ON r.source_id = l.hypertable_id
)
SELECT
    _timescaledb_functions.to_timestamp(greatest(c.lo, p.lo)) AS since,
    _timescaledb_functions.to_timestamp(least(c.hi, p.hi) + 1) AS until
FROM changed AS c
CROSS JOIN (
    SELECT
        (extract(EPOCH FROM $1::timestamptz) * 1e6)::bigint AS lo,
        (extract(EPOCH FROM $2::timestamptz) * 1e6)::bigint AS hi
) AS p
WHERE c.hi >= p.lo AND c.lo <= p.hi
"""


@dataclass(slots=True)
class _Comparison:
    """A rollup that is being compared: its tally, and the pieces in which it differs."""

    rollup: Recount
    tally: Tally
    suspicious: list[tuple[str, datetime, datetime]] = field(default_factory=list)
    failure: str = ""

    def result(self) -> Result:
        if self.failure:
            return Result(self.tally.name, "failed", note=self.failure)
        return self.tally.result()


async def check_rollups(scope: Scope, second_look_s: float) -> list[Result]:
    """Compare every rollup with its source, bucket by bucket.

    If a rollup differs, it is compared again `second_look_s` seconds later. Meanwhile a refresh
    that was running or due is completed.
    """
    comparisons = [_Comparison(r, Tally(f"rollup {r.name}")) for r in RECOUNTS]
    for comparison in comparisons:
        await _guarded(scope, comparison, _first_look)
    if any(comparison.suspicious for comparison in comparisons):
        await asyncio.sleep(second_look_s)
    for comparison in comparisons:
        await _guarded(scope, comparison, _second_look)
    return [comparison.result() for comparison in comparisons]


async def _guarded(
    scope: Scope,
    comparison: _Comparison,
    look: Callable[[Scope, _Comparison], Awaitable[None]],
) -> None:
    if comparison.failure:
        return
    try:
        with translated(comparison.tally.name):
            await look(scope, comparison)
    except DatabaseError as error:
        comparison.failure = str(error)


async def _first_look(scope: Scope, comparison: _Comparison) -> None:
    """Count the pieces without a difference, and remember the others for the second look."""
    rollup, tally = comparison.rollup, comparison.tally
    async for anew, since, until in _pieces(scope, rollup):
        found = await _compare(scope, rollup, anew, since, until)
        if found.wrong:
            comparison.suspicious.append((anew, since, until))
        else:
            tally.take(found, partial(_describe, scope, rollup))


async def _second_look(scope: Scope, comparison: _Comparison) -> None:
    rollup = comparison.rollup
    if not comparison.suspicious:
        return
    mendable_since = await _mendable_since(scope, rollup)
    for anew, since, until in comparison.suspicious:
        found = await _compare(scope, rollup, anew, since, until)
        comparison.tally.take(
            found,
            partial(_describe, scope, rollup),
            partial(_refresh, scope, rollup, mendable_since),
        )


async def _compare(
    scope: Scope, rollup: Recount, anew: str, since: datetime, until: datetime
) -> Examined:
    late = list(scope.late)
    if ROLLUPS[rollup.name].source == "session":
        rows = await scope.pool.fetch(_CHANGED, since, until, rollup.name)
        late += [(row["since"], row["until"]) for row in rows]
    return await examine(
        scope.pool,
        scope.sql(rollup.query(anew)),
        since,
        until,
        [late_since for late_since, _ in late],
        [late_until for _, late_until in late],
    )


async def _pieces(scope: Scope, rollup: Recount) -> AsyncIterator[tuple[str, datetime, datetime]]:
    """Yield what to compare: the query, and the bounds of whole buckets of at most a day.

    The pieces begin where both sides are complete, and end where the refresh is complete.
    """
    grain = rollup.grain
    end = scope.now - max(grain.delay + 2 * grain.every, MIN_THROUGH)
    for source, anew in rollup.anew:
        since = await _whole_since(scope, rollup, source)
        if since is None:
            continue
        begin, until = scope.period(since, end)
        until = _bucket(scope, rollup.grain, until)
        for piece in scope.slices(_next_bucket(scope, rollup.grain, begin), until):
            yield anew, *piece
        end = min(end, since)


async def _whole_since(scope: Scope, rollup: Recount, source: str) -> datetime | None:
    """Return the first bucket of which both the rollup and `source` still hold all rows.

    Returns None if `source` is empty.
    """
    kept_since = scope.kept_since(source)
    if source in ROLLUPS:
        # Rows that were not refreshed yet are in no chunk, but readers see them.
        first = await scope.pool.fetchval(f"SELECT min(bucket) FROM meter.{source}")  # noqa: S608
        kept_since = min(filter(None, (kept_since, first)), default=None)
    if kept_since is None:
        return None
    since = _bucket(scope, rollup.grain, kept_since)
    oldest = await scope.pool.fetchval(f"SELECT min(bucket) FROM meter.{rollup.name}")  # noqa: S608
    if oldest is not None and oldest < since:
        # Older rows were dropped: the bucket in which the oldest chunk begins may be incomplete.
        since = _next_bucket(scope, rollup.grain, kept_since)
    if days := scope.settings.kept_days[rollup.name]:
        dropped_until = min(
            scope.now - timedelta(days=days), scope.kept_since(rollup.name) or scope.now
        )
        since = max(since, _next_bucket(scope, rollup.grain, dropped_until))
    return since


def _bucket(scope: Scope, grain: Grain, at: datetime) -> datetime:
    """Return the beginning of the bucket that contains `at`."""
    if grain is DAY:
        return scope.days[max(bisect_right(scope.days, at) - 1, 0)]
    epoch_s = int(at.timestamp())
    return utc(epoch_s - epoch_s % _width_s(scope, grain))


def _next_bucket(scope: Scope, grain: Grain, at: datetime) -> datetime:
    """Return the beginning of the first bucket that begins at `at` or later."""
    if grain is DAY:
        return scope.days[min(bisect_left(scope.days, at), len(scope.days) - 1)]
    begin = _bucket(scope, grain, at)
    return begin if begin == at else begin + timedelta(seconds=_width_s(scope, grain))


def _width_s(scope: Scope, grain: Grain) -> int:
    return 60 if grain is MINUTE else _HOUR_S[scope.variables["hour"]]


async def _mendable_since(scope: Scope, rollup: Recount) -> datetime:
    """Return since when a refresh of the rollup deletes no rows.

    That is as far back as its policy refreshes and its source is complete.
    """
    source = ROLLUPS[rollup.name].source
    since = await _whole_since(scope, rollup, source) or scope.now
    kept = scope.settings.kept_days[source]
    return max(since, scope.now - timedelta(days=kept - 1)) if kept else since


def _refresh(scope: Scope, rollup: Recount, since: datetime, at: datetime) -> Refresh | None:
    """Return the repair of the bucket `at`; None before `since`."""
    if at < since:
        return None
    end = _next_bucket(scope, rollup.grain, at + timedelta(seconds=1))
    return Refresh(rollup.name, at, end)


def _describe(scope: Scope, rollup: Recount, detail: dict[str, Any]) -> tuple[str, str, str]:
    expected, found = detail["expected"], detail["found"]
    row = expected or found
    names: dict[str, Callable[[Any], str]] = {
        "tenant_id": scope.tenant,
        "server_id": scope.server,
        "session_id": lambda number: f"session {number}",
        "breakout": lambda is_one: "breakout" if is_one else "not a breakout",
        "ok": lambda is_ok: "ok" if is_ok else "failed",
        "outcome": str,
        "latency_class": lambda number: f"latency class {number}",
        "origin": lambda product: f"from {product or 'unknown'}",
        "ended_after": lambda number: f"ended after {number}" if number >= 0 else "not ended",
    }
    whose = ", ".join(names[key](row[key]) for key in rollup.keys) or "all tenants"
    differing = [
        figure
        for figure in rollup.figures
        if not (expected and found) or expected[figure] != found[figure]
    ]

    def listed(values: dict[str, Any] | None) -> str:
        if values is None:
            return "no row"
        return ", ".join(f"{figure} {values[figure]}" for figure in differing)

    return f"{whose}, {scope.local(row['bucket'])}", listed(expected), listed(found)
