-- A session's figures are always computed from its samples, so that a crash or a replay cannot
-- falsify them.

-- Update every open session, and close those that have ended. Returns the number of rows written. A
-- session has ended when successful polls of its server (at least one) that stand for close_after_s
-- seconds have not seen it, or when its server is no longer polled. A session ends half a poll
-- interval after its last sample.
CREATE OR REPLACE FUNCTION meter.update_sessions(close_after_s integer) RETURNS integer
LANGUAGE plpgsql
AS $fn$
DECLARE
    touched integer;
    -- Older chunks are in the columnstore: a search for open sessions would read all of them.
    horizon timestamptz := (SELECT max(p.ts) FROM meter.poll AS p) - interval '30 days';
BEGIN
    UPDATE meter.session AS s
    SET
        last_seen_at = f.last_seen_at,
        ended_at = CASE WHEN f.has_ended THEN f.seen_until END,
        -- The server's clock can be ahead; a duration is never negative.
        duration_seconds = extract(
            EPOCH FROM f.seen_until - least(s.started_at, s.first_seen_at)
        ),
        session_seconds = f.seconds,
        participant_seconds = f.participant_seconds,
        voice_seconds = f.voice_seconds,
        video_seconds = f.video_seconds,
        dialin_seconds = f.dialin_seconds,
        filled_seconds = f.filled_seconds,
        max_participants = f.max_participants,
        mean_participants = f.participant_seconds::double precision / f.seconds
    FROM (
        SELECT
            o.session_id,
            o.started_at,
            x.*,
            (
                SELECT coalesce(sum(p.seconds), 0) >= greatest(close_after_s, 1)
                FROM meter.poll AS p
                WHERE p.server_id = o.server_id AND p.ts > x.last_seen_at AND p.ok
            )
            OR NOT EXISTS (
                SELECT FROM meter.server_due AS d
                WHERE d.server_id = o.server_id AND d.until IS NULL
            ) AS has_ended
        FROM meter.session AS o
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
            WHERE a.session_id = o.session_id AND a.ts >= o.first_seen_at
        ) AS x
        WHERE o.ended_at IS NULL AND o.started_at >= horizon AND x.last_seen_at IS NOT NULL
    ) AS f
    WHERE s.session_id = f.session_id AND s.started_at = f.started_at;
    GET DIAGNOSTICS touched = ROW_COUNT;
    RETURN touched;
END
$fn$;

COMMENT ON FUNCTION meter.update_sessions IS
'Computes the figures of open sessions from their samples. Closes a session when successful polls '
'of its server that stand for close_after_s seconds have not seen it, or when its server is no '
'longer polled. Returns the number of rows written.';
