"""Checks that no second counts twice, and that nobody is lost in breakouts."""

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from collector.verify.result import Result, Settle, Tally, examine
from collector.verify.scope import IN_ADVANCE, Scope

# Rows of one server or session that overlap. Only those can whose intervals differ, or whose tick
# is no multiple of the interval; equal ticks are for check_samples. $3 and $4 are the bounds of
# late data. Intervals divide a minute, so none reaches into the next slice.
_OVERLAPS = """
    WITH doubtful AS (
        SELECT {key}
        FROM meter.{table}
        WHERE ts >= $1 AND ts < $2 AND {condition}
        GROUP BY {key}
        HAVING min(seconds) < max(seconds)
            OR bool_or(extract(EPOCH FROM ts)::bigint % seconds <> 0)
    ), ordered AS (
        SELECT
            t.*,
            max(t.ts + make_interval(secs => t.seconds)) OVER (
                PARTITION BY t.{key} ORDER BY t.ts
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE GROUP
            ) AS covered_until
        FROM meter.{table} AS t
        INNER JOIN doubtful AS d ON t.{key} = d.{key}
        WHERE t.ts >= $1 AND t.ts < $2 AND {condition}
    )
    SELECT
        o.ts AS at,
        CASE
            WHEN o.covered_until <= o.ts OR o.covered_until IS NULL THEN NULL
            WHEN EXISTS (
                SELECT FROM unnest($3::timestamptz[], $4::timestamptz[]) AS l (lo, hi)
                WHERE l.lo <= o.ts AND l.hi > o.ts
            ) THEN 'explained'
            ELSE 'differs'
        END AS kind,
        to_jsonb(o) AS detail
    FROM ordered AS o
"""
_POLLS = _OVERLAPS.format(table="poll", key="server_id", condition="ok")
_SAMPLES = _OVERLAPS.format(table="sample", key="session_id", condition="TRUE")
# Sessions of one meeting and one kind that were seen at the same time. An answer can have a meeting
# only once. A session that counts through another server's can begin and end several times.
_SESSIONS = """
    SELECT
        s.started_at AS at,
        CASE WHEN o.session_id IS NOT NULL THEN 'differs' END AS kind,
        jsonb_build_object(
            'session_id', s.session_id, 'other_id', o.session_id, 'server_id', s.server_id,
            'tenant_id', s.tenant_id, 'ts', s.started_at
        ) AS detail
    FROM meter.session AS s
    LEFT JOIN meter.session AS o
        ON s.server_id = o.server_id AND s.internal_id = o.internal_id
            AND s.breakout = o.breakout AND s.session_id < o.session_id
            AND o.started_at >= $1::timestamptz - interval '2 days'
            AND o.started_at < $2::timestamptz + interval '2 days'
            AND s.first_seen_at < o.last_seen_at AND s.last_seen_at > o.first_seen_at
            AND NOT EXISTS (
                SELECT FROM meter.duplicate_session AS d
                WHERE d.session_id IN (s.session_id, o.session_id)
            )
    WHERE s.started_at >= $1 AND s.started_at < $2
"""
# The people of the breakouts of each parent and tick, and those of the parent. All is added up at
# once: joining two sums, PostgreSQL can guess the number of rows wrong, and take minutes.
# A parent without any sample has lost its people, unless it is noted that the poll did not show it.
_BREAKOUTS = """
    WITH near AS MATERIALIZED (
        SELECT
            s.session_id, s.server_id, s.tenant_id, s.internal_id,
            nullif(s.parent_internal_id, '') AS parent_id
        FROM meter.session AS s
        WHERE s.started_at >= $1::timestamptz - interval '30 days'
            AND s.started_at < $2::timestamptz + interval '2 days'
    ), family AS MATERIALIZED (
        SELECT
            n.session_id, n.server_id, n.tenant_id, n.parent_id IS NOT NULL AS is_breakout,
            coalesce(n.parent_id, n.internal_id) AS meeting
        FROM near AS n
        WHERE n.parent_id IS NOT NULL OR n.internal_id IN (
            SELECT o.parent_id FROM near AS o WHERE o.parent_id IS NOT NULL
        )
    ), tick AS (
        SELECT
            a.ts, f.server_id, f.tenant_id, f.meeting,
            sum(a.participants) FILTER (
                WHERE f.is_breakout AND a.breakout AND NOT a.filled
            ) AS inside,
            sum(a.participants) FILTER (WHERE NOT f.is_breakout AND NOT a.filled) AS parent,
            count(*) FILTER (WHERE NOT f.is_breakout) AS parent_samples
        FROM family AS f
        INNER JOIN meter.sample AS a ON f.session_id = a.session_id
        WHERE a.ts >= $1 AND a.ts < $2
        GROUP BY a.ts, f.server_id, f.tenant_id, f.meeting
    )
    SELECT
        t.ts AS at,
        CASE
            WHEN least(t.inside, 32767) > t.parent THEN 'differs'
            WHEN t.inside > 0 AND t.parent_samples = 0 AND (
                SELECT count(*) > 0 AND count(u.ts) = 0
                FROM family AS f
                LEFT JOIN meter.unseen AS u
                    ON u.ts = t.ts AND u.server_id = t.server_id
                        AND (u.session_id = f.session_id OR u.session_id IS NULL)
                WHERE NOT f.is_breakout AND f.server_id = t.server_id
                    AND f.tenant_id = t.tenant_id AND f.meeting = t.meeting
            ) THEN 'differs'
        END AS kind,
        to_jsonb(t) AS detail
    FROM tick AS t
    WHERE t.inside IS NOT NULL
"""


def _poll(scope: Scope, detail: dict[str, Any]) -> tuple[str, str, str]:
    return (
        f"poll of {_where(scope, detail)}",
        _not_before(scope, detail),
        "overlaps an earlier poll",
    )


def _sample(scope: Scope, detail: dict[str, Any]) -> tuple[str, str, str]:
    what = f"sample of session {detail['session_id']} on {_where(scope, detail)}"
    return what, _not_before(scope, detail), "overlaps an earlier sample"


def _session(scope: Scope, detail: dict[str, Any]) -> tuple[str, str, str]:
    what = f"session {detail['session_id']} of {scope.tenant(detail['tenant_id'])}"
    found = f"session {detail['other_id']} of the same meeting at the same time"
    return f"{what} on {_where(scope, detail)}", "one session of a meeting at a time", found


def _breakouts(scope: Scope, detail: dict[str, Any]) -> tuple[str, str, str]:
    what = f"breakouts of a meeting of {scope.tenant(detail['tenant_id'])}"
    expected = f"at most the {detail['parent']} people of the parent"
    if detail["parent"] is None:
        expected = "a sample of the parent, which has them too"
    return f"{what} on {_where(scope, detail)}", expected, f"{detail['inside']} people"


def _where(scope: Scope, detail: dict[str, Any]) -> str:
    return f"{scope.server(detail['server_id'])}, {scope.local(detail['ts'])}"


def _not_before(scope: Scope, detail: dict[str, Any]) -> str:
    return f"not before {scope.local(detail['covered_until'])}"


def _settle(at: datetime) -> Settle | None:
    # From the minute before: the row that it overlaps may have begun there.
    return Settle(at - timedelta(minutes=1), at + timedelta(minutes=1))


def _by_hand(_: datetime) -> None:
    return None


# What is examined: since when it is kept, the query, the words for a finding, and the repair.
_EXAMINED = (
    ("poll", _POLLS, _poll, _settle),
    ("sample", _SAMPLES, _sample, _settle),
    ("sample", _BREAKOUTS, _breakouts, _by_hand),
    ("session", _SESSIONS, _session, _by_hand),
)


async def check_overlaps(scope: Scope) -> Result:
    """Look for seconds that count twice, and for breakouts with more people than their parent."""
    tally = Tally("overlaps")
    late = [since for since, _ in scope.late], [until for _, until in scope.late]
    for relation, query, words, mend in _EXAMINED:
        begin = scope.kept_since(relation)
        if begin is None:
            continue
        bounds = late if "$3" in query else ()
        for piece in scope.slices(*scope.period(begin, scope.now + IN_ADVANCE)):
            found = await examine(scope.pool, query, *piece, *bounds)
            tally.take(found, partial(words, scope), mend)
    return tally.result()
