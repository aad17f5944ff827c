-- A session's figures are always computed from its samples, so that a crash or a replay cannot
-- falsify them.

-- Whether successful polls that stand for close_after_s seconds (at least one) have not seen a
-- session since last_seen_at, or its server is no longer polled. A poll that could not read all its
-- meetings does not count for those that it could not read.
CREATE OR REPLACE FUNCTION meter.has_ended(
    server_id integer, session_id bigint, last_seen_at timestamptz, close_after_s integer
)
RETURNS boolean
LANGUAGE sql
STABLE
AS $fn$
    SELECT
        (
            SELECT coalesce(sum(p.seconds), 0) >= greatest(close_after_s, 1)
            FROM meter.poll AS p
            WHERE p.server_id = has_ended.server_id AND p.ts > has_ended.last_seen_at AND p.ok
                AND NOT EXISTS (
                    SELECT FROM meter.unseen AS u
                    WHERE u.server_id = p.server_id AND u.ts = p.ts
                        AND (u.session_id IS NULL OR u.session_id = has_ended.session_id)
                )
        )
        OR NOT EXISTS (
            SELECT FROM meter.server_due AS d
            WHERE d.server_id = has_ended.server_id AND d.until IS NULL
        )
$fn$;

COMMENT ON FUNCTION meter.has_ended IS
'Whether successful polls that stand for close_after_s seconds have not seen a session after '
'last_seen_at, or its server is no longer polled.';

-- The figures of the open sessions that began in [since, until], from their samples. If a session
-- is so old that retention drops its first samples, its hours are read instead of them.
CREATE OR REPLACE FUNCTION meter.open_figures(since timestamptz, until timestamptz)
RETURNS TABLE (
    session_id bigint,
    started_at timestamptz,
    server_id integer,
    first_seen_at timestamptz,
    last_seen_at timestamptz,
    seen_until timestamptz,
    session_seconds bigint,
    participant_seconds bigint,
    voice_seconds bigint,
    video_seconds bigint,
    dialin_seconds bigint,
    filled_seconds bigint,
    max_participants integer
)
LANGUAGE plpgsql
STABLE
AS $fn$
#variable_conflict use_column
DECLARE
    -- Chunks are dropped as a whole: from the oldest one on, all samples are there.
    kept_since timestamptz := coalesce((
        SELECT min(c.range_start)
        FROM timescaledb_information.chunks AS c
        WHERE c.hypertable_schema = 'meter' AND c.hypertable_name = 'sample'
    ), now());
BEGIN
    RETURN QUERY
    SELECT
        s.session_id, s.started_at, s.server_id, s.first_seen_at,
        max(x.last_seen_at), max(x.seen_until), sum(x.seconds)::bigint,
        sum(x.participant_seconds)::bigint, sum(x.voice_seconds)::bigint,
        sum(x.video_seconds)::bigint, sum(x.dialin_seconds)::bigint,
        sum(x.filled_seconds)::bigint, max(x.max_participants)::integer
    FROM meter.open_session AS o
    INNER JOIN meter.session AS s
        ON o.session_id = s.session_id AND o.started_at = s.started_at
    CROSS JOIN LATERAL (
        SELECT
            max(a.ts) AS last_seen_at,
            max(a.ts + make_interval(secs => a.seconds / 2.0)) AS seen_until,
            sum(a.seconds) AS seconds,
            sum(a.participants::integer * a.seconds) AS participant_seconds,
            sum(a.voice::integer * a.seconds) AS voice_seconds,
            sum(a.video::integer * a.seconds) AS video_seconds,
            sum(a.dialins::integer * a.seconds) AS dialin_seconds,
            coalesce(sum(a.seconds) FILTER (WHERE a.filled), 0) AS filled_seconds,
            max(a.participants) AS max_participants
        FROM meter.sample AS a
        WHERE a.session_id = s.session_id AND a.ts >= s.first_seen_at AND a.ts >= kept_since
        UNION ALL
        SELECT
            -- A session without later samples keeps its end.
            CASE WHEN count(*) > 0 THEN coalesce(s.last_seen_at, max(h.bucket)) END,
            CASE WHEN count(*) > 0 THEN coalesce(s.last_seen_at, max(h.bucket)) END,
            sum(h.session_seconds),
            sum(h.participant_seconds),
            sum(h.voice_seconds),
            sum(h.video_seconds),
            sum(h.dialin_seconds),
            sum(h.filled_seconds),
            max(h.max_participants)
        FROM meter.session_1h AS h
        WHERE s.first_seen_at < kept_since AND h.session_id = s.session_id
            AND h.bucket >= public.time_bucket('${hour}', s.first_seen_at)
            AND h.bucket < kept_since
    ) AS x
    WHERE o.started_at >= since AND o.started_at <= until
        AND s.started_at >= since AND s.started_at <= until
    GROUP BY s.session_id, s.started_at, s.server_id, s.first_seen_at
    HAVING sum(x.seconds) > 0;
END
$fn$;

COMMENT ON FUNCTION meter.open_figures IS
'The figures of the open sessions that began in [since, until], computed from their samples.';

-- Update every open session, and close those that have ended. Returns the number of rows written. A
-- session has ended when successful polls of its server (at least one) that stand for close_after_s
-- seconds have not seen it, or when its server is no longer polled. A poll does not count here if
-- the session can be among those that it could not read. A session ends half a poll interval after
-- its last sample. Its duration is the time from its creation to its end, without the time in
-- between that no sample stands for.
CREATE OR REPLACE FUNCTION meter.update_sessions(close_after_s integer) RETURNS integer
LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    recent timestamptz := now() - interval '25 days';
    span record;
    written integer;
    touched integer := 0;
BEGIN
    FOR span IN
        SELECT recent AS since, now() + interval '100 years' AS until
        UNION ALL
        -- Older rows are in the columnstore. There, an update over a span of time would turn all
        -- rows of the span into rows again.
        SELECT DISTINCT o.started_at, o.started_at
        FROM meter.open_session AS o
        WHERE o.started_at < recent
    LOOP
        UPDATE meter.session AS s
        SET
            last_seen_at = f.last_seen_at,
            ended_at = CASE
                WHEN meter.has_ended(f.server_id, f.session_id, f.last_seen_at, close_after_s)
                    THEN f.seen_until
            END,
            duration_seconds =
                -- The server's clock can be ahead; a duration is never negative.
                greatest(extract(EPOCH FROM f.first_seen_at - f.started_at), 0)
                + f.session_seconds - extract(EPOCH FROM f.seen_until - f.last_seen_at),
            session_seconds = f.session_seconds,
            participant_seconds = f.participant_seconds,
            voice_seconds = f.voice_seconds,
            video_seconds = f.video_seconds,
            dialin_seconds = f.dialin_seconds,
            filled_seconds = f.filled_seconds,
            max_participants = f.max_participants,
            mean_participants = f.participant_seconds::double precision / f.session_seconds
        FROM meter.open_figures(span.since, span.until) AS f
        WHERE s.session_id = f.session_id AND s.started_at = f.started_at
            AND s.started_at >= span.since AND s.started_at <= span.until;
        GET DIAGNOSTICS written = ROW_COUNT;
        touched := touched + written;
        DELETE FROM meter.empty_session AS e USING meter.open_session AS o, meter.session AS s
        WHERE e.session_id = o.session_id AND NOT e.is_known
            AND o.session_id = s.session_id AND o.started_at = s.started_at
            AND s.started_at >= span.since AND s.started_at <= span.until
            AND s.max_participants > 0;
        DELETE FROM meter.open_session AS o USING meter.session AS s
        WHERE o.session_id = s.session_id AND o.started_at = s.started_at
            AND s.started_at >= span.since AND s.started_at <= span.until
            AND s.ended_at IS NOT NULL;
    END LOOP;
    RETURN touched;
END
$fn$;

COMMENT ON FUNCTION meter.update_sessions IS
'Computes the figures of open sessions from their samples. Closes a session when successful polls '
'of its server that stand for close_after_s seconds have not seen it, or when its server is no '
'longer polled. Returns the number of rows written.';

-- Open sessions again, given by session_id and started_at, so that meter.update_sessions computes
-- them again. Returns their number.
CREATE OR REPLACE FUNCTION meter.reopen_sessions(ids bigint[], starts timestamptz[])
RETURNS integer
LANGUAGE plpgsql
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    recent timestamptz := now() - interval '25 days';
    span record;
    opened integer;
    total integer := 0;
BEGIN
    -- As in meter.update_sessions: rows in the columnstore are updated one by one.
    FOR span IN
        SELECT recent AS since, now() + interval '100 years' AS until
        UNION ALL
        SELECT DISTINCT x.start, x.start FROM unnest(starts) AS x (start) WHERE x.start < recent
    LOOP
        WITH given AS (
            SELECT DISTINCT x.session_id, x.started_at
            FROM unnest(ids, starts) AS x (session_id, started_at)
        ), reopened AS (
            UPDATE meter.session AS s SET ended_at = NULL
            FROM given AS g
            WHERE s.session_id = g.session_id AND s.started_at = g.started_at
                AND s.started_at >= span.since AND s.started_at <= span.until
            RETURNING s.session_id, s.started_at
        )
        INSERT INTO meter.open_session (session_id, started_at)
        SELECT r.session_id, r.started_at FROM reopened AS r
        ON CONFLICT (session_id) DO NOTHING;
        GET DIAGNOSTICS opened = ROW_COUNT;
        total := total + opened;
    END LOOP;
    RETURN total;
END
$fn$;

COMMENT ON FUNCTION meter.reopen_sessions IS
'Opens sessions again, given by session_id and started_at, so that meter.update_sessions computes '
'them again. Returns the number of those that had ended.';
