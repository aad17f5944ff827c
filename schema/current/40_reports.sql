-- The reports: usage by tenant, server, room, day and month.
--
-- All of them return rows of the type meter.report_row. Its columns stand once, in the migrations
-- (0001_tables.sql, and later ones add to them).

COMMENT ON TYPE meter.report_row IS
'A row of a report: what it is about, and its figures. Minutes are participants (or voice, '
'webcams, dial-ins, sessions) × minutes. NULL means unknown; for an average or an instant it can '
'also mean that there was no session.';
COMMENT ON COLUMN meter.report_row.period IS
'Beginning of the day or month (of the billing time zone), or of the whole period.';
COMMENT ON COLUMN meter.report_row.tenant IS 'Name of the tenant.';
COMMENT ON COLUMN meter.report_row.server IS 'Name of the server, NULL for all servers together.';
COMMENT ON COLUMN meter.report_row.room IS
'External meeting id of the room, NULL for all rooms together or if the room is unknown.';
COMMENT ON COLUMN meter.report_row.participant_minutes IS 'Participants × minutes.';
COMMENT ON COLUMN meter.report_row.voice_minutes IS 'Participants with audio × minutes.';
COMMENT ON COLUMN meter.report_row.video_minutes IS 'Webcams × minutes.';
COMMENT ON COLUMN meter.report_row.dialin_minutes IS 'Participants by telephone × minutes.';
COMMENT ON COLUMN meter.report_row.sessions IS
'Sessions (no breakouts) that began in the period.';
COMMENT ON COLUMN meter.report_row.session_minutes IS 'Sessions × minutes.';
COMMENT ON COLUMN meter.report_row.avg_session_minutes IS
'Mean length of the sessions that began in the period.';
COMMENT ON COLUMN meter.report_row.max_session_minutes IS 'Length of the longest of them.';
COMMENT ON COLUMN meter.report_row.avg_session_size IS
'Mean, over those sessions, of their mean number of participants.';
COMMENT ON COLUMN meter.report_row.max_session_size IS
'Most participants that a session had at a tick of the period.';
COMMENT ON COLUMN meter.report_row.large_sessions IS
'Those of the sessions that had more participants than the setting large_session_participants.';
COMMENT ON COLUMN meter.report_row.peak_participants IS
'Highest mean of a minute of the participants of all sessions together.';
COMMENT ON COLUMN meter.report_row.peak_participants_at IS
'Beginning of that minute, the earliest of equals.';
COMMENT ON COLUMN meter.report_row.peak_sessions IS
'Highest mean of a minute of the number of sessions.';
COMMENT ON COLUMN meter.report_row.breakout_minutes IS
'Participants of breakout rooms × minutes; no other figure includes them.';
COMMENT ON COLUMN meter.report_row.coverage IS
'Share of the due polls that succeeded, times the share of the sessions that they showed.';
COMMENT ON COLUMN meter.report_row.filled_share IS
'Share of the session time that was interpolated.';

-- The usage of each tenant by day, by month or in total. For a period in which no poll succeeded,
-- figures are NULL and not zero. A peak is the highest mean of a minute, over all servers together.
CREATE OR REPLACE FUNCTION meter.tenant_usage(
    since timestamptz, until timestamptz, per text DEFAULT 'day'
)
RETURNS SETOF meter.report_row
LANGUAGE sql
STABLE
AS $fn$
    WITH used AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, u.bucket) END
                AS period,
            u.tenant_id,
            sum(u.participant_seconds) AS participant_seconds,
            sum(u.voice_seconds) AS voice_seconds,
            sum(u.video_seconds) AS video_seconds,
            sum(u.dialin_seconds) AS dialin_seconds,
            sum(u.session_seconds) AS session_seconds,
            sum(u.filled_seconds) AS filled_seconds,
            sum(u.breakout_participant_seconds) AS breakout_participant_seconds,
            max(u.max_session_size) AS max_session_size,
            max(u.peak_minute) AS peak_minute,
            max(u.peak_sessions_minute) AS peak_sessions_minute
        FROM meter.usage_between(since, until) AS u
        GROUP BY 1, 2
    ),

    begun AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, b.bucket) END
                AS period,
            b.tenant_id,
            sum(b.sessions)::bigint AS sessions,
            sum(b.duration_seconds) AS duration_seconds,
            max(b.max_duration_seconds) AS max_duration_seconds,
            sum(b.mean_participants_sum) AS mean_participants_sum,
            sum(b.large_sessions)::bigint AS large_sessions
        FROM meter.sessions_between(since, until) AS b
        GROUP BY 1, 2
    ),

    moderated AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, m.bucket) END AS period,
            m.tenant_id,
            sum(m.count_seconds) AS count_seconds,
            sum(m.known_seconds) AS known_seconds
        FROM meter.count_between('moderators', since, until) AS m
        GROUP BY 1, 2
    ),

    empty AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, e.started_at) END
                AS period,
            e.tenant_id,
            CASE WHEN bool_and(e.is_known) THEN count(*) END AS sessions
        FROM meter.empty_session AS e
        WHERE e.started_at >= since AND e.started_at < until
        GROUP BY 1, 2
    )

    SELECT
        p.period,
        t.name,
        NULL::text,
        NULL::text,
        coalesce(u.participant_seconds / 60.0, z.zero),
        coalesce(u.voice_seconds / 60.0, z.zero),
        coalesce(u.video_seconds / 60.0, z.zero),
        coalesce(u.dialin_seconds / 60.0, z.zero),
        coalesce(b.sessions, z.zero::bigint),
        coalesce(u.session_seconds / 60.0, z.zero),
        b.duration_seconds / nullif(b.sessions, 0) / 60,
        b.max_duration_seconds / 60,
        b.mean_participants_sum / nullif(b.sessions, 0),
        coalesce(u.max_session_size, z.zero::integer),
        coalesce(b.large_sessions, z.zero::bigint),
        coalesce(u.peak_minute[1] / 60.0, z.zero),
        CASE WHEN u.peak_minute[1] > 0 THEN to_timestamp(-u.peak_minute[2]) END,
        coalesce(u.peak_sessions_minute[1] / 60.0, z.zero),
        coalesce(u.breakout_participant_seconds / 60.0, z.zero),
        c.coverage,
        u.filled_seconds::double precision / nullif(u.session_seconds, 0),
        CASE
            WHEN coalesce(u.session_seconds, 0) = 0 THEN z.zero
            WHEN m.known_seconds = u.session_seconds THEN m.count_seconds / 60.0
        END,
        CASE
            WHEN NOT meter.still_kept(p.lo, ${retention_session}) THEN NULL
            WHEN e.tenant_id IS NOT NULL THEN e.sessions
            ELSE z.zero::bigint
        END
    FROM meter.periods(since, until, per) AS p
    CROSS JOIN meter.tenant AS t
    LEFT JOIN used AS u ON p.period = u.period AND t.id = u.tenant_id
    LEFT JOIN begun AS b ON p.period = b.period AND t.id = b.tenant_id
    LEFT JOIN moderated AS m ON p.period = m.period AND t.id = m.tenant_id
    LEFT JOIN empty AS e ON p.period = e.period AND t.id = e.tenant_id
    LEFT JOIN meter.tenant_coverage(since, until, per) AS c
        ON p.period = c.period AND t.id = c.tenant_id
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.coverage > 0 THEN 0::double precision END AS zero
    ) AS z
    ORDER BY p.period, t.name
$fn$;

COMMENT ON FUNCTION meter.tenant_usage IS
'meter.tenant_report by period: per is day or month (of the billing time zone) or total. period is '
'the beginning of the day or month, or since. The first and the last period are limited by since '
'and until. Every tenant has a row in every period.';

-- The report: the usage of each tenant in [since, until).
CREATE OR REPLACE FUNCTION meter.tenant_report(since timestamptz, until timestamptz)
RETURNS SETOF meter.report_row
LANGUAGE sql
STABLE
AS $fn$
    SELECT u.*
    FROM meter.tenant_usage(since, until, 'total') AS u
$fn$;

COMMENT ON FUNCTION meter.tenant_report IS
'Usage of each tenant in [since, until), which must be full minutes, over all servers: a row of '
'meter.report_row each. NULL means that no poll of the tenant''s servers succeeded; for an average '
'or an instant it can also mean that there was no session.';

-- The same figures by tenant, by tenant and server, or by tenant and room (`by`: tenant, server or
-- room), of the sessions on one server, or on all (NULL). Peaks are computed from samples: they are
-- NULL if samples of that time have been dropped.
CREATE OR REPLACE FUNCTION meter.usage_by(
    since timestamptz, until timestamptz, by text, on_server text DEFAULT NULL
)
RETURNS SETOF meter.report_row
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    samples_reach_back boolean := since >= (SELECT min(m.ts) FROM meter.sample AS m)
        OR meter.still_kept(since, ${retention_sample});
BEGIN
    IF by NOT IN ('tenant', 'server', 'room') THEN
        RAISE EXCEPTION 'usage is by tenant, server or room, not by %', by
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY
    WITH place AS (
        -- The group of each session: its server and room, or 0 if `by` does not ask for them. The
        -- tenant here is that of the session; its samples can have others, because the tenant of a
        -- sample is fixed when it is stored.
        SELECT
            x.session_id,
            x.breakout,
            x.tenant_id,
            CASE WHEN by = 'server' THEN x.server_id ELSE 0 END AS server_id,
            CASE WHEN by = 'room' THEN coalesce(x.room_id, 0) ELSE 0 END AS room_id,
            x.started_at,
            x.duration_seconds,
            x.mean_participants,
            x.max_participants
        FROM meter.session AS x
        INNER JOIN meter.server AS w ON x.server_id = w.id
        WHERE
            (on_server IS NULL OR w.name = on_server)
            AND (
                (x.started_at >= since AND x.started_at < until)
                OR (
                    x.first_seen_at < until
                    AND (x.ended_at IS NULL OR x.last_seen_at >= since - interval '1 minute')
                )
            )
    ),

    used AS (
        SELECT
            u.tenant_id,
            p.server_id,
            p.room_id,
            sum(u.participant_seconds) FILTER (WHERE NOT u.breakout) AS participant_seconds,
            sum(u.voice_seconds) FILTER (WHERE NOT u.breakout) AS voice_seconds,
            sum(u.video_seconds) FILTER (WHERE NOT u.breakout) AS video_seconds,
            sum(u.dialin_seconds) FILTER (WHERE NOT u.breakout) AS dialin_seconds,
            sum(u.session_seconds) FILTER (WHERE NOT u.breakout) AS session_seconds,
            sum(u.filled_seconds) FILTER (WHERE NOT u.breakout) AS filled_seconds,
            sum(u.participant_seconds) FILTER (WHERE u.breakout) AS breakout_participant_seconds,
            max(u.max_participants) FILTER (WHERE NOT u.breakout) AS max_session_size
        FROM meter.session_usage_between(since, until) AS u
        INNER JOIN place AS p ON u.session_id = p.session_id
        GROUP BY u.tenant_id, p.server_id, p.room_id
    ),

    begun AS (
        SELECT
            p.tenant_id,
            p.server_id,
            p.room_id,
            count(*) AS sessions,
            avg(p.duration_seconds) AS avg_duration_seconds,
            max(p.duration_seconds) AS max_duration_seconds,
            avg(p.mean_participants) AS avg_size,
            count(*) FILTER (WHERE p.max_participants > ${large_session_participants})
                AS large_sessions
        FROM place AS p
        WHERE NOT p.breakout AND p.started_at >= since AND p.started_at < until
        GROUP BY p.tenant_id, p.server_id, p.room_id
    ),

    minutes AS (
        SELECT
            a.tenant_id,
            p.server_id,
            p.room_id,
            time_bucket('1 minute', a.ts) AS minute,
            sum(a.participants::integer * a.seconds) AS participant_seconds,
            sum(a.seconds) AS session_seconds,
            sum(a.moderators::integer * a.seconds) AS moderator_seconds,
            coalesce(sum(a.seconds) FILTER (WHERE a.moderators IS NOT NULL), 0) AS known_seconds
        FROM meter.sample AS a
        INNER JOIN place AS p ON a.session_id = p.session_id
        WHERE samples_reach_back AND a.ts >= since AND a.ts < until AND NOT a.breakout
        GROUP BY a.tenant_id, p.server_id, p.room_id, time_bucket('1 minute', a.ts)
    ),

    peaks AS (
        SELECT
            m.tenant_id,
            m.server_id,
            m.room_id,
            max(ARRAY[m.participant_seconds, -extract(EPOCH FROM m.minute)::bigint])
                AS participants,
            max(m.session_seconds) AS sessions,
            sum(m.moderator_seconds) AS moderator_seconds,
            sum(m.known_seconds) AS known_seconds
        FROM minutes AS m
        GROUP BY m.tenant_id, m.server_id, m.room_id
    ),

    empty AS (
        SELECT
            x.tenant_id,
            CASE WHEN by = 'server' THEN x.server_id ELSE 0 END AS server_id,
            CASE WHEN by = 'room' THEN coalesce(x.room_id, 0) ELSE 0 END AS room_id,
            CASE WHEN bool_and(x.is_known) THEN count(*) END AS sessions
        FROM meter.empty_session AS x
        INNER JOIN meter.server AS w ON x.server_id = w.id
        WHERE x.started_at >= since AND x.started_at < until
            AND (on_server IS NULL OR w.name = on_server)
        GROUP BY 1, 2, 3
    )

    SELECT
        since,
        t.name,
        v.name,
        r.external_id,
        coalesce(u.participant_seconds / 60.0, 0)::double precision,
        coalesce(u.voice_seconds / 60.0, 0)::double precision,
        coalesce(u.video_seconds / 60.0, 0)::double precision,
        coalesce(u.dialin_seconds / 60.0, 0)::double precision,
        coalesce(b.sessions, 0),
        coalesce(u.session_seconds / 60.0, 0)::double precision,
        b.avg_duration_seconds / 60,
        b.max_duration_seconds / 60,
        b.avg_size,
        coalesce(u.max_session_size, 0),
        coalesce(b.large_sessions, 0),
        CASE WHEN samples_reach_back THEN coalesce(k.participants[1] / 60.0, 0) END
            ::double precision,
        CASE WHEN k.participants[1] > 0 THEN to_timestamp(-k.participants[2]) END,
        CASE WHEN samples_reach_back THEN coalesce(k.sessions / 60.0, 0) END::double precision,
        coalesce(u.breakout_participant_seconds / 60.0, 0)::double precision,
        CASE WHEN by = 'server' OR on_server IS NOT NULL THEN w.coverage ELSE c.coverage END,
        u.filled_seconds::double precision / nullif(u.session_seconds, 0)::double precision,
        CASE WHEN samples_reach_back THEN
            CASE
                WHEN coalesce(u.session_seconds, 0) = 0 THEN 0
                WHEN k.known_seconds = u.session_seconds THEN k.moderator_seconds / 60.0
            END
        END::double precision,
        CASE
            WHEN NOT meter.still_kept(since, ${retention_session}) THEN NULL
            WHEN e.tenant_id IS NOT NULL THEN e.sessions
            ELSE 0
        END
    FROM used AS u
    -- A session can begin at the end of the period, and be seen for the first time after it.
    FULL JOIN begun AS b
        ON
            u.tenant_id = b.tenant_id AND u.server_id = b.server_id
            AND u.room_id = b.room_id
    FULL JOIN empty AS e
        ON
            coalesce(u.tenant_id, b.tenant_id) = e.tenant_id
            AND coalesce(u.server_id, b.server_id) = e.server_id
            AND coalesce(u.room_id, b.room_id) = e.room_id
    INNER JOIN meter.tenant AS t ON coalesce(u.tenant_id, b.tenant_id, e.tenant_id) = t.id
    LEFT JOIN meter.server AS v ON coalesce(u.server_id, b.server_id, e.server_id) = v.id
    LEFT JOIN meter.room AS r ON coalesce(u.room_id, b.room_id, e.room_id) = r.id
    LEFT JOIN peaks AS k
        ON u.tenant_id = k.tenant_id AND u.server_id = k.server_id AND u.room_id = k.room_id
    LEFT JOIN meter.tenant_coverage(since, until) AS c ON t.id = c.tenant_id
    LEFT JOIN meter.server_coverage(since, until) AS w ON w.server = coalesce(v.name, on_server)
    ORDER BY t.name, v.name, r.external_id;
END
$fn$;

COMMENT ON FUNCTION meter.usage_by IS
'The figures of meter.tenant_report by tenant, server or room (by), of the sessions on one server '
'(on_server) or on all (NULL). Only groups with sessions, also empty ones, have a row. Peaks are '
'those of the group; peaks and moderators are NULL if samples of that time have been dropped. '
'server and room are NULL unless `by` asks for them. coverage is that of the server if the row has '
'one or on_server is given, else that of the tenant.';

-- The version of the rules that figures are computed by. A release that changes figures increases
-- it.
CREATE OR REPLACE FUNCTION meter.calculation_version() RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN 2;

COMMENT ON FUNCTION meter.calculation_version IS
'Version of the rules that figures are computed by. A release of bbbmeter that changes figures '
'increases it.';
