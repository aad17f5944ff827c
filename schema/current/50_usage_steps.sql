-- Usage in equal steps, for charts: what meter.concurrency and meter.fleet_concurrency are made of.
--
-- Functions that read rollups for charts are PL/pgSQL, with custom plans. PostgreSQL puts the body
-- of a SQL function into the query that calls it, and there TimescaleDB determines for each row
-- again how far a rollup is computed, which takes ten times as long.

-- Usage of each tenant, or of those in `of_tenants`, by step, from the coarsest rollup that has it.
CREATE OR REPLACE FUNCTION meter.usage_steps(
    since timestamptz, until timestamptz, step interval, of_tenants integer[] DEFAULT NULL
)
RETURNS TABLE (
    ts timestamptz,
    tenant_id integer,
    participant_seconds bigint,
    voice_seconds bigint,
    video_seconds bigint,
    dialin_seconds bigint,
    session_seconds bigint,
    filled_seconds bigint,
    breakout_participant_seconds bigint,
    peak_minute bigint[],
    peak_sessions_minute bigint[]
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.steps_end(step, until);
BEGIN
    RETURN QUERY
    SELECT
        meter.step_of(step, u.bucket),
        u.tenant_id,
        sum(u.participant_seconds)::bigint,
        sum(u.voice_seconds)::bigint,
        sum(u.video_seconds)::bigint,
        sum(u.dialin_seconds)::bigint,
        sum(u.session_seconds)::bigint,
        sum(u.filled_seconds)::bigint,
        sum(u.breakout_participant_seconds)::bigint,
        max(u.peak_minute),
        max(u.peak_sessions_minute)
    FROM (
        SELECT
            m.bucket, m.tenant_id, m.participant_seconds, m.voice_seconds, m.video_seconds,
            m.dialin_seconds, m.session_seconds, m.filled_seconds, m.breakout_participant_seconds,
            ARRAY[m.participant_seconds, -extract(EPOCH FROM m.bucket)::bigint]
                AS peak_minute,
            ARRAY[m.session_seconds, -extract(EPOCH FROM m.bucket)::bigint] AS peak_sessions_minute
        FROM meter.usage_1m AS m
        WHERE step < interval '1 hour'
        UNION ALL
        SELECT
            h.bucket, h.tenant_id, h.participant_seconds, h.voice_seconds, h.video_seconds,
            h.dialin_seconds, h.session_seconds, h.filled_seconds, h.breakout_participant_seconds,
            h.peak_minute, h.peak_sessions_minute
        FROM meter.usage_1h AS h
        WHERE step >= interval '1 hour' AND step < interval '1 day'
        UNION ALL
        SELECT
            d.bucket, d.tenant_id, d.participant_seconds, d.voice_seconds, d.video_seconds,
            d.dialin_seconds, d.session_seconds, d.filled_seconds, d.breakout_participant_seconds,
            d.peak_minute, d.peak_sessions_minute
        FROM meter.usage_1d AS d
        WHERE step >= interval '1 day'
    ) AS u
    WHERE
        u.bucket >= meter.step_of(step, since) AND u.bucket < steps_end
        AND (of_tenants IS NULL OR u.tenant_id = ANY(of_tenants))
    GROUP BY 1, 2;
END
$fn$;

COMMENT ON FUNCTION meter.usage_steps IS
'Usage of each tenant, or of those in of_tenants, summed by step. Columns as in meter.usage_1h.';

-- The first step of which meter.fleet_1h has all hours.
CREATE OR REPLACE FUNCTION meter.fleet_hours_since(step interval) RETURNS timestamptz
LANGUAGE sql
STABLE
AS $fn$
    SELECT CASE
        WHEN ${retention_fleet_1h} = 0 THEN '-infinity'
        ELSE meter.step_end(
            step, meter.step_of(step, now() - make_interval(days => ${retention_fleet_1h}))
        )
    END
$fn$;

COMMENT ON FUNCTION meter.fleet_hours_since IS
'The first step of which meter.fleet_1h still has all hours.';

-- Usage of all tenants together, by step. There is no rollup of the fleet by the day: where its
-- hours are no longer kept, steps of days have the sums of the tenants, and no peaks (NULL).
CREATE OR REPLACE FUNCTION meter.fleet_steps(
    since timestamptz, until timestamptz, step interval
)
RETURNS TABLE (
    ts timestamptz,
    participant_seconds bigint,
    voice_seconds bigint,
    video_seconds bigint,
    dialin_seconds bigint,
    session_seconds bigint,
    filled_seconds bigint,
    breakout_participant_seconds bigint,
    peak_minute bigint[],
    peak_sessions_minute bigint[]
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.steps_end(step, until);
    hours_since timestamptz := meter.fleet_hours_since(step);
BEGIN
    RETURN QUERY
    SELECT
        meter.step_of(step, u.bucket),
        sum(u.participant_seconds)::bigint,
        sum(u.voice_seconds)::bigint,
        sum(u.video_seconds)::bigint,
        sum(u.dialin_seconds)::bigint,
        sum(u.session_seconds)::bigint,
        sum(u.filled_seconds)::bigint,
        sum(u.breakout_participant_seconds)::bigint,
        max(u.peak_minute),
        max(u.peak_sessions_minute)
    FROM (
        SELECT
            m.bucket, m.participant_seconds, m.voice_seconds, m.video_seconds,
            m.dialin_seconds, m.session_seconds, m.filled_seconds, m.breakout_participant_seconds,
            ARRAY[m.participant_seconds, -extract(EPOCH FROM m.bucket)::bigint]
                AS peak_minute,
            ARRAY[m.session_seconds, -extract(EPOCH FROM m.bucket)::bigint] AS peak_sessions_minute
        FROM meter.fleet_1m AS m
        WHERE step < interval '1 hour'
        UNION ALL
        SELECT
            h.bucket, h.participant_seconds, h.voice_seconds, h.video_seconds,
            h.dialin_seconds, h.session_seconds, h.filled_seconds, h.breakout_participant_seconds,
            h.peak_minute, h.peak_sessions_minute
        FROM meter.fleet_1h AS h
        WHERE step >= interval '1 hour' AND (step < interval '1 day' OR h.bucket >= hours_since)
        UNION ALL
        SELECT
            d.bucket, d.participant_seconds, d.voice_seconds, d.video_seconds,
            d.dialin_seconds, d.session_seconds, d.filled_seconds, d.breakout_participant_seconds,
            NULL, NULL
        FROM meter.usage_1d AS d
        WHERE step >= interval '1 day' AND d.bucket < hours_since
    ) AS u
    WHERE u.bucket >= meter.step_of(step, since) AND u.bucket < steps_end
    GROUP BY 1;
END
$fn$;

COMMENT ON FUNCTION meter.fleet_steps IS
'Usage of all tenants together, summed by step. Columns as in meter.fleet_1h. Peaks are NULL where '
'meter.fleet_1h is no longer kept.';
