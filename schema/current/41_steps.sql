-- Series for charts: usage, load and coverage in equal steps. A step in which nothing was seen has
-- NULL, not zero; one that is not over yet has no row, for its mean would be too low.
--
-- What reads rollups is PL/pgSQL: a SQL function becomes a part of the query that calls it, where
-- TimescaleDB looks up anew for each row how far a rollup is computed (ten times the time).

-- The step of a chart of [since, until) that asks for steps of `wanted`: one that rollups have, and
-- so wide that few rows are read. Minutes over two days and as long as they are kept, else hours
-- or days.
CREATE OR REPLACE FUNCTION meter.chart_step(
    since timestamptz, until timestamptz, wanted interval
) RETURNS interval
LANGUAGE sql
STABLE
AS $fn$
    SELECT coalesce(
        (
            SELECT min(s.width)
            FROM unnest(ARRAY[
                '1 minute', '2 minutes', '5 minutes', '10 minutes', '20 minutes', '30 minutes',
                '1 hour', '2 hours', '3 hours', '6 hours', '1 day', '7 days'
            ]::interval[]) AS s (width)
            WHERE
                s.width >= wanted
                AND s.width >= CASE
                    WHEN until - since > interval '2 days' THEN interval '1 hour'
                    WHEN ${retention_usage_1m} > 0
                        AND since < now() - make_interval(days => ${retention_usage_1m})
                        THEN interval '1 hour'
                    ELSE interval '1 minute'
                END
        ),
        interval '7 days'
    )
$fn$;

-- The beginning of the step that an instant lies in. Days and weeks are those of the billing zone.
CREATE OR REPLACE FUNCTION meter.step_of(step interval, instant timestamptz) RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN CASE
    WHEN step < interval '1 day' THEN public.time_bucket(step, instant)
    ELSE public.time_bucket(step, instant, meter.billing_timezone())
END;

-- The end of the step that begins at an instant.
CREATE OR REPLACE FUNCTION meter.step_end(step interval, beginning timestamptz) RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN CASE
    WHEN step < interval '1 day' THEN beginning + step
    -- Added in local time: a day has 23 or 25 hours when the clocks change.
    ELSE
        (beginning AT TIME ZONE meter.billing_timezone() + step)
        AT TIME ZONE meter.billing_timezone()
END;

-- The steps [ts, hi) of [since, until) that are over, the first and the last one whole.
CREATE OR REPLACE FUNCTION meter.steps(since timestamptz, until timestamptz, step interval)
RETURNS TABLE (ts timestamptz, hi timestamptz)
LANGUAGE sql
STABLE
AS $fn$
    SELECT g.ts, g.hi
    FROM (
        SELECT s.ts, meter.step_end(step, s.ts) AS hi
        FROM generate_series(
            meter.step_of(step, since), until - interval '1 microsecond', step,
            CASE WHEN step < interval '1 day' THEN 'UTC' ELSE meter.billing_timezone() END
        ) AS s (ts)
    ) AS g
    WHERE g.hi <= date_trunc('minute', now()) - interval '1 minute'
$fn$;

-- The ids of the servers named; NULL where all are asked for, by their names too: then nothing is
-- to be compared.
CREATE OR REPLACE FUNCTION meter.chosen_servers(servers text[]) RETURNS integer[]
LANGUAGE sql
STABLE
AS $fn$
    SELECT CASE WHEN count(*) FILTER (WHERE v.name = ANY(servers)) < count(*) THEN
        coalesce(array_agg(v.id) FILTER (WHERE v.name = ANY(servers)), '{}')
    END
    FROM meter.server AS v
    WHERE servers IS NOT NULL
$fn$;

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
    breakout_seconds bigint,
    peak_participants bigint[],
    peak_sessions bigint[]
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.step_end(
        step, meter.step_of(step, until - interval '1 microsecond')
    );
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
        sum(u.breakout_seconds)::bigint,
        max(u.peak_participants),
        max(u.peak_sessions)
    FROM (
        SELECT
            m.bucket, m.tenant_id, m.participant_seconds, m.voice_seconds, m.video_seconds,
            m.dialin_seconds, m.session_seconds, m.filled_seconds, m.breakout_seconds,
            ARRAY[m.participant_seconds, -extract(EPOCH FROM m.bucket)::bigint]
                AS peak_participants,
            ARRAY[m.session_seconds, -extract(EPOCH FROM m.bucket)::bigint] AS peak_sessions
        FROM meter.usage_1m AS m
        WHERE step < interval '1 hour'
        UNION ALL
        SELECT
            h.bucket, h.tenant_id, h.participant_seconds, h.voice_seconds, h.video_seconds,
            h.dialin_seconds, h.session_seconds, h.filled_seconds, h.breakout_seconds,
            h.peak_participants, h.peak_sessions
        FROM meter.usage_1h AS h
        WHERE step >= interval '1 hour' AND step < interval '1 day'
        UNION ALL
        SELECT
            d.bucket, d.tenant_id, d.participant_seconds, d.voice_seconds, d.video_seconds,
            d.dialin_seconds, d.session_seconds, d.filled_seconds, d.breakout_seconds,
            d.peak_participants, d.peak_sessions
        FROM meter.usage_1d AS d
        WHERE step >= interval '1 day'
    ) AS u
    WHERE
        u.bucket >= meter.step_of(step, since) AND u.bucket < steps_end
        AND (of_tenants IS NULL OR u.tenant_id = ANY(of_tenants))
    GROUP BY 1, 2;
END
$fn$;

-- Usage of all tenants together, by step.
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
    breakout_seconds bigint,
    peak_participants bigint[],
    peak_sessions bigint[]
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.step_end(
        step, meter.step_of(step, until - interval '1 microsecond')
    );
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
        sum(u.breakout_seconds)::bigint,
        max(u.peak_participants),
        max(u.peak_sessions)
    FROM (
        SELECT
            m.bucket, m.participant_seconds, m.voice_seconds, m.video_seconds,
            m.dialin_seconds, m.session_seconds, m.filled_seconds, m.breakout_seconds,
            ARRAY[m.participant_seconds, -extract(EPOCH FROM m.bucket)::bigint]
                AS peak_participants,
            ARRAY[m.session_seconds, -extract(EPOCH FROM m.bucket)::bigint] AS peak_sessions
        FROM meter.fleet_1m AS m
        WHERE step < interval '1 hour'
        UNION ALL
        SELECT
            h.bucket, h.participant_seconds, h.voice_seconds, h.video_seconds,
            h.dialin_seconds, h.session_seconds, h.filled_seconds, h.breakout_seconds,
            h.peak_participants, h.peak_sessions
        FROM meter.fleet_1h AS h
        WHERE step >= interval '1 hour'
    ) AS u
    WHERE u.bucket >= meter.step_of(step, since) AND u.bucket < steps_end
    GROUP BY 1;
END
$fn$;

-- Of each step, over all servers or those in `of_servers` together: how many seconds polls were due
-- for, and how many successful ones cover. Only what is over by the end of the last step.
CREATE OR REPLACE FUNCTION meter.coverage_steps(
    since timestamptz, until timestamptz, step interval, of_servers integer[] DEFAULT NULL
)
RETURNS TABLE (ts timestamptz, due_seconds double precision, covered_seconds bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.step_end(
        step, meter.step_of(step, until - interval '1 microsecond')
    );
BEGIN
    RETURN QUERY
    WITH grid AS MATERIALIZED (
        SELECT g.ts, g.hi FROM meter.steps(since, until, step) AS g
    ),

    -- Nearly all servers are due all the time: only the others are looked at step by step.
    span AS MATERIALIZED (
        SELECT
            d.since, d.until,
            d.since <= f.lo AND (d.until IS NULL OR d.until >= f.hi) AS throughout
        FROM (SELECT min(g.ts) AS lo, max(g.hi) AS hi FROM grid AS g) AS f
        INNER JOIN meter.server_due AS d
            ON d.since < f.hi AND (d.until IS NULL OR d.until > f.lo)
        WHERE of_servers IS NULL OR d.server_id = ANY(of_servers)
    ),

    due AS (
        SELECT
            g.ts,
            (
                (SELECT count(*) FROM span AS a WHERE a.throughout)
                * extract(EPOCH FROM g.hi - g.ts)
                + coalesce((
                    SELECT sum(extract(EPOCH FROM least(g.hi, a.until) - greatest(g.ts, a.since)))
                    FROM span AS a
                    WHERE
                        NOT a.throughout AND a.since < g.hi
                        AND (a.until IS NULL OR a.until > g.ts)
                ), 0)
            )::double precision AS seconds
        FROM grid AS g
    ),

    seen AS (
        SELECT meter.step_of(step, x.bucket) AS ts, sum(x.covered_seconds)::bigint AS seconds
        FROM (
            -- Added up here already, where it is done chunk by chunk: they are many.
            SELECT meter.step_of(step, p.ts) AS bucket, sum(p.seconds) AS covered_seconds
            FROM meter.poll AS p
            WHERE
                step < interval '1 hour' AND p.ok
                AND p.ts >= meter.step_of(step, since) AND p.ts < steps_end
                AND (of_servers IS NULL OR p.server_id = ANY(of_servers))
            GROUP BY 1
            UNION ALL
            SELECT h.bucket, h.covered_seconds
            FROM meter.server_1h AS h
            WHERE
                step >= interval '1 hour' AND step < interval '1 day'
                AND h.bucket >= meter.step_of(step, since) AND h.bucket < steps_end
                AND (of_servers IS NULL OR h.server_id = ANY(of_servers))
            UNION ALL
            SELECT d.bucket, d.covered_seconds
            FROM meter.server_1d AS d
            WHERE
                step >= interval '1 day'
                AND d.bucket >= meter.step_of(step, since) AND d.bucket < steps_end
                AND (of_servers IS NULL OR d.server_id = ANY(of_servers))
        ) AS x
        GROUP BY 1
    )

    SELECT d.ts, d.seconds, least(coalesce(s.seconds, 0), ceil(d.seconds)::bigint)
    FROM due AS d
    LEFT JOIN seen AS s ON d.ts = s.ts
    WHERE d.seconds > 0;
END
$fn$;

-- The same of each server, or of each in `of_servers`, and what its polls saw.
CREATE OR REPLACE FUNCTION meter.server_steps(
    since timestamptz, until timestamptz, step interval, of_servers integer[] DEFAULT NULL
)
RETURNS TABLE (
    ts timestamptz,
    server_id integer,
    due_seconds double precision,
    covered_seconds bigint,
    participant_seconds bigint,
    session_seconds bigint,
    max_participants integer,
    max_sessions integer,
    polls bigint,
    ok_polls bigint,
    latency_ms bigint,
    max_latency_ms integer
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.step_end(
        step, meter.step_of(step, until - interval '1 microsecond')
    );
BEGIN
    RETURN QUERY
    WITH grid AS MATERIALIZED (
        SELECT g.ts, g.hi, extract(EPOCH FROM g.hi - g.ts)::double precision AS seconds
        FROM meter.steps(since, until, step) AS g
    ),

    due AS (
        SELECT
            g.ts,
            d.server_id,
            sum(CASE
                WHEN d.since <= g.ts AND (d.until IS NULL OR d.until >= g.hi) THEN g.seconds
                ELSE extract(EPOCH FROM least(g.hi, d.until) - greatest(g.ts, d.since))
            END::double precision) AS seconds
        FROM grid AS g
        INNER JOIN meter.server_due AS d
            ON g.hi > d.since AND (d.until IS NULL OR g.ts < d.until)
        WHERE of_servers IS NULL OR d.server_id = ANY(of_servers)
        GROUP BY g.ts, d.server_id
    ),

    seen AS (
        SELECT
            meter.step_of(step, x.bucket) AS ts,
            x.server_id,
            sum(x.covered_seconds)::bigint AS covered_seconds,
            sum(x.participant_seconds)::bigint AS participant_seconds,
            sum(x.session_seconds)::bigint AS session_seconds,
            max(x.max_participants) AS max_participants,
            max(x.max_sessions) AS max_sessions,
            sum(x.polls)::bigint AS polls,
            sum(x.ok_polls)::bigint AS ok_polls,
            sum(x.latency_ms)::bigint AS latency_ms,
            max(x.max_latency_ms) AS max_latency_ms
        FROM (
            -- Added up here already, where it is done chunk by chunk: they are many.
            SELECT
                meter.step_of(step, p.ts) AS bucket,
                p.server_id,
                sum(CASE WHEN p.ok THEN p.seconds ELSE 0 END) AS covered_seconds,
                sum(p.participants * p.seconds) AS participant_seconds,
                sum(p.sessions * p.seconds) AS session_seconds,
                max(p.participants) AS max_participants,
                max(p.sessions) AS max_sessions,
                count(*) AS polls,
                sum(p.ok::integer) AS ok_polls,
                sum(CASE WHEN p.ok THEN p.latency_ms ELSE 0 END) AS latency_ms,
                max(CASE WHEN p.ok THEN p.latency_ms END) AS max_latency_ms
            FROM meter.poll AS p
            WHERE
                step < interval '1 hour'
                AND p.ts >= meter.step_of(step, since) AND p.ts < steps_end
                AND (of_servers IS NULL OR p.server_id = ANY(of_servers))
            GROUP BY 1, 2
            UNION ALL
            SELECT
                h.bucket, h.server_id, h.covered_seconds, h.participant_seconds,
                h.session_seconds, h.max_participants, h.max_sessions, h.polls, h.ok_polls,
                h.latency_ms, h.max_latency_ms
            FROM meter.server_1h AS h
            WHERE
                step >= interval '1 hour' AND step < interval '1 day'
                AND h.bucket >= meter.step_of(step, since) AND h.bucket < steps_end
                AND (of_servers IS NULL OR h.server_id = ANY(of_servers))
            UNION ALL
            SELECT
                d.bucket, d.server_id, d.covered_seconds, d.participant_seconds,
                d.session_seconds, d.max_participants, d.max_sessions, d.polls, d.ok_polls,
                d.latency_ms, d.max_latency_ms
            FROM meter.server_1d AS d
            WHERE
                step >= interval '1 day'
                AND d.bucket >= meter.step_of(step, since) AND d.bucket < steps_end
                AND (of_servers IS NULL OR d.server_id = ANY(of_servers))
        ) AS x
        GROUP BY 1, 2
    )

    SELECT
        d.ts,
        d.server_id,
        d.seconds,
        least(coalesce(s.covered_seconds, 0), ceil(d.seconds)::bigint),
        coalesce(s.participant_seconds, 0),
        coalesce(s.session_seconds, 0),
        s.max_participants,
        s.max_sessions,
        coalesce(s.polls, 0),
        coalesce(s.ok_polls, 0),
        coalesce(s.latency_ms, 0),
        s.max_latency_ms
    FROM due AS d
    LEFT JOIN seen AS s ON d.ts = s.ts AND d.server_id = s.server_id
    WHERE d.seconds > 0;
END
$fn$;

-- Usage, by step, of all tenants together: means over the step, and the highest minute in it. NULL
-- where no server was seen. `wanted` is the step that a chart would like; meter.chart_step decides.
CREATE OR REPLACE FUNCTION meter.fleet_concurrency(
    since timestamptz, until timestamptz, wanted interval
)
RETURNS TABLE (
    ts timestamptz,
    participants double precision,
    peak_participants double precision,
    sessions double precision,
    peak_sessions double precision,
    voice double precision,
    video double precision,
    dialins double precision,
    breakout_participants double precision,
    filled_share double precision,
    coverage double precision
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    step interval := meter.chart_step(since, until, wanted);
BEGIN
    RETURN QUERY
    WITH grid AS MATERIALIZED (
        SELECT g.ts, extract(EPOCH FROM g.hi - g.ts)::double precision AS seconds
        FROM meter.steps(since, until, step) AS g
    ),

    seen AS MATERIALIZED (
        SELECT c.ts, c.covered_seconds / c.due_seconds AS coverage
        FROM meter.coverage_steps(since, until, step) AS c
    ),

    used AS MATERIALIZED (
        SELECT u.* FROM meter.fleet_steps(since, until, step) AS u
    )

    SELECT
        g.ts,
        coalesce(u.participant_seconds, z.zero) / g.seconds,
        coalesce(u.peak_participants[1] / 60.0::double precision, z.zero),
        coalesce(u.session_seconds, z.zero) / g.seconds,
        coalesce(u.peak_sessions[1] / 60.0::double precision, z.zero),
        coalesce(u.voice_seconds, z.zero) / g.seconds,
        coalesce(u.video_seconds, z.zero) / g.seconds,
        coalesce(u.dialin_seconds, z.zero) / g.seconds,
        coalesce(u.breakout_seconds, z.zero) / g.seconds,
        u.filled_seconds::double precision / nullif(u.session_seconds, 0),
        s.coverage
    FROM grid AS g
    LEFT JOIN seen AS s ON g.ts = s.ts
    LEFT JOIN used AS u ON g.ts = u.ts
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.coverage > 0 THEN 0::double precision END AS zero
    ) AS z
    ORDER BY g.ts;
END
$fn$;

-- The same of each tenant in `tenants`, or of all that had sessions; with what its contract allows.
CREATE OR REPLACE FUNCTION meter.concurrency(
    since timestamptz, until timestamptz, wanted interval, tenants text[] DEFAULT NULL
)
RETURNS TABLE (
    ts timestamptz,
    tenant text,
    participants double precision,
    peak_participants double precision,
    sessions double precision,
    peak_sessions double precision,
    voice double precision,
    video double precision,
    dialins double precision,
    breakout_participants double precision,
    filled_share double precision,
    coverage double precision,
    max_participants integer
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    step interval := meter.chart_step(since, until, wanted);
    chosen integer[] := (
        SELECT coalesce(array_agg(t.id), '{}')
        FROM meter.tenant AS t
        WHERE tenants IS NULL OR t.name = ANY(tenants)
    );
BEGIN
    RETURN QUERY
    WITH grid AS MATERIALIZED (
        SELECT g.ts, extract(EPOCH FROM g.hi - g.ts)::double precision AS seconds
        FROM meter.steps(since, until, step) AS g
    ),

    used AS MATERIALIZED (
        SELECT u.* FROM meter.usage_steps(since, until, step, chosen) AS u
    ),

    shown AS MATERIALIZED (
        SELECT t.id, t.name
        FROM meter.tenant AS t
        WHERE
            t.id = ANY(chosen)
            AND (tenants IS NOT NULL OR t.id IN (SELECT u.tenant_id FROM used AS u))
    ),

    -- Few sets of servers: most tenants are on the shared ones.
    carrier AS MATERIALIZED (
        SELECT x.servers, array_agg(x.tenant_id) AS tenants
        FROM (
            SELECT a.tenant_id, array_agg(a.server_id ORDER BY a.server_id) AS servers
            FROM meter.tenant_server(since, until) AS a
            WHERE a.tenant_id IN (SELECT w.id FROM shown AS w)
            GROUP BY a.tenant_id
        ) AS x
        GROUP BY x.servers
    ),

    seen AS MATERIALIZED (
        SELECT c.ts, k.tenants, c.covered_seconds / c.due_seconds AS coverage
        FROM carrier AS k
        CROSS JOIN LATERAL meter.coverage_steps(since, until, step, k.servers) AS c
    )

    SELECT
        g.ts,
        t.name,
        coalesce(u.participant_seconds, z.zero) / g.seconds,
        coalesce(u.peak_participants[1] / 60.0::double precision, z.zero),
        coalesce(u.session_seconds, z.zero) / g.seconds,
        coalesce(u.peak_sessions[1] / 60.0::double precision, z.zero),
        coalesce(u.voice_seconds, z.zero) / g.seconds,
        coalesce(u.video_seconds, z.zero) / g.seconds,
        coalesce(u.dialin_seconds, z.zero) / g.seconds,
        coalesce(u.breakout_seconds, z.zero) / g.seconds,
        u.filled_seconds::double precision / nullif(u.session_seconds, 0),
        s.coverage,
        k.max_participants
    FROM grid AS g
    CROSS JOIN shown AS t
    LEFT JOIN (
        SELECT x.ts, y.tenant_id, x.coverage
        FROM seen AS x
        CROSS JOIN LATERAL unnest(x.tenants) AS y (tenant_id)
    ) AS s ON g.ts = s.ts AND t.id = s.tenant_id
    LEFT JOIN used AS u ON g.ts = u.ts AND t.id = u.tenant_id
    LEFT JOIN meter.contract AS k
        ON t.id = k.tenant_id AND g.ts >= k.since AND (k.until IS NULL OR g.ts < k.until)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.coverage > 0 THEN 0::double precision END AS zero
    ) AS z
    ORDER BY g.ts, t.name;
END
$fn$;

-- Load and coverage by step of each server, or of each in `servers`: means over what was seen.
CREATE OR REPLACE FUNCTION meter.server_load(
    since timestamptz, until timestamptz, wanted interval, servers text[] DEFAULT NULL
)
RETURNS TABLE (
    ts timestamptz,
    server text,
    participants double precision,
    max_participants integer,
    sessions double precision,
    max_sessions integer,
    latency_ms double precision,
    max_latency_ms integer,
    coverage double precision
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    step interval := meter.chart_step(since, until, wanted);
    chosen integer[] := meter.chosen_servers(servers);
BEGIN
    RETURN QUERY
    SELECT
        s.ts,
        v.name,
        s.participant_seconds::double precision / nullif(s.covered_seconds, 0),
        s.max_participants,
        s.session_seconds::double precision / nullif(s.covered_seconds, 0),
        s.max_sessions,
        s.latency_ms::double precision / nullif(s.ok_polls, 0),
        s.max_latency_ms,
        s.covered_seconds / s.due_seconds
    FROM meter.server_steps(since, until, step, chosen) AS s
    INNER JOIN meter.server AS v ON s.server_id = v.id
    ORDER BY s.ts, v.name;
END
$fn$;
