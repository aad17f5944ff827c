"""Checks that sessions' figures match their samples, and that each session has one row."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import asyncpg

from collector.verify.result import Reopen, Result, Tally
from collector.verify.scope import IN_ADVANCE, UNSETTLED, Scope

# A session's row is searched this long before its samples; few began earlier.
LONGEST = timedelta(days=30)
# The samples of longer sessions are read session by session, which bounds the memory.
_LONG = timedelta(days=1)

_FIGURES = (
    "last_seen_at",
    "ended_at",
    "duration_seconds",
    "session_seconds",
    "participant_seconds",
    "voice_seconds",
    "video_seconds",
    "dialin_seconds",
    "filled_seconds",
    "max_participants",
    "mean_participants",
)
_ENDED = """
SELECT s.session_id, s.first_seen_at, coalesce(s.last_seen_at, s.ended_at) AS last_seen_at
FROM meter.session AS s
WHERE
    s.started_at >= $1 AND s.started_at < $2 AND s.ended_at IS NOT NULL AND s.first_seen_at >= $3
ORDER BY s.first_seen_at
"""
# The figures as meter.update_sessions computes them; the samples are in [$4, $5).
_DIFFERING = f"""
WITH ended AS (
    SELECT s.*
    FROM meter.session AS s
    WHERE
        s.started_at >= $1 AND s.started_at < $2 AND s.ended_at IS NOT NULL
        AND s.session_id = ANY($3::bigint[])
), added AS (
    SELECT
        o.session_id,
        o.started_at,
        max(a.ts) AS last_seen_at,
        max(a.ts + make_interval(secs => a.seconds / 2.0)) AS ended_at,
        sum(a.seconds) AS session_seconds,
        sum(a.participants::integer * a.seconds) AS participant_seconds,
        sum(a.voice::integer * a.seconds) AS voice_seconds,
        sum(a.video::integer * a.seconds) AS video_seconds,
        sum(a.dialins::integer * a.seconds) AS dialin_seconds,
        coalesce(sum(a.seconds) FILTER (WHERE a.filled), 0) AS filled_seconds,
        max(a.participants) AS max_participants
    FROM ended AS o
    INNER JOIN meter.sample AS a ON o.session_id = a.session_id AND a.ts >= o.first_seen_at
    WHERE a.ts >= $4 AND a.ts < $5
    GROUP BY o.session_id, o.started_at
), pair AS (
    SELECT
        s.tenant_id, s.server_id, s.session_id, s.started_at, s.first_seen_at,
        a.session_id IS NOT NULL AS has_samples,
        {", ".join(f"s.{figure} AS found_{figure}" for figure in _FIGURES)},
        (
            greatest(extract(EPOCH FROM s.first_seen_at - s.started_at), 0)
            + a.session_seconds - extract(EPOCH FROM a.ended_at - a.last_seen_at)
        )::double precision AS duration_seconds,
        a.participant_seconds::double precision / a.session_seconds AS mean_participants,
        a.last_seen_at, a.ended_at, a.session_seconds, a.participant_seconds, a.voice_seconds,
        a.video_seconds, a.dialin_seconds, a.filled_seconds, a.max_participants
    FROM ended AS s
    LEFT JOIN added AS a ON s.session_id = a.session_id AND s.started_at = a.started_at
)
SELECT * FROM pair
WHERE {" OR ".join(f"{figure} IS DISTINCT FROM found_{figure}" for figure in _FIGURES)}
ORDER BY started_at
"""  # noqa: S608 - from the names above
_UNKNOWN = """
SELECT a.session_id, a.server_id, a.tenant_id, min(a.ts) AS ts, count(*) AS samples
FROM meter.sample AS a
WHERE
    a.ts >= $1 AND a.ts < $2
    AND NOT EXISTS (
        SELECT FROM meter.session AS s
        WHERE s.session_id = a.session_id AND s.started_at >= $3 AND s.started_at < $4
    )
GROUP BY a.session_id, a.server_id, a.tenant_id
ORDER BY ts
"""
_TWINS = """
SELECT
    s.session_id, min(s.server_id) AS server_id, min(s.tenant_id) AS tenant_id,
    min(s.started_at) AS started_at, count(*) AS n
FROM meter.session AS s
WHERE s.started_at >= $1 AND s.started_at < $2
GROUP BY s.session_id
HAVING count(*) > 1
ORDER BY started_at
"""
_OPEN = """
SELECT
    o.session_id, o.server_id, o.tenant_id, o.started_at, x.has_samples,
    coalesce(x.seen_at, o.last_seen_at, o.first_seen_at) AS seen_at,
    (
        SELECT coalesce(sum(p.seconds), 0) >= greatest($1, 1)
        FROM meter.poll AS p
        LEFT JOIN meter.unseen AS u
            ON p.server_id = u.server_id AND p.ts = u.ts
                AND coalesce(u.session_id, o.session_id) = o.session_id
        WHERE
            p.server_id = o.server_id AND p.ok AND p.ts < $2 AND u.ts IS NULL
            AND p.ts > coalesce(x.seen_at, o.last_seen_at, o.first_seen_at)
    )
    OR NOT EXISTS (
        SELECT FROM meter.server_due AS d
        WHERE d.server_id = o.server_id AND coalesce(d.until, 'infinity') > $2
    ) AS is_gone
FROM meter.open_session AS l
INNER JOIN meter.session AS o ON l.session_id = o.session_id AND l.started_at = o.started_at
CROSS JOIN LATERAL (
    SELECT max(a.ts) AS seen_at, max(a.ts) IS NOT NULL AS has_samples
    FROM meter.sample AS a
    WHERE a.session_id = o.session_id AND a.ts >= o.first_seen_at
) AS x
WHERE l.started_at < $3
ORDER BY o.started_at
"""
# Sessions without an end that nobody would compute.
_LOST = """
SELECT s.session_id, s.server_id, s.tenant_id, s.started_at
FROM meter.session AS s
WHERE
    s.ended_at IS NULL AND s.started_at >= $1 AND s.started_at < $2
    AND NOT EXISTS (SELECT FROM meter.open_session AS o WHERE o.session_id = s.session_id)
ORDER BY s.started_at
"""


async def check_sessions(scope: Scope) -> Result:
    """Compare sessions with their samples."""
    tally = Tally("sessions")
    begin = scope.kept_since("session") or scope.now
    begin, end = scope.period(begin, scope.now + IN_ADVANCE)
    samples_since = scope.kept_since("sample")
    if samples_since is not None:
        await _figures(scope, tally, begin, end, samples_since)
        await _unknown(scope, tally, samples_since, end)
    for row in await scope.pool.fetch(_TWINS, begin, end):
        tally.add(_who(scope, row), "one row in meter.session", f"{row['n']} rows")
    await _open(scope, tally, begin, end)
    return tally.result()


async def _figures(
    scope: Scope,
    tally: Tally,
    begin: datetime,
    end: datetime,
    samples_since: datetime,
) -> None:
    for since, until in scope.slices(max(begin, samples_since - LONGEST), end):
        ended = await scope.pool.fetch(_ENDED, since, until, samples_since)
        tally.examined += len(ended)
        for group in _groups(ended):
            rows = await scope.pool.fetch(
                _DIFFERING,
                since,
                until,
                [row["session_id"] for row in group],
                min(row["first_seen_at"] for row in group),
                max(row["last_seen_at"] for row in group) + _LONG,
            )
            for row in rows:
                _differing(scope, tally, row)


def _groups(ended: Sequence[asyncpg.Record]) -> Iterator[Sequence[asyncpg.Record]]:
    """Yield groups of sessions whose samples are read at once: all short ones, each long one."""
    short = [row for row in ended if row["last_seen_at"] - row["first_seen_at"] <= _LONG]
    if short:
        yield short
    for row in ended:
        if row["last_seen_at"] - row["first_seen_at"] > _LONG:
            yield [row]


def _differing(scope: Scope, tally: Tally, row: asyncpg.Record) -> None:
    if scope.is_late(row["first_seen_at"], row["found_ended_at"]):
        tally.passed_over["late data will be settled soon"] += 1
        return
    if not row["has_samples"]:
        tally.add(_who(scope, row), "samples", "no samples")
        return
    wrong = [figure for figure in _FIGURES if row[figure] != row[f"found_{figure}"]]

    def listed(prefix: str) -> str:
        return ", ".join(f"{figure} {_text(scope, row[prefix + figure])}" for figure in wrong)

    repair = [Reopen(row["session_id"], row["started_at"])]
    tally.add(_who(scope, row), listed(""), listed("found_"), repair)


async def _unknown(scope: Scope, tally: Tally, begin: datetime, end: datetime) -> None:
    """Look for samples without a session, only where no sessions were dropped yet."""
    if kept := scope.settings.retention.session:
        begin = max(begin, scope.now - timedelta(days=kept) + LONGEST)
    begin, end = scope.period(begin, end)
    for since, until in scope.slices(begin, end):
        rows = await scope.pool.fetch(_UNKNOWN, since, until, since - LONGEST, until + IN_ADVANCE)
        if not rows:
            continue
        # Few remain: sessions that began long ago, and sessions without a row.
        known = {
            row["session_id"]
            for row in await scope.pool.fetch(
                "SELECT session_id FROM meter.session WHERE session_id = ANY($1::bigint[])",
                [row["session_id"] for row in rows],
            )
        }
        for row in rows:
            if row["session_id"] not in known:
                what = f"session {row['session_id']} of {_place(scope, row)}, seen "
                what += scope.local(row["ts"])
                tally.add(what, "a row in meter.session", f"no row, only {row['samples']} samples")


async def _open(scope: Scope, tally: Tally, begin: datetime, end: datetime) -> None:
    """Look for open sessions that should have been closed by now, and for forgotten ones."""
    rows = await scope.pool.fetch(_OPEN, scope.settings.close_after_s, scope.now - UNSETTLED, end)
    tally.examined += len(rows)
    if rows:
        tally.remarks.append(f"{len(rows)} are open")
    for row in rows:
        if not row["is_gone"] or scope.is_late(row["seen_at"], scope.now):
            continue
        tally.add(
            _who(scope, row),
            f"ended, last seen {scope.local(row['seen_at'])}",
            "open",
            [Reopen(row["session_id"], row["started_at"])] if row["has_samples"] else (),
        )
    for row in await scope.pool.fetch(_LOST, begin, end):
        repair = [Reopen(row["session_id"], row["started_at"])]
        tally.add(_who(scope, row), "a row in meter.open_session", "none", repair)


def _who(scope: Scope, row: asyncpg.Record) -> str:
    began = scope.local(row["started_at"])
    return f"session {row['session_id']} of {_place(scope, row)}, began {began}"


def _place(scope: Scope, row: asyncpg.Record) -> str:
    return f"{scope.tenant(row['tenant_id'])} on {scope.server(row['server_id'])}"


def _text(scope: Scope, value: object) -> str:
    return scope.local(value) if isinstance(value, datetime) else str(value)
