"""Checks that no meeting counts twice because two servers of the settings show it."""

from datetime import datetime, timedelta
from typing import Any

from collector.verify.result import CountOnce, Result, Tally, examine
from collector.verify.scope import IN_ADVANCE, Scope

# The sessions of one meeting begin at the same time, but for a correction of the server's clock.
_APART = timedelta(days=1)
# Two servers are polled at different moments of a tick, so their numbers can differ by this share
# and these participant seconds.
_MORE, _MORE_SECONDS = 1.1, 3600

# Each session, with those of other servers that have its internal id at the same time.
_NOT_NOTED = """
    WITH shown AS (
        SELECT x.*, coalesce(x.last_seen_at, x.first_seen_at) AS seen_at
        FROM meter.session AS x
        WHERE x.parent_internal_id IS NULL AND NOT x.breakout
            AND x.started_at >= $3 AND x.started_at < $4
    )
    SELECT
        s.started_at AS at,
        CASE WHEN o.session_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM meter.duplicate_session AS d
            WHERE (d.session_id, d.same_as) IN (
                (s.session_id, o.session_id), (o.session_id, s.session_id)
            )
        ) THEN 'differs' END AS kind,
        jsonb_build_object(
            'servers', ARRAY[s.server_id, o.server_id], 'tenants', ARRAY[s.tenant_id, o.tenant_id],
            'since', greatest(s.first_seen_at, o.first_seen_at)
        ) AS detail
    FROM shown AS s
    LEFT JOIN shown AS o
        ON s.internal_id = o.internal_id AND s.server_id <> o.server_id
            AND s.first_seen_at < o.seen_at AND s.seen_at > o.first_seen_at
    WHERE s.started_at >= $1 AND s.started_at < $2
"""
# Each session that is noted.
_NOTED = """
    SELECT
        d.since AS at,
        CASE
            WHEN d.counts OR x.own_seconds > $3 * x.other_seconds + $4 THEN 'differs'
        END AS kind,
        jsonb_build_object(
            'servers', ARRAY[d.server_id, d.other_server_id],
            'tenants', ARRAY[d.tenant_id, d.other_tenant_id], 'since', d.since, 'counts', d.counts,
            'own_seconds', x.own_seconds, 'other_seconds', x.other_seconds
        ) AS detail
    FROM meter.duplicate_session AS d
    INNER JOIN meter.session AS s ON d.session_id = s.session_id AND d.started_at = s.started_at
    CROSS JOIN LATERAL (
        -- It goes on with another number when it counts through the other one.
        SELECT
            coalesce(sum(a.participants::integer * a.seconds)
                FILTER (WHERE y.server_id = d.server_id AND a.breakout), 0) AS own_seconds,
            coalesce(sum(a.participants::integer * a.seconds)
                FILTER (WHERE y.session_id = d.same_as), 0) AS other_seconds
        FROM meter.session AS y
        INNER JOIN meter.sample AS a ON y.session_id = a.session_id
        WHERE y.internal_id = s.internal_id
            AND y.server_id IN (d.server_id, d.other_server_id)
            AND y.started_at >= d.started_at - interval '1 day'
            AND y.started_at < d.since + interval '1 day'
            AND a.ts >= d.since AND a.ts < least(d.until, d.since + interval '1 day')
    ) AS x
    WHERE d.since >= $1 AND d.since < $2
"""


async def check_duplicates(scope: Scope) -> Result:
    """Look for meetings that two servers showed, and that count twice or too little."""
    tally = Tally("duplicates")
    begin, end = scope.kept_since("session"), scope.now + IN_ADVANCE
    if begin is None:
        return tally.result()

    def not_noted(detail: dict[str, Any]) -> tuple[str, str, str]:
        return _meeting(scope, detail), "counted once", "counted twice, and not noted"

    def noted(detail: dict[str, Any]) -> tuple[str, str, str]:
        if detail["counts"]:
            expected = "the same tenant, so that it counts once"
            return _meeting(scope, detail), expected, "two tenants, so it counts twice"
        return (
            _meeting(scope, detail),
            f"at most {detail['other_seconds'] / 60:.1f} participant minutes, which are counted",
            f"{detail['own_seconds'] / 60:.1f} on the server where it does not count",
        )

    for since, until in scope.slices(*scope.period(begin, end)):
        around = since - _APART, until + _APART
        found = await examine(scope.pool, _NOT_NOTED, since, until, *around)
        tally.take(found, not_noted, _count_once)
        found = await examine(scope.pool, _NOTED, since, until, _MORE, _MORE_SECONDS)
        tally.take(found, noted)
    return tally.result()


def _count_once(at: datetime) -> CountOnce:
    return CountOnce(at, at + timedelta(seconds=1))


def _meeting(scope: Scope, detail: dict[str, Any]) -> str:
    one, other = (
        f"{scope.server(server)} ({scope.tenant(tenant)})"
        for server, tenant in zip(detail["servers"], detail["tenants"], strict=True)
    )
    return f"a meeting on {one} and on {other}, since {scope.local(detail['since'])}"
