-- Usage between two instants, from the coarsest rollups that cover the period exactly.

CREATE OR REPLACE FUNCTION meter.usage_between(since timestamptz, until timestamptz)
RETURNS TABLE (
    bucket timestamptz,
    tenant_id integer,
    participant_seconds bigint,
    voice_seconds bigint,
    video_seconds bigint,
    dialin_seconds bigint,
    session_seconds bigint,
    filled_seconds bigint,
    breakout_participant_seconds bigint,
    max_session_size integer,
    peak_minute bigint[],
    peak_sessions_minute bigint[]
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    tile record;
BEGIN
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        CASE tile.grain
        WHEN 'day' THEN
            RETURN QUERY
            SELECT u.bucket, u.tenant_id, u.participant_seconds, u.voice_seconds, u.video_seconds,
                u.dialin_seconds, u.session_seconds, u.filled_seconds, u.breakout_participant_seconds,
                u.max_session_size::integer, u.peak_minute, u.peak_sessions_minute
            FROM meter.usage_1d AS u
            WHERE u.bucket >= tile.lo AND u.bucket < tile.hi;
        WHEN 'hour' THEN
            PERFORM meter.require_kept('usage_1h', tile.lo, ${retention_usage_1h});
            RETURN QUERY
            SELECT u.bucket, u.tenant_id, u.participant_seconds, u.voice_seconds, u.video_seconds,
                u.dialin_seconds, u.session_seconds, u.filled_seconds, u.breakout_participant_seconds,
                u.max_session_size::integer, u.peak_minute, u.peak_sessions_minute
            FROM meter.usage_1h AS u
            WHERE u.bucket >= tile.lo AND u.bucket < tile.hi;
        WHEN 'minute' THEN
            PERFORM meter.require_kept('usage_1m', tile.lo, ${retention_usage_1m});
            RETURN QUERY
            SELECT u.bucket, u.tenant_id, u.participant_seconds, u.voice_seconds, u.video_seconds,
                u.dialin_seconds, u.session_seconds, u.filled_seconds, u.breakout_participant_seconds,
                u.max_session_size::integer,
                ARRAY[u.participant_seconds, -extract(EPOCH FROM u.bucket)::bigint],
                ARRAY[u.session_seconds, -extract(EPOCH FROM u.bucket)::bigint]
            FROM meter.usage_1m AS u
            WHERE u.bucket >= tile.lo AND u.bucket < tile.hi;
        END CASE;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.usage_between IS
'Rows of the usage rollups that together cover [since, until) exactly; a row covers a day at most. '
'Columns as in meter.usage_1d.';

-- The sessions (no breakouts) that began between two instants. A session counts once, in the period
-- in which it began, so that the months add up.
CREATE OR REPLACE FUNCTION meter.sessions_between(since timestamptz, until timestamptz)
RETURNS TABLE (
    bucket timestamptz,
    tenant_id integer,
    sessions bigint,
    duration_seconds double precision,
    max_duration_seconds double precision,
    mean_participants_sum double precision,
    large_sessions bigint
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    tile record;
BEGIN
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        IF tile.grain = 'day' THEN
            RETURN QUERY
            SELECT d.bucket, d.tenant_id, d.sessions, d.duration_seconds, d.max_duration_seconds,
                d.mean_participants_sum, d.large_sessions
            FROM meter.session_1d AS d
            WHERE d.bucket >= tile.lo AND d.bucket < tile.hi;
        ELSE
            PERFORM meter.require_kept('session', tile.lo, ${retention_session});
            RETURN QUERY
            SELECT s.started_at, s.tenant_id, 1::bigint, coalesce(s.duration_seconds, 0),
                coalesce(s.duration_seconds, 0), coalesce(s.mean_participants, 0),
                (s.max_participants > ${large_session_participants})::integer::bigint
            FROM meter.session AS s
            WHERE s.started_at >= tile.lo AND s.started_at < tile.hi AND NOT s.breakout;
        END IF;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.sessions_between IS
'Sessions (no breakouts) that began in [since, until), in rows that together cover it exactly; a '
'row covers a day at most. Columns as in meter.session_1d.';

-- Usage of each session between two instants.
CREATE OR REPLACE FUNCTION meter.session_usage_between(since timestamptz, until timestamptz)
RETURNS TABLE (
    tenant_id integer,
    server_id integer,
    session_id bigint,
    breakout boolean,
    participant_seconds bigint,
    voice_seconds bigint,
    video_seconds bigint,
    dialin_seconds bigint,
    session_seconds bigint,
    filled_seconds bigint,
    max_participants integer
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    tile record;
BEGIN
    FOR tile IN
        -- There is no rollup of each session by the day: days are read by the hour.
        SELECT CASE t.grain WHEN 'day' THEN 'hour' ELSE t.grain END AS grain, t.lo, t.hi
        FROM meter.tiles(since, until) AS t
    LOOP
        IF tile.grain = 'hour' THEN
            PERFORM meter.require_kept('session_1h', tile.lo, ${retention_session_1h});
            RETURN QUERY
            SELECT u.tenant_id, u.server_id, u.session_id, u.breakout, u.participant_seconds,
                u.voice_seconds, u.video_seconds, u.dialin_seconds, u.session_seconds,
                u.filled_seconds, u.max_participants::integer
            FROM meter.session_1h AS u
            WHERE u.bucket >= tile.lo AND u.bucket < tile.hi;
        ELSE
            PERFORM meter.require_kept('sample', tile.lo, ${retention_sample});
            RETURN QUERY
            SELECT a.tenant_id, a.server_id, a.session_id, a.breakout,
                sum(a.participants::integer * a.seconds), sum(a.voice::integer * a.seconds),
                sum(a.video::integer * a.seconds), sum(a.dialins::integer * a.seconds),
                sum(a.seconds), coalesce(sum(a.seconds) FILTER (WHERE a.filled), 0),
                max(a.participants)::integer
            FROM meter.sample AS a
            WHERE a.ts >= tile.lo AND a.ts < tile.hi
            GROUP BY a.tenant_id, a.server_id, a.session_id, a.breakout;
        END IF;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.session_usage_between IS
'Usage of each session (also breakouts) in [since, until), in rows that together cover it exactly; '
'a row covers an hour at most. Columns as in meter.session_1h.';
