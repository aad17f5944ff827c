"""Checks that every due poll was stored, and that late data were settled."""

import json
from collections import Counter
from datetime import datetime, timedelta

import asyncpg

from collector.verify.result import Result, Settle, Tally, merged
from collector.verify.scope import Scope

# Polls of these last minutes may not be stored yet.
_ON_ITS_WAY = timedelta(minutes=5)

_MISSING = """
SELECT
    m.reason, sum(m.polls)::bigint AS polls, count(*) AS spans,
    (array_agg(to_jsonb(m) ORDER BY m.missing_since, m.server_id))[1:20] AS details
FROM meter.missing_polls($1, $2) AS m
GROUP BY m.reason
ORDER BY m.reason
"""
_STORED = """
SELECT p.ok, p.outcome, count(*) AS polls
FROM meter.poll AS p
WHERE p.ts >= $1 AND p.ts < $2
GROUP BY p.ok, p.outcome
"""


async def check_polls(scope: Scope) -> Result:
    """Compare the due polls with the stored ones; only unexplained gaps are findings."""
    tally = Tally("polls")
    since = await _due_since(scope)
    if since is None:
        return tally.result()
    missing: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for piece in scope.slices(*scope.period(since, scope.now - _ON_ITS_WAY)):
        for row in await scope.pool.fetch(_STORED, *piece):
            tally.examined += row["polls"]
            if not row["ok"]:
                failed[row["outcome"]] += row["polls"]
        for row in await scope.pool.fetch(_MISSING, *piece):
            tally.examined += row["polls"]
            missing[row["reason"]] += row["polls"]
            if row["reason"] == "unexplained":
                _unexplained(scope, tally, row)
    for name, counts in (("missing", missing), ("failed", failed)):
        if counts:
            reasons = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
            tally.remarks.append(f"{name}: {reasons}")
    return tally.result()


async def _due_since(scope: Scope) -> datetime | None:
    """Return since when due polls should be stored; None if no polls are due."""
    since = scope.kept_since("poll")
    if since is None:
        # No poll was ever stored, or all were dropped.
        since = await scope.pool.fetchval("SELECT min(since) FROM meter.server_due")
        if since is not None and (days := scope.settings.retention.poll):
            since = max(since, scope.now - timedelta(days=days))
    return since


def _unexplained(scope: Scope, tally: Tally, row: asyncpg.Record) -> None:
    """Add the spans of a row of _MISSING as findings."""
    tally.total += row["spans"]
    for detail in map(json.loads, row["details"]):
        span = f"{scope.local(detail['missing_since'])} to {scope.local(detail['missing_until'])}"
        what = f"polls of {scope.server(detail['server_id'])}, {span}"
        tally.add(what, f"{detail['polls']} polls", "no polls, for no known reason", count=0)


async def check_late(scope: Scope) -> Result:
    """Look for late data that should have been settled by now."""
    tally = Tally("late data")
    tally.examined = len(scope.late) + len(scope.unsettled)
    for since, until in scope.unsettled:
        tally.add(
            f"data of {scope.local(since)} to {scope.local(until)}, stored late",
            "settled within 10 minutes",
            "not settled",
            [Settle(since, until)],
        )
    tally.repairs = merged(tally.repairs)
    if scope.late:
        tally.remarks.append(f"{len(scope.late)} spans will be settled soon")
    return tally.result()
