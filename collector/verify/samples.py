"""Checks that every sample has its poll, every poll its samples, and each is stored once."""

from datetime import datetime, timedelta
from typing import Any

from collector.verify.result import Result, Settle, Tally, examine
from collector.verify.scope import IN_ADVANCE, Scope

_TOTALS = ("sessions", "participants", "voice", "video", "listeners", "dialins", "breakouts")

# Each poll with the sums of its samples; and samples without a poll.
_POLLS = f"""
    WITH a AS (
        SELECT
            server_id, ts, count(*) AS samples,
            count(*) FILTER (WHERE NOT breakout) AS sessions,
            count(*) FILTER (WHERE breakout) AS breakouts,
            {
    ", ".join(f"coalesce(sum({c}) FILTER (WHERE NOT breakout), 0) AS {c}" for c in _TOTALS[1:-1])
}
        FROM meter.sample
        WHERE ts >= $1 AND ts < $2 AND NOT filled
        GROUP BY server_id, ts
    ), p AS (
        SELECT * FROM meter.poll WHERE ts >= $1 AND ts < $2
    ), pair AS (
        SELECT
            ts, server_id, coalesce(p.ok, FALSE) AS ok,
            p.server_id IS NOT NULL AS is_polled, coalesce(a.samples, 0) AS samples,
            {", ".join(f"coalesce(a.{c}, 0) AS {c}, p.{c} AS poll_{c}" for c in _TOTALS)}
        FROM a FULL JOIN p USING (server_id, ts)
    )
    SELECT
        ts AS at,
        CASE
            WHEN NOT ok THEN CASE WHEN samples > 0 THEN 'differs' END
            WHEN {" OR ".join(f"{c} IS DISTINCT FROM poll_{c}" for c in _TOTALS)} THEN 'differs'
        END AS kind,
        to_jsonb(pair) AS detail
    FROM pair
"""  # noqa: S608 - from the names above
# Finds sessions with more than one real sample at a tick.
_DOUBLE = """
    SELECT
        ts AS at,
        CASE WHEN count(*) > 1 THEN 'differs' END AS kind,
        CASE WHEN count(*) > 1 THEN
            jsonb_build_object(
                'session_id', session_id, 'ts', ts, 'samples', count(*),
                'server_id', min(server_id), 'tenant_id', min(tenant_id)
            )
        END AS detail
    FROM meter.sample
    WHERE ts >= $1 AND ts < $2 AND NOT filled
    GROUP BY session_id, ts
"""
# Finds filled samples that are there twice, or beside a real one, and those at a successful poll of
# which it is not noted that it did not show the session. $3 and $4 are the bounds of late data.
_FILLED = """
    WITH f AS (
        SELECT
            session_id, ts, min(server_id) AS server_id, min(tenant_id) AS tenant_id,
            count(*) AS samples, bool_and(breakout) AS breakout
        FROM meter.sample
        WHERE ts >= $1 AND ts < $2 AND filled
        GROUP BY session_id, ts
    ), judged AS (
        SELECT f.*, EXISTS (
            SELECT FROM meter.sample AS a
            WHERE a.session_id = f.session_id AND a.ts = f.ts AND NOT a.filled
                AND a.ts >= $1 AND a.ts < $2
        ) AS is_seen, NOT f.breakout AND EXISTS (
            SELECT FROM meter.poll AS p
            WHERE p.server_id = f.server_id AND p.ts = f.ts AND p.ok AND NOT EXISTS (
                SELECT FROM meter.unseen AS u
                WHERE u.ts = p.ts AND u.server_id = p.server_id
                    AND (u.session_id = f.session_id OR u.session_id IS NULL)
            )
        ) AS is_unnoted
        FROM f
    )
    SELECT
        ts AS at,
        CASE
            WHEN samples = 1 AND NOT is_seen AND NOT is_unnoted THEN NULL
            WHEN EXISTS (
                SELECT FROM unnest($3::timestamptz[], $4::timestamptz[]) AS l (lo, hi)
                WHERE l.lo <= ts AND l.hi > ts
            ) THEN 'explained'
            ELSE 'differs'
        END AS kind,
        to_jsonb(judged) AS detail
    FROM judged
"""


async def check_samples(scope: Scope) -> Result:
    """Compare samples with their polls."""
    tally = Tally("samples")
    kept = [scope.kept_since("sample"), scope.kept_since("poll")]
    kept_since = [at for at in kept if at is not None]
    if not kept_since:
        return tally.result()
    # If all polls of some samples are missing, there is no chunk of polls for them; and vice versa.
    # So without retention, the earlier of the two begins counts.
    drops = scope.settings.retention.sample or scope.settings.retention.poll
    begin = max(kept_since) if drops else min(kept_since)
    begin, end = scope.period(begin, scope.now + IN_ADVANCE)
    late = [since for since, _ in scope.late], [until for _, until in scope.late]

    def poll_words(detail: dict[str, Any]) -> tuple[str, str, str]:
        return _poll_words(scope, detail)

    def twin_words(detail: dict[str, Any]) -> tuple[str, str, str]:
        return _twin_words(scope, detail)

    for piece in scope.slices(begin, end):
        tally.take(await examine(scope.pool, _POLLS, *piece), poll_words)
        tally.take(await examine(scope.pool, _DOUBLE, *piece), twin_words)
        tally.take(await examine(scope.pool, _FILLED, *piece, *late), twin_words, _settle)
    return tally.result()


def _settle(at: datetime) -> Settle:
    return Settle(at, at + timedelta(minutes=1))


def _poll_words(scope: Scope, detail: dict[str, Any]) -> tuple[str, str, str]:
    what = f"poll of {scope.server(detail['server_id'])}, {scope.local(detail['ts'])}"
    if not detail["ok"]:
        poll = "a failed poll" if detail["is_polled"] else "no poll"
        return what, "a successful poll", f"{poll}, {detail['samples']} samples"
    wrong = [total for total in _TOTALS if detail[total] != detail[f"poll_{total}"]]
    return (
        what,
        "samples of " + ", ".join(f"{detail[f'poll_{total}']} {total}" for total in wrong),
        ", ".join(f"{detail[total]} {total}" for total in wrong),
    )


def _twin_words(scope: Scope, detail: dict[str, Any]) -> tuple[str, str, str]:
    who = f"session {detail['session_id']} of {scope.tenant(detail['tenant_id'])}"
    what = f"{who} on {scope.server(detail['server_id'])}, {scope.local(detail['ts'])}"
    if detail.get("is_seen"):
        return what, "no filled sample, as a poll saw the session", "a filled sample"
    if detail.get("is_unnoted") and detail["samples"] == 1:
        return what, "a note that its poll did not show the session", "none"
    filled = "filled samples" if "is_seen" in detail else "samples"
    return what, "one sample", f"{detail['samples']} {filled}"
