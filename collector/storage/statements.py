"""The SQL that stores polls, and what they saw and did not see."""

from collections.abc import Mapping

from collector.model import COUNTS, LATER_COUNTS, PollRow

# The arrays that the statement gets, each with its type, in the order of its parameters.
_POLL = {
    "ts": "timestamptz",
    "server_id": "integer",
    "ok": "boolean",
    "outcome": "text",
    "latency_ms": "integer",
    "seconds": "smallint",
    **dict.fromkeys(PollRow._fields[6:], "integer"),
}
_SESSION = {
    "ts": "timestamptz",
    "server_id": "integer",
    "session_id": "bigint",
    "internal_id": "text",
    "started_at": "timestamptz",
    "tenant_id": "integer",
    "room_id": "bigint",
    "parent_internal_id": "text",
    "breakout": "boolean",
    "recording": "boolean",
    "origin": "text",
}
_SAMPLE = {
    "poll": "integer",
    "before_s": "integer",
    "tenant_id": "integer",
    "session_id": "bigint",
    **dict.fromkeys(COUNTS, "smallint"),
    "breakout": "boolean",
    **dict.fromkeys(LATER_COUNTS, "smallint"),
}
# The columns of meter.sample that it fills; the rest of them follows from the sample's poll.
_STORED = ("ts", "server_id", "seconds", "filled", *[*_SAMPLE][2:])
# A poll further ahead of the database's clock is refused: its collector's clock is wrong.
AHEAD_S = 60
# The numbers of the last six parameters; since and until are those of the filled samples, the
# first and the last tick those of the polls. Seconds is their interval, NULL if they have several.
_LATE, _SINCE, _UNTIL, _FIRST, _LAST, _SECONDS = (
    len(_POLL) + len(_SESSION) + len(_SAMPLE) + n for n in range(1, 7)
)


def _arrays_from(first: int, types: Mapping[str, str]) -> str:
    """Return `$1::timestamptz[], …` for columns of these types, numbered from `first` on."""
    return ", ".join(f"${n}::{kind}[]" for n, kind in enumerate(types.values(), first))


# A poll is the commit record of its samples: they are stored if and only if its row is new. So a
# replay, a second collector or a retry after an unknown outcome stores nothing twice.
# A filled sample is skipped if another collector stored a sample of its session and tick. It is not
# skipped for a poll that did not show the session: it may have run all the same. Two
# concurrent writers do not see each other's rows: meter.settle checks again.
# No second counts twice when the poll interval changes: a successful poll is not stored if its time
# overlaps that of a stored successful poll of another interval. Polls of one interval cannot
# overlap. Of two such polls in one batch, the later one is left out.
# A sample refers to its poll by number. Its tick is given as the seconds before the poll's tick.
# This is because encoding takes most of the time here, and timestamps take longest.
STORE_POLLS = f"""
WITH given AS (
    SELECT * FROM unnest({_arrays_from(1, _POLL)})
    WITH ORDINALITY AS g ({", ".join(_POLL)}, number)
), other AS MATERIALIZED (
    SELECT p.server_id, p.ts, p.seconds, p.ts + make_interval(secs => p.seconds) AS until,
        TRUE AS stored
    FROM meter.poll AS p
    WHERE p.ts > ${_FIRST}::timestamptz - interval '1 minute'
        AND p.ts < ${_LAST}::timestamptz + interval '1 minute'
        AND p.ok AND p.seconds IS DISTINCT FROM ${_SECONDS}::smallint
        AND p.server_id = ANY($2)
    UNION ALL
    SELECT g.server_id, g.ts, g.seconds, g.ts + make_interval(secs => g.seconds), FALSE
    FROM given AS g
    WHERE ${_SECONDS}::smallint IS NULL AND g.ok
), new_poll AS (
    INSERT INTO meter.poll ({", ".join(_POLL)})
    SELECT {", ".join(_POLL)} FROM given AS g
    WHERE g.ts <= now() + interval '{AHEAD_S} seconds' AND (NOT g.ok OR NOT EXISTS (
        SELECT FROM other AS o
        WHERE o.server_id = g.server_id AND o.seconds <> g.seconds
            AND o.ts < g.ts + make_interval(secs => g.seconds) AND o.until > g.ts
            AND (o.stored OR o.ts < g.ts)
    ))
    ON CONFLICT (server_id, ts) DO NOTHING
    RETURNING ts, server_id, seconds
), new_session AS (
    INSERT INTO meter.session (
        session_id, server_id, internal_id, started_at, tenant_id, room_id, parent_internal_id,
        breakout, recording, origin, first_seen_at
    )
    SELECT
        s.session_id, s.server_id, s.internal_id,
        -- The first start is kept: a start corrected by the server's clock differs each time, and
        -- a session that was empty at first began later than it was created.
        coalesce((
            SELECT o.started_at FROM meter.open_session AS o WHERE o.session_id = s.session_id
        ), (
            SELECT x.started_at FROM meter.session AS x
            WHERE x.session_id = s.session_id
                AND x.started_at > s.started_at - interval '2 days'
                AND x.started_at < greatest(s.started_at, s.ts) + interval '2 days'
            ORDER BY x.started_at
            LIMIT 1
        ), (
            -- A collector that was restarted does not know it.
            SELECT greatest(s.started_at, s.ts) FROM meter.empty_session AS e
            WHERE e.session_id = s.session_id AND e.is_known
        ), s.started_at),
        s.tenant_id, s.room_id, s.parent_internal_id, s.breakout, s.recording, s.origin, s.ts
    FROM unnest({_arrays_from(1 + len(_POLL), _SESSION)}) AS s ({", ".join(_SESSION)})
    INNER JOIN new_poll AS p ON p.ts = s.ts AND p.server_id = s.server_id
    ON CONFLICT (session_id, started_at) DO UPDATE SET
        ended_at = NULL, first_seen_at = least(session.first_seen_at, excluded.first_seen_at),
        origin = coalesce(session.origin, excluded.origin)
    RETURNING session_id, started_at
), opened AS (
    INSERT INTO meter.open_session (session_id, started_at)
    SELECT n.session_id, n.started_at FROM new_session AS n
    ON CONFLICT (session_id) DO NOTHING
), joined AS (
    DELETE FROM meter.empty_session AS e USING new_session AS n
    WHERE e.session_id = n.session_id
), new_sample AS (
    INSERT INTO meter.sample ({", ".join(_STORED)})
    SELECT {", ".join(f"a.{column}" for column in _STORED)}
    FROM (
        SELECT
            x.*, p.server_id, p.seconds, p.ts - make_interval(secs => x.before_s) AS ts,
            x.before_s > 0 AS filled
        FROM unnest({_arrays_from(1 + len(_POLL) + len(_SESSION), _SAMPLE)})
        AS x ({", ".join(_SAMPLE)})
        INNER JOIN given AS g ON x.poll = g.number
        INNER JOIN new_poll AS p ON g.ts = p.ts AND g.server_id = p.server_id
    ) AS a
    WHERE NOT a.filled OR NOT EXISTS (
        SELECT FROM meter.sample AS o
        WHERE o.session_id = a.session_id AND o.ts = a.ts
    )
    RETURNING 1
), noted AS (
    INSERT INTO meter.late (since, until)
    SELECT min(t.since), max(t.until)
    FROM (
        SELECT p.ts AS since, p.ts + make_interval(secs => p.seconds) AS until
        FROM new_poll AS p
        WHERE ${_LATE} OR p.ts < now() - interval '1 minute'
        UNION ALL
        SELECT x.since, x.until
        FROM (VALUES (${_SINCE}::timestamptz, ${_UNTIL}::timestamptz)) AS x (since, until)
        WHERE x.since IS NOT NULL
        UNION ALL
        -- Where the interval changes, two writers at once can store polls that overlap.
        SELECT o.ts, o.until FROM other AS o WHERE o.stored
    ) AS t
    HAVING count(*) > 0
)
SELECT
    (SELECT array_agg(ts) FROM new_poll) AS poll_ts,
    (SELECT array_agg(server_id) FROM new_poll) AS poll_server_id,
    (SELECT count(*) FROM new_sample) AS samples,
    (SELECT max(ts) - now() FROM given) AS ahead
"""  # noqa: S608 - from the names here and in model.py

# What few batches have. Like samples, these rows are stored only with their poll.
STORE_EMPTIES = """
INSERT INTO meter.empty_session (
    session_id, server_id, tenant_id, room_id, started_at, is_known
)
SELECT * FROM unnest(
    $1::bigint[], $2::integer[], $3::integer[], $4::bigint[], $5::timestamptz[], $6::boolean[]
) AS e (session_id, server_id, tenant_id, room_id, started_at, is_known)
-- Somebody may have joined in the same batch, or in a later one that was stored before this one.
WHERE NOT e.is_known OR NOT EXISTS (
    SELECT FROM meter.session AS s
    WHERE s.session_id = e.session_id AND s.started_at > e.started_at - interval '1 day'
)
ON CONFLICT (session_id) DO NOTHING
"""
STORE_UNSEEN = """
INSERT INTO meter.unseen (ts, server_id, tenant_id, session_id, sessions, seconds)
SELECT * FROM unnest(
    $1::timestamptz[], $2::integer[], $3::integer[], $4::bigint[], $5::integer[], $6::smallint[]
)
"""
