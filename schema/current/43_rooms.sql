-- Rooms and sessions: lists, and the course of one session.

-- Every session with names instead of numbers, and in minutes, as in reports.
CREATE OR REPLACE VIEW meter.session_figures AS
SELECT
    s.session_id,
    t.name AS tenant,
    r.external_id AS room,
    v.name AS server,
    s.origin,
    s.started_at,
    s.ended_at,
    s.ended_at IS NULL AS is_open,
    s.session_seconds / 60.0::double precision AS session_minutes,
    s.participant_seconds / 60.0::double precision AS participant_minutes,
    s.max_participants,
    s.mean_participants,
    s.voice_seconds / 60.0::double precision AS voice_minutes,
    s.video_seconds / 60.0::double precision AS video_minutes,
    s.dialin_seconds / 60.0::double precision AS dialin_minutes,
    s.breakout,
    s.recording,
    s.filled_seconds::double precision / nullif(s.session_seconds, 0) AS filled_share,
    s.duration_seconds / 60 AS length_minutes
FROM meter.session AS s
INNER JOIN meter.tenant AS t ON s.tenant_id = t.id
INNER JOIN meter.server AS v ON s.server_id = v.id
LEFT JOIN meter.room AS r ON s.room_id = r.id;

COMMENT ON VIEW meter.session_figures IS
'Every session with names instead of numbers, and in minutes: meter.session as in reports. The '
'figures of an open session still grow.';
COMMENT ON COLUMN meter.session_figures.session_id IS
'Number of the session. Use it as text in a browser, which cannot hold all digits in a number.';
COMMENT ON COLUMN meter.session_figures.tenant IS 'Name of its tenant.';
COMMENT ON COLUMN meter.session_figures.room IS
'The meeting id of its room; NULL for a breakout whose parent was never seen.';
COMMENT ON COLUMN meter.session_figures.server IS
'Name of its server.';
COMMENT ON COLUMN meter.session_figures.origin IS
'The product that created it; NULL if it did not say so.';
COMMENT ON COLUMN meter.session_figures.started_at IS 'When it was created.';
COMMENT ON COLUMN meter.session_figures.ended_at IS 'When it ended; NULL while it is open.';
COMMENT ON COLUMN meter.session_figures.is_open IS
'Whether it is open, as far as is known.';
COMMENT ON COLUMN meter.session_figures.session_minutes IS
'Minutes in which it was seen or filled, as in reports.';
COMMENT ON COLUMN meter.session_figures.participant_minutes IS 'Participants × minutes.';
COMMENT ON COLUMN meter.session_figures.max_participants IS
'Maximum number of participants at any tick.';
COMMENT ON COLUMN meter.session_figures.mean_participants IS
'Mean number of participants.';
COMMENT ON COLUMN meter.session_figures.voice_minutes IS 'Participants with voice × minutes.';
COMMENT ON COLUMN meter.session_figures.video_minutes IS 'Webcam streams × minutes.';
COMMENT ON COLUMN meter.session_figures.dialin_minutes IS 'Participants by telephone × minutes.';
COMMENT ON COLUMN meter.session_figures.breakout IS 'Whether it is a breakout room.';
COMMENT ON COLUMN meter.session_figures.recording IS
'Whether it was created with recording allowed.';
COMMENT ON COLUMN meter.session_figures.filled_share IS
'Share of its time that was interpolated between two polls.';
COMMENT ON COLUMN meter.session_figures.length_minutes IS
'Minutes from its start to its end, without gaps that are not filled.';

-- Sessions that were open in [since, until), the newest first: of one tenant, room or server, or of
-- all (NULL). Figures are those of the whole session.
CREATE OR REPLACE FUNCTION meter.session_list(
    since timestamptz,
    until timestamptz,
    of_tenant text DEFAULT NULL,
    of_room text DEFAULT NULL,
    on_server text DEFAULT NULL
)
RETURNS SETOF meter.session_figures
LANGUAGE sql
STABLE PARALLEL SAFE
AS $fn$
    SELECT s.*
    FROM meter.session_figures AS s
    WHERE
        s.started_at < until
        -- This limits the chunks that are read. Of the sessions that began earlier, none was open:
        -- the rollup has the longest one of each day. Two days are those of the beginning, and of
        -- the time in which the rollup may not have been refreshed.
        AND s.started_at >= (
            SELECT least(since - interval '2 days', min(d.bucket))
            FROM meter.session_1d AS d
            WHERE
                d.bucket < since - interval '2 days'
                AND d.bucket + make_interval(days => 2, secs => d.max_duration_seconds) > since
        )
        AND (s.is_open OR s.ended_at > since)
        AND (of_tenant IS NULL OR s.tenant = of_tenant)
        AND (of_room IS NULL OR s.room = of_room)
        AND (on_server IS NULL OR s.server = on_server)
    ORDER BY s.started_at DESC, s.session_id
$fn$;

COMMENT ON FUNCTION meter.session_list IS
'Rows of meter.session_figures that were open in [since, until), the newest first: of one tenant, '
'room or server, or of all (NULL).';

-- Rooms with sessions that began in [since, until): the usage of these sessions up to their ends.
-- With `part`, only rooms whose meeting id or name contains it, regardless of case. Breakouts
-- count for the room of their parent, and only in breakout_minutes.
CREATE OR REPLACE FUNCTION meter.room_usage(
    since timestamptz, until timestamptz, of_tenant text DEFAULT NULL, part text DEFAULT NULL
)
RETURNS TABLE (
    tenant text,
    room text,
    room_name text,
    last_active_at timestamptz,
    is_open boolean,
    sessions bigint,
    participant_minutes double precision,
    session_minutes double precision,
    max_session_size integer,
    avg_session_size double precision,
    breakout_minutes double precision,
    filled_share double precision
)
LANGUAGE sql
STABLE PARALLEL SAFE
AS $fn$
    -- First plain sums by room and breakout, which PostgreSQL can compute in parallel. It could not
    -- if a CTE were read twice, or if this function were not marked PARALLEL SAFE.
    WITH used AS (
        SELECT
            p.room_id,
            max(p.last_active_at) AS last_active_at,
            bool_or(p.is_open AND NOT p.breakout) AS is_open,
            sum(p.sessions) FILTER (WHERE NOT p.breakout) AS sessions,
            sum(p.participant_seconds) FILTER (WHERE NOT p.breakout) AS participant_seconds,
            sum(p.seconds) FILTER (WHERE NOT p.breakout) AS seconds,
            sum(p.filled_seconds) FILTER (WHERE NOT p.breakout) AS filled_seconds,
            max(p.max_participants) FILTER (WHERE NOT p.breakout) AS max_participants,
            max(p.mean_participants) FILTER (WHERE NOT p.breakout) AS mean_participants,
            sum(p.participant_seconds) FILTER (WHERE p.breakout) AS breakout_participant_seconds
        FROM (
            SELECT
                s.room_id,
                s.breakout,
                max(coalesce(s.last_seen_at, s.first_seen_at)) AS last_active_at,
                bool_or(s.ended_at IS NULL) AS is_open,
                count(*) AS sessions,
                sum(s.participant_seconds) AS participant_seconds,
                sum(s.session_seconds) AS seconds,
                sum(s.filled_seconds) AS filled_seconds,
                max(s.max_participants) AS max_participants,
                avg(s.mean_participants) AS mean_participants
            FROM meter.session AS s
            WHERE
                s.started_at >= since AND s.started_at < until
                AND (of_tenant IS NULL OR s.tenant_id = (
                    SELECT x.id FROM meter.tenant AS x WHERE x.name = of_tenant
                ))
            GROUP BY s.room_id, s.breakout
        ) AS p
        GROUP BY p.room_id
    )

    SELECT
        t.name,
        r.external_id,
        r.name,
        u.last_active_at,
        u.is_open,
        coalesce(u.sessions, 0)::bigint,
        coalesce(u.participant_seconds, 0) / 60.0::double precision,
        coalesce(u.seconds, 0) / 60.0::double precision,
        u.max_participants,
        u.mean_participants,
        coalesce(u.breakout_participant_seconds, 0) / 60.0::double precision,
        u.filled_seconds::double precision / nullif(u.seconds, 0)
    FROM used AS u
    INNER JOIN meter.room AS r ON u.room_id = r.id
    INNER JOIN meter.tenant AS t ON r.tenant_id = t.id
    WHERE
        coalesce(part, '') = ''
        OR strpos(lower(r.external_id), lower(part)) > 0
        OR strpos(lower(r.name), lower(part)) > 0
    ORDER BY u.participant_seconds DESC NULLS LAST, t.name, r.external_id
$fn$;

COMMENT ON FUNCTION meter.room_usage IS
'Rooms with sessions that began in [since, until), and the usage of these sessions up to their '
'ends: of one tenant or of all (NULL). With part, only rooms whose meeting id or name contains it. '
'Breakouts count only in breakout_minutes.';

-- The number of a session from a text, as in links; NULL if the text is not a valid number.
CREATE OR REPLACE FUNCTION meter.session_number(of_session text) RETURNS bigint
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
AS $fn$
    SELECT CASE
        WHEN of_session ~ '^[0-9]{1,18}$'
            OR (of_session ~ '^[0-9]{19}$' AND of_session <= '9223372036854775807')
            THEN of_session::bigint
    END
$fn$;

COMMENT ON FUNCTION meter.session_number IS
'The number of a session from a text; NULL if the text is not a valid number.';

-- The course of one session in [since, until): every sample for up to six hours, else means of
-- hours. peak_participants is the maximum at any tick. filled is true if the sample, or a part of
-- the hour, was interpolated.
CREATE OR REPLACE FUNCTION meter.session_course(
    of_session text, since timestamptz, until timestamptz
)
RETURNS TABLE (
    ts timestamptz,
    participants double precision,
    peak_participants integer,
    voice double precision,
    video double precision,
    dialins double precision,
    filled boolean
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    lo timestamptz;
    hi timestamptz;
    of_tenant integer;
    id bigint := meter.session_number(of_session);
BEGIN
    SELECT
        greatest(since, s.first_seen_at - interval '1 hour'),
        least(until, s.last_seen_at + interval '1 minute'),
        s.tenant_id
    INTO lo, hi, of_tenant
    FROM meter.session AS s
    WHERE s.session_id = id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF hi - lo <= interval '6 hours' AND meter.still_kept(lo, ${retention_sample}) THEN
        RETURN QUERY
        SELECT
            a.ts, a.participants::double precision, a.participants::integer,
            a.voice::double precision, a.video::double precision, a.dialins::double precision,
            a.filled
        FROM meter.sample AS a
        -- tenant_id is the segment in the columnstore: with it, few batches are read.
        WHERE a.session_id = id AND a.tenant_id = of_tenant AND a.ts >= lo AND a.ts < hi
        ORDER BY a.ts;
    ELSE
        RETURN QUERY
        SELECT
            h.bucket,
            h.participant_seconds::double precision / h.session_seconds,
            h.max_participants::integer,
            h.voice_seconds::double precision / h.session_seconds,
            h.video_seconds::double precision / h.session_seconds,
            h.dialin_seconds::double precision / h.session_seconds,
            h.filled_seconds > 0
        FROM meter.session_1h AS h
        WHERE
            h.session_id = id AND h.tenant_id = of_tenant
            AND h.bucket >= public.time_bucket(interval '${hour}', lo) AND h.bucket < hi
        ORDER BY h.bucket;
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.session_course IS
'The course of one session: its samples for up to six hours, else means of hours. filled is true '
'if the sample, or a part of the hour, was interpolated.';

-- Sessions (no breakouts) that began in [since, until), a row each, with classes of size (maximum
-- of participants, see meter.size_class) and length for charts: of `tenants`, or of all (NULL).
CREATE OR REPLACE FUNCTION meter.session_starts(
    since timestamptz, until timestamptz, tenants text[] DEFAULT NULL
)
RETURNS TABLE (
    started_at timestamptz,
    ended_at timestamptz,
    tenant_id integer,
    size_class integer,
    size_label text,
    length_class integer,
    length_label text,
    origin text,
    participant_seconds bigint
)
LANGUAGE sql
STABLE PARALLEL SAFE
AS $fn$
    SELECT
        s.started_at,
        s.ended_at,
        s.tenant_id,
        k.size_class,
        (ARRAY['1', '2', '3–5', '6–10', '11–20', '21–50', '51–100', '101–200', '> 200'])
            [k.size_class],
        k.length_class,
        (ARRAY[
            '< 5 min', '5–15 min', '15–30 min', '30–60 min', '1–1½ h', '1½–2 h', '2–4 h', '> 4 h'
        ])[k.length_class],
        coalesce(s.origin, 'unknown'),
        s.participant_seconds
    FROM meter.session AS s
    CROSS JOIN LATERAL (
        SELECT
            meter.size_class(s.max_participants) AS size_class,
            width_bucket(
                s.duration_seconds, ARRAY[0, 300, 900, 1800, 3600, 5400, 7200, 14400]
            ) AS length_class
    ) AS k
    WHERE
        NOT s.breakout AND s.started_at >= since AND s.started_at < until
        AND (tenants IS NULL OR s.tenant_id IN (
            SELECT t.id FROM meter.tenant AS t WHERE t.name = ANY(tenants)
        ))
$fn$;

COMMENT ON FUNCTION meter.session_starts IS
'Sessions (no breakouts) that began in [since, until), a row each, with classes of size and length '
'for charts: of some tenants, or of all (NULL).';
