"""What may not be in the database after a run: each problem with the query that finds it."""

STRAYS = {
    "samples that are stored twice": """
        SELECT session_id, ts, count(*), bool_or(filled) AS filled FROM meter.sample
        GROUP BY session_id, ts HAVING count(*) > 1
    """,
    "polls whose number of samples is wrong": """
        SELECT p.ts, p.server_id, p.ok, p.sessions, p.breakouts, count(a.ts) AS samples
        FROM meter.poll AS p
        LEFT JOIN meter.sample AS a ON p.server_id = a.server_id AND p.ts = a.ts AND NOT a.filled
        GROUP BY p.ts, p.server_id, p.ok, p.sessions, p.breakouts
        HAVING count(a.ts) <> coalesce(p.sessions + p.breakouts, 0)
    """,
    "samples without a poll, or filled samples where the session was shown": """
        SELECT a.ts, a.server_id, a.session_id, a.filled FROM meter.sample AS a
        WHERE CASE
            WHEN EXISTS (
                SELECT FROM meter.poll AS p
                WHERE p.ts = a.ts AND p.server_id = a.server_id AND p.ok
            ) THEN a.filled AND NOT a.breakout AND NOT EXISTS (
                SELECT FROM meter.unseen AS u
                WHERE u.ts = a.ts AND u.server_id = a.server_id AND u.session_id = a.session_id
            )
            ELSE NOT a.filled
        END
    """,
    "samples without a session": """
        SELECT a.ts, a.server_id, a.session_id FROM meter.sample AS a
        WHERE NOT EXISTS (SELECT FROM meter.session AS s WHERE s.session_id = a.session_id)
    """,
    "sessions that are stored twice": """
        SELECT session_id, count(*) FROM meter.session GROUP BY session_id HAVING count(*) > 1
    """,
    "sessions whose figures do not match their samples": """
        SELECT s.session_id, s.participant_seconds, s.ended_at, x.participant_seconds AS sampled
        FROM meter.session AS s
        CROSS JOIN LATERAL (
            SELECT sum(a.participants::integer * a.seconds) AS participant_seconds
            FROM meter.sample AS a WHERE a.session_id = s.session_id
        ) AS x
        WHERE s.participant_seconds IS DISTINCT FROM x.participant_seconds
    """,
    "spans of late data that were not settled": "SELECT * FROM meter.late",
}
