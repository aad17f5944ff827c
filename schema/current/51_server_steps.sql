-- Polls and coverage in equal steps, for charts. 50_usage_steps.sql says why this is PL/pgSQL.
--
-- Steps of less than an hour read meter.poll, which has many rows. They are added up before the
-- union with the rollups, because TimescaleDB can do that chunk by chunk.

-- The ids of the servers with these names; NULL for all servers, also if all are named: then
-- queries need no condition.
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

COMMENT ON FUNCTION meter.chosen_servers IS
'The ids of servers by their names; NULL for all servers.';

-- The session seconds of each step that successful polls did not show, by server and tenant (0 if
-- it is unknown). Mostly there are none.
CREATE OR REPLACE FUNCTION meter.unseen_steps(
    since timestamptz, until timestamptz, step interval
)
RETURNS TABLE (ts timestamptz, server_id integer, tenant_id integer, session_seconds bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    lo timestamptz := meter.step_of(step, since);
    hi timestamptz := meter.steps_end(step, until);
BEGIN
    RETURN QUERY
    SELECT meter.step_of(step, x.bucket), x.server_id, x.tenant_id, sum(x.session_seconds)::bigint
    FROM (
        SELECT
            u.ts AS bucket, u.server_id, coalesce(u.tenant_id, 0) AS tenant_id,
            u.sessions::bigint * u.seconds AS session_seconds
        FROM meter.unseen AS u
        WHERE step < interval '1 hour' AND u.ts >= lo AND u.ts < hi
        UNION ALL
        SELECT h.bucket, h.server_id, h.tenant_id, h.session_seconds
        FROM meter.unseen_1h AS h
        WHERE
            step >= interval '1 hour' AND step < interval '1 day'
            AND h.bucket >= lo AND h.bucket < hi
        UNION ALL
        SELECT d.bucket, d.server_id, d.tenant_id, d.session_seconds
        FROM meter.unseen_1d AS d
        WHERE step >= interval '1 day' AND d.bucket >= lo AND d.bucket < hi
    ) AS x
    GROUP BY 1, 2, 3;
END
$fn$;

COMMENT ON FUNCTION meter.unseen_steps IS
'Session seconds that successful polls did not show, by step, server and tenant (0 if it is '
'unknown).';

-- For each step, over all servers or those in `of_servers` together: the seconds for which polls
-- were due, and the seconds that successful polls cover, each server's times the share of sessions
-- that its polls showed. With `of_servers`, sessions of a known tenant are left out there: they
-- lower the coverage of that tenant only.
CREATE OR REPLACE FUNCTION meter.coverage_steps(
    since timestamptz, until timestamptz, step interval, of_servers integer[] DEFAULT NULL
)
RETURNS TABLE (ts timestamptz, due_seconds double precision, covered_seconds bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.steps_end(step, until);
    doubtful integer[] := (
        SELECT array_agg(DISTINCT u.server_id)
        FROM meter.unseen_steps(since, until, step) AS u
        WHERE of_servers IS NULL OR (u.tenant_id = 0 AND u.server_id = ANY(of_servers))
    );
BEGIN
    RETURN QUERY
    WITH grid AS MATERIALIZED (
        SELECT g.ts, g.hi FROM meter.steps(since, until, step) AS g
    ),

    -- Nearly all servers are due all the time. Only the others are compared with each step.
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
    ),

    hidden AS (
        SELECT
            w.ts,
            sum(w.covered_seconds * (1 - meter.seen_share(w.session_seconds, u.session_seconds)))
                AS seconds
        FROM meter.server_steps(since, until, step, doubtful) AS w
        INNER JOIN (
            SELECT x.ts, x.server_id, sum(x.session_seconds) AS session_seconds
            FROM meter.unseen_steps(since, until, step) AS x
            WHERE of_servers IS NULL OR x.tenant_id = 0
            GROUP BY x.ts, x.server_id
        ) AS u ON w.ts = u.ts AND w.server_id = u.server_id
        WHERE doubtful IS NOT NULL
        GROUP BY w.ts
    )

    SELECT
        d.ts, d.seconds,
        round(
            least(coalesce(s.seconds, 0), ceil(d.seconds)::bigint) - coalesce(h.seconds, 0)
        )::bigint
    FROM due AS d
    LEFT JOIN seen AS s ON d.ts = s.ts
    LEFT JOIN hidden AS h ON d.ts = h.ts
    WHERE d.seconds > 0;
END
$fn$;

COMMENT ON FUNCTION meter.coverage_steps IS
'Coverage of all servers, or of some, together, by step: seconds for which polls were due, and '
'seconds that successful polls cover, times the share of sessions that they showed (of some '
'servers: without sessions whose tenant is known).';

-- The same for each server, or each in `of_servers`, and the figures of its polls.
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
    latency_ms_sum bigint,
    max_latency_ms integer
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    steps_end timestamptz := meter.steps_end(step, until);
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
            sum(x.latency_ms_sum)::bigint AS latency_ms_sum,
            max(x.max_latency_ms) AS max_latency_ms
        FROM (
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
                sum(CASE WHEN p.ok THEN p.latency_ms ELSE 0 END) AS latency_ms_sum,
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
                h.latency_ms_sum, h.max_latency_ms
            FROM meter.server_1h AS h
            WHERE
                step >= interval '1 hour' AND step < interval '1 day'
                AND h.bucket >= meter.step_of(step, since) AND h.bucket < steps_end
                AND (of_servers IS NULL OR h.server_id = ANY(of_servers))
            UNION ALL
            SELECT
                d.bucket, d.server_id, d.covered_seconds, d.participant_seconds,
                d.session_seconds, d.max_participants, d.max_sessions, d.polls, d.ok_polls,
                d.latency_ms_sum, d.max_latency_ms
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
        coalesce(s.latency_ms_sum, 0),
        s.max_latency_ms
    FROM due AS d
    LEFT JOIN seen AS s ON d.ts = s.ts AND d.server_id = s.server_id
    WHERE d.seconds > 0;
END
$fn$;

COMMENT ON FUNCTION meter.server_steps IS
'For each server and step: seconds for which polls were due, seconds that successful polls cover, '
'and the figures of the polls. Columns as in meter.server_1h.';
