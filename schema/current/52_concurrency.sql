-- Participants and sessions at once, in equal steps for charts. A step in which no poll succeeded
-- has NULL, not zero. The step that is not over yet has its highest minute so far, and no means,
-- because these would be too low.

-- Usage of all tenants together by step: means over the step, and its highest minute. `wanted` is
-- the smallest step that the chart can use; meter.chart_step chooses one.
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
        UNION ALL
        SELECT r.ts, NULL
        FROM meter.running_step(since, until, step) AS r (ts)
        WHERE r.ts IS NOT NULL
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
        coalesce(u.peak_minute[1] / 60.0::double precision, z.zero_peak),
        coalesce(u.session_seconds, z.zero) / g.seconds,
        coalesce(u.peak_sessions_minute[1] / 60.0::double precision, z.zero_peak),
        coalesce(u.voice_seconds, z.zero) / g.seconds,
        coalesce(u.video_seconds, z.zero) / g.seconds,
        coalesce(u.dialin_seconds, z.zero) / g.seconds,
        coalesce(u.breakout_participant_seconds, z.zero) / g.seconds,
        u.filled_seconds::double precision / nullif(u.session_seconds, 0),
        s.coverage
    FROM grid AS g
    LEFT JOIN seen AS s ON g.ts = s.ts
    LEFT JOIN used AS u ON g.ts = u.ts
    CROSS JOIN LATERAL (
        SELECT
            CASE WHEN s.coverage > 0 THEN 0::double precision END AS zero,
            CASE
                WHEN s.coverage > 0 AND g.ts >= meter.fleet_hours_since(step)
                    THEN 0::double precision
            END AS zero_peak
    ) AS z
    ORDER BY g.ts;
END
$fn$;

COMMENT ON FUNCTION meter.fleet_concurrency IS
'Usage of all tenants together in steps, for charts. participants, sessions, voice, video, dialins '
'and breakout_participants are means over the step; the peaks are its highest minute. NULL if no '
'poll succeeded in the step; peaks are also NULL where hours are no longer kept. The step that is '
'not over yet has only its peaks so far. wanted is the smallest step that the chart can use; '
'meter.chart_step chooses one.';

-- The same for each tenant in `tenants`, or for all that had sessions (NULL); with the participants
-- that the contract allows.
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
    participant_limit integer
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
        UNION ALL
        SELECT r.ts, NULL
        FROM meter.running_step(since, until, step) AS r (ts)
        WHERE r.ts IS NOT NULL
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

    -- Most tenants use the same shared servers, so that there are few different sets of servers.
    carrier AS MATERIALIZED (
        SELECT x.lo, x.hi, x.servers, array_agg(x.tenant_id) AS tenants
        FROM (
            SELECT p.lo, p.hi, a.tenant_id, array_agg(a.server_id ORDER BY a.server_id) AS servers
            FROM meter.tenancy_parts(since, until) AS p
            CROSS JOIN LATERAL meter.tenant_server(p.lo, p.hi) AS a
            WHERE a.tenant_id IN (SELECT w.id FROM shown AS w)
            GROUP BY p.lo, p.hi, a.tenant_id
        ) AS x
        GROUP BY x.lo, x.hi, x.servers
    ),

    -- A step in which a server changed tenants has the coverage of the servers at its beginning.
    seen AS MATERIALIZED (
        SELECT c.ts, k.tenants, c.covered_seconds / c.due_seconds AS coverage
        FROM carrier AS k
        CROSS JOIN LATERAL meter.coverage_steps(k.lo, k.hi, step, k.servers) AS c
        WHERE c.ts >= k.lo OR k.lo = since
    ),

    lost AS MATERIALIZED (
        SELECT x.ts, x.tenant_id, sum(x.session_seconds) AS seconds
        FROM meter.unseen_steps(since, until, step) AS x
        WHERE x.tenant_id > 0
        GROUP BY x.ts, x.tenant_id
    )

    SELECT
        g.ts,
        t.name,
        coalesce(u.participant_seconds, z.zero) / g.seconds,
        coalesce(u.peak_minute[1] / 60.0::double precision, z.zero),
        coalesce(u.session_seconds, z.zero) / g.seconds,
        coalesce(u.peak_sessions_minute[1] / 60.0::double precision, z.zero),
        coalesce(u.voice_seconds, z.zero) / g.seconds,
        coalesce(u.video_seconds, z.zero) / g.seconds,
        coalesce(u.dialin_seconds, z.zero) / g.seconds,
        coalesce(u.breakout_participant_seconds, z.zero) / g.seconds,
        u.filled_seconds::double precision / nullif(u.session_seconds, 0),
        s.coverage * meter.seen_share(u.session_seconds - u.filled_seconds, l.seconds),
        k.participant_limit
    FROM grid AS g
    CROSS JOIN shown AS t
    LEFT JOIN (
        SELECT x.ts, y.tenant_id, x.coverage
        FROM seen AS x
        CROSS JOIN LATERAL unnest(x.tenants) AS y (tenant_id)
    ) AS s ON g.ts = s.ts AND t.id = s.tenant_id
    LEFT JOIN used AS u ON g.ts = u.ts AND t.id = u.tenant_id
    LEFT JOIN lost AS l ON g.ts = l.ts AND t.id = l.tenant_id
    LEFT JOIN meter.contract AS k
        ON t.id = k.tenant_id AND g.ts >= k.since AND (k.until IS NULL OR g.ts < k.until)
    CROSS JOIN LATERAL (
        SELECT CASE WHEN s.coverage > 0 THEN 0::double precision END AS zero
    ) AS z
    ORDER BY g.ts, t.name;
END
$fn$;

COMMENT ON FUNCTION meter.concurrency IS
'meter.fleet_concurrency for each of some tenants, or for all that had sessions (NULL). '
'participant_limit is what the tenant''s contract allowed at that time.';
