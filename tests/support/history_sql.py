"""The SQL of an invented history: one statement per table, in the order in which they run.

`tests.support.history` fills values into the names in braces. Values that look random are hashes of
a number and a purpose, so that every run writes the same rows.
"""

# Concurrent sessions per lane: a lane has at most one session per hour, of 53 minutes on average,
# and one in 35 of 100 hours.
LOAD = 0.314

# A number from 0 to below 1; the same number and purpose give the same result.
HASH = """
CREATE OR REPLACE FUNCTION pg_temp.share(n bigint, purpose bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN (hashint8extended(n, purpose) & 1073741823) / 1073741824.0
"""

FLEET = """
INSERT INTO meter.server (name, tls_expires_at)
SELECT
    'bbb' || to_char(n, 'FM00'),
    {end} + make_interval(days => CASE WHEN n = 1 THEN 9 ELSE 40 + n END)
FROM generate_series(1, {servers}) AS g (n);

INSERT INTO meter.server_due (server_id, since)
SELECT v.id, {begin} FROM meter.server AS v;

INSERT INTO meter.server_tenant (server_id, since)
SELECT v.id, '-infinity' FROM meter.server AS v;

INSERT INTO meter.room (tenant_id, external_id, name)
SELECT
    t.id,
    CASE n % 3
        WHEN 0 THEN t.name || '-seminar-' || n
        WHEN 1 THEN substr(md5(t.name || n), 1, 3) || '-' || substr(md5(t.name || n), 4, 3)
            || '-' || substr(md5(t.name || n), 7, 3)
        ELSE md5(t.name || n) || substr(md5(n || t.name), 1, 8)
    END,
    CASE
        WHEN n % 3 = 0 THEN
            (ARRAY['Seminar', 'Lecture', 'Office hours', 'Tutorial', 'Colloquium'])[1 + n % 5]
            || ' ' || n
    END
FROM meter.tenant AS t
CROSS JOIN generate_series(1, 40) AS g (n)
WHERE t.name <> 'unassigned' OR n <= 2
"""

# Every session, numbered `n`: its place, times and size follow from the number.
PLAN = """
CREATE TEMPORARY TABLE plan AS
WITH slot AS (
    SELECT
        lane,
        hour,
        lane * 1000000 + extract(EPOCH FROM hour)::bigint / 3600 AS n,
        -- The same hour of the week in the same lane is the same course.
        lane * 1000 + extract(ISODOW FROM hour)::bigint * 24 + extract(HOUR FROM hour)::bigint
            AS course,
        extract(HOUR FROM hour AT TIME ZONE {timezone}) AS local_hour,
        extract(ISODOW FROM hour AT TIME ZONE {timezone}) AS weekday
    FROM generate_series(1::bigint, {lanes}) AS l (lane)
    CROSS JOIN generate_series({begin}, {end}, interval '1 hour') AS h (hour)
),

held AS (
    SELECT
        s.*,
        floor(
            power(pg_temp.share(s.course, 2), 1.7) * ({tenants} - 1)
        )::integer AS tenant_number
    FROM slot AS s
    WHERE
        pg_temp.share(s.n, 1) < CASE
            WHEN s.weekday > 5 THEN 0.08
            WHEN s.local_hour BETWEEN 8 AND 17 THEN 0.95
            WHEN s.local_hour BETWEEN 18 AND 21 THEN 0.3
            ELSE 0.04
        END
),

placed AS (
    SELECT
        h.n,
        h.course,
        h.hour + make_interval(secs => floor(pg_temp.share(h.lane, 3) * 3600)) AS begin_at,
        20 + 100 * power(pg_temp.share(h.course, 4), 2) AS minutes,
        floor(
            (2 + 3 * exp(3.2 * power(pg_temp.share(h.course, 5), 1.5)))
            * CASE WHEN pg_temp.share(h.n, 6) < 0.01 THEN 4 ELSE 0.7 + 0.6 * pg_temp.share(h.n, 7)
            END
        )::integer AS size,
        CASE WHEN pg_temp.share(h.n, 8) < 0.002 THEN 'unassigned' ELSE t.name END AS tenant,
        1 + floor(pg_temp.share(h.n, 9) * {servers})::integer AS server_number,
        pg_temp.share(h.course, 10) AS habit
    FROM held AS h
    INNER JOIN (
        SELECT name, row_number() OVER (ORDER BY id) - 1 AS number
        FROM meter.tenant
        WHERE name <> 'unassigned'
    ) AS t ON h.tenant_number = t.number
)

SELECT
    p.n,
    NULL::bigint AS parent,
    hashint8extended(p.n, 11) & 4611686018427387903 AS session_id,
    p.begin_at,
    p.begin_at + make_interval(mins => p.minutes::integer, secs => (p.n % 60)) AS end_at,
    greatest(1, p.size) AS size,
    t.id AS tenant_id,
    r.id AS room_id,
    v.id AS server_id,
    p.habit,
    FALSE AS breakout,
    (ARRAY['moodle', 'greenlight', 'moodle', 'openolat', NULL])[1 + floor(p.habit * 5)::integer]
        AS origin
FROM placed AS p
INNER JOIN meter.tenant AS t ON p.tenant = t.name
INNER JOIN (
    SELECT id, row_number() OVER (ORDER BY id) AS number FROM meter.server
) AS v ON p.server_number = v.number
INNER JOIN (
    SELECT id, tenant_id, row_number() OVER (PARTITION BY tenant_id ORDER BY id) AS number
    FROM meter.room
) AS r
    ON t.id = r.tenant_id
    AND r.number = 1 + p.course % CASE WHEN p.tenant = 'unassigned' THEN 2 ELSE 40 END
WHERE p.begin_at < {end}
"""

BREAKOUTS = """
INSERT INTO pg_temp.plan
SELECT
    p.n * 10 + b, p.n, hashint8extended(p.n * 10 + b, 12) & 4611686018427387903,
    p.begin_at + interval '10 minutes', p.begin_at + interval '28 minutes',
    p.size / 4, p.tenant_id, p.room_id, p.server_id, p.habit, TRUE, p.origin
FROM pg_temp.plan AS p
CROSS JOIN generate_series(1, 3) AS g (b)
WHERE
    p.size >= 8 AND p.end_at - p.begin_at > interval '40 minutes'
    AND pg_temp.share(p.n, 13) < 0.08 AND p.begin_at + interval '10 minutes' < {end}
"""

PLAN_KEYS = """
CREATE INDEX ON pg_temp.plan (begin_at);
CREATE INDEX ON pg_temp.plan (session_id);
ANALYZE pg_temp.plan
"""

# The second server was away for 25 minutes yesterday, the third for three hours a week ago.
AWAY = """
CREATE TEMPORARY TABLE away AS
SELECT v.id AS server_id, o.since, o.until, o.error
FROM (
    SELECT id, row_number() OVER (ORDER BY id) AS number FROM meter.server
) AS v
INNER JOIN (
    VALUES
    (
        2, date_trunc('hour', {end}) - interval '26 hours',
        date_trunc('hour', {end}) - interval '26 hours' + interval '25 minutes', 'timeout'
    ),
    (
        3, date_trunc('hour', {end}) - interval '7 days',
        date_trunc('hour', {end}) - interval '7 days' + interval '3 hours', 'http_status:502'
    )
) AS o (number, since, until, error) ON v.number = o.number
"""

SAMPLES = """
INSERT INTO meter.sample (
    ts, tenant_id, server_id, session_id, participants, voice, video, listeners, dialins, seconds,
    breakout, filled{later_columns}
)
SELECT
    x.ts,
    p.tenant_id,
    p.server_id,
    p.session_id,
    c.participants,
    ceil(c.participants * 0.8),
    floor(c.participants * p.habit * 0.4),
    0,
    CASE WHEN p.habit > 0.9 THEN least(2, c.participants) ELSE 0 END,
    {interval_s},
    p.breakout,
    x.lost{later_values}
FROM pg_temp.plan AS p
CROSS JOIN LATERAL (
    SELECT
        t.ts,
        extract(EPOCH FROM t.ts - p.begin_at)::double precision AS since_begin,
        extract(EPOCH FROM p.end_at - t.ts)::double precision AS until_end,
        pg_temp.share(extract(EPOCH FROM t.ts)::bigint / {interval_s}, p.server_id) < 0.003 AS lost
    FROM generate_series(
        to_timestamp(ceil(
            extract(EPOCH FROM greatest(p.begin_at, {since})) / {interval_s}
        ) * {interval_s}),
        least(p.end_at, {until}) - interval '1 microsecond',
        make_interval(secs => {interval_s})
    ) AS t (ts)
) AS x
CROSS JOIN LATERAL (
    SELECT
        greatest(1, round(
            p.size * least(1, 0.3 + x.since_begin / 400) * least(1, 0.2 + x.until_end / 200)
            * (0.92 + 0.08 * sin(x.since_begin / 150 + p.n % 100))
        ))::smallint AS participants
) AS c
LEFT JOIN pg_temp.away AS a
    ON p.server_id = a.server_id AND x.ts >= a.since AND x.ts < a.until
WHERE
    p.begin_at < {until} AND p.end_at > {since}
    AND a.since IS NULL
    -- Only what lies between two polls that saw it is filled.
    AND (NOT x.lost OR x.since_begin > 300 AND x.until_end > 300)
"""

POLLS = """
INSERT INTO meter.poll (
    ts, server_id, ok, outcome, latency_ms, seconds, skipped, sessions, participants, voice, video,
    listeners, dialins, breakouts
)
SELECT
    t.ts,
    v.id,
    k.ok,
    coalesce(a.error, CASE WHEN t.lost THEN 'timeout' END, 'ok'),
    CASE
        WHEN a.error = 'timeout' OR t.lost AND a.error IS NULL THEN 10000
        ELSE 30 + 60 * power(pg_temp.share(t.n, 100 + v.id), 6) + coalesce(u.participants, 0) / 20
            + 400 * power(greatest(0.01, pg_temp.share(t.n, 200 + v.id)), 60)
    END,
    {interval_s},
    0,
    CASE WHEN k.ok THEN coalesce(u.sessions, 0) END,
    CASE WHEN k.ok THEN coalesce(u.participants, 0) END,
    CASE WHEN k.ok THEN coalesce(u.voice, 0) END,
    CASE WHEN k.ok THEN coalesce(u.video, 0) END,
    CASE WHEN k.ok THEN 0 END,
    CASE WHEN k.ok THEN coalesce(u.dialins, 0) END,
    CASE WHEN k.ok THEN coalesce(u.breakouts, 0) END
FROM meter.server AS v
CROSS JOIN LATERAL (
    SELECT
        g.ts,
        extract(EPOCH FROM g.ts)::bigint / {interval_s} AS n,
        pg_temp.share(extract(EPOCH FROM g.ts)::bigint / {interval_s}, v.id) < 0.003 AS lost
    FROM generate_series(
        {since}, {until} - interval '1 microsecond', make_interval(secs => {interval_s})
    ) AS g (ts)
) AS t
LEFT JOIN pg_temp.away AS a ON v.id = a.server_id AND t.ts >= a.since AND t.ts < a.until
CROSS JOIN LATERAL (SELECT a.error IS NULL AND NOT t.lost AS ok) AS k
LEFT JOIN (
    SELECT
        s.server_id,
        s.ts,
        count(*) FILTER (WHERE NOT s.breakout) AS sessions,
        sum(s.participants) FILTER (WHERE NOT s.breakout) AS participants,
        sum(s.voice) FILTER (WHERE NOT s.breakout) AS voice,
        sum(s.video) FILTER (WHERE NOT s.breakout) AS video,
        sum(s.dialins) FILTER (WHERE NOT s.breakout) AS dialins,
        count(*) FILTER (WHERE s.breakout) AS breakouts
    FROM meter.sample AS s
    WHERE s.ts >= {since} AND s.ts < {until} AND NOT s.filled
    GROUP BY s.server_id, s.ts
) AS u ON v.id = u.server_id AND t.ts = u.ts
"""

# As meter.update_sessions computes them. A session that no poll saw is left out.
SESSIONS = """
WITH made AS (
INSERT INTO meter.session (
    session_id, server_id, internal_id, started_at, tenant_id, room_id, parent_internal_id,
    breakout, recording, origin, first_seen_at, last_seen_at, ended_at, duration_seconds,
    session_seconds,
    participant_seconds, voice_seconds, video_seconds, dialin_seconds, filled_seconds,
    max_participants, mean_participants
)
SELECT
    p.session_id,
    p.server_id,
    md5(p.n::text) || '-' || floor(extract(EPOCH FROM p.begin_at) * 1000),
    p.begin_at,
    p.tenant_id,
    p.room_id,
    md5(p.parent::text) || '-' || floor(extract(EPOCH FROM p.begin_at) * 1000 - 600000),
    p.breakout,
    p.habit < 0.3,
    p.origin,
    x.first_seen_at,
    x.last_seen_at,
    CASE WHEN x.last_seen_at < {end} - interval '3 minutes' THEN x.seen_until END,
    greatest(extract(EPOCH FROM x.first_seen_at - p.begin_at), 0)
    + x.seconds - {interval_s} / 2.0,
    x.seconds,
    x.participant_seconds,
    x.voice_seconds,
    x.video_seconds,
    x.dialin_seconds,
    x.filled_seconds,
    x.max_participants,
    x.participant_seconds::double precision / x.seconds
FROM pg_temp.plan AS p
INNER JOIN (
    SELECT
        a.session_id,
        min(a.ts) AS first_seen_at,
        max(a.ts) AS last_seen_at,
        max(a.ts) + make_interval(secs => {interval_s} / 2.0) AS seen_until,
        sum(a.seconds) AS seconds,
        sum(a.participants::integer * a.seconds) AS participant_seconds,
        sum(a.voice::integer * a.seconds) AS voice_seconds,
        sum(a.video::integer * a.seconds) AS video_seconds,
        sum(a.dialins::integer * a.seconds) AS dialin_seconds,
        coalesce(sum(a.seconds) FILTER (WHERE a.filled), 0) AS filled_seconds,
        max(a.participants) AS max_participants
    FROM meter.sample AS a
    GROUP BY a.session_id
) AS x ON p.session_id = x.session_id
RETURNING session_id, started_at, ended_at
)
INSERT INTO meter.open_session (session_id, started_at)
SELECT m.session_id, m.started_at FROM made AS m WHERE m.ended_at IS NULL
"""

COLLECTORS = """
INSERT INTO meter.collector (
    id, host, since, until, safe_until, stopped, interval_s, servers, newest_stored_at,
    spool_polls, spool_bytes, spool_max_bytes, quarantined_batches
)
SELECT
    r.id, r.host, r.since, r.until, r.until, r.stopped, {interval_s}, {servers}, r.until, 0, 0,
    1073741824, 0
FROM (
    VALUES
    ('one', 'meter1', {begin}, {end} - interval '3 days', TRUE),
    ('two', 'meter1', {end} - interval '3 days', {end} - interval '5 hours', FALSE),
    ('three', 'meter2', {end} - interval '298 minutes', {end}, FALSE)
) AS r (id, host, since, until, stopped)
"""

# The first tenant exceeds its limit every busy day. The second keeps it. The third has none.
CONTRACTS = """
INSERT INTO meter.contract (tenant_id, since, until, participant_limit, month_minute_limit)
SELECT t.id, c.since, c.until, c.limit_, c.minutes
FROM (
    SELECT name, id, row_number() OVER (ORDER BY id) AS number
    FROM meter.tenant WHERE name <> 'unassigned'
) AS t
INNER JOIN (
    SELECT
        m.tenant_id,
        max(m.participants) AS peak,
        sum(m.total) / 60 * 30 / greatest(1, count(*)) AS month
    FROM (
        SELECT
            u.tenant_id,
            public.time_bucket('1 day', u.bucket) AS day,
            max(u.participant_seconds) / 60 AS participants,
            sum(u.participant_seconds) AS total
        FROM (
            SELECT
                a.tenant_id, public.time_bucket('1 minute', a.ts) AS bucket,
                sum(a.participants::integer * a.seconds) AS participant_seconds
            FROM meter.sample AS a
            WHERE NOT a.breakout AND a.ts >= {end} - interval '8 days'
            GROUP BY 1, 2
        ) AS u
        GROUP BY 1, 2
    ) AS m
    GROUP BY m.tenant_id
) AS x ON t.id = x.tenant_id
CROSS JOIN LATERAL (
    VALUES
    (1, '-infinity'::timestamptz, {end} - interval '10 days',
        ceil(x.peak * 2)::integer, NULL::bigint),
    (1, {end} - interval '10 days', NULL, ceil(x.peak * 0.8)::integer, ceil(x.month)::bigint),
    (2, '-infinity', NULL, ceil(x.peak * 1.3)::integer, ceil(x.month * 2)::bigint)
) AS c (number, since, until, limit_, minutes)
WHERE t.number = c.number
"""
# One server had two entries for a while, long enough ago that no alert fires.
DUPLICATES = """
INSERT INTO meter.duplicate_session (
    session_id, started_at, server_id, tenant_id, same_as, other_server_id, other_tenant_id,
    counts, since, until
)
SELECT
    s.session_id, s.started_at, s.server_id, s.tenant_id, 1, v.id, s.tenant_id, FALSE,
    s.first_seen_at, s.ended_at
FROM meter.session AS s
CROSS JOIN LATERAL (SELECT min(x.id) AS id FROM meter.server AS x WHERE x.id <> s.server_id) AS v
WHERE NOT s.breakout AND s.ended_at < {end} - interval '2 hours'
ORDER BY s.ended_at DESC
LIMIT 3
"""
