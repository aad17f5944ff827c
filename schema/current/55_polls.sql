-- Polls of all servers, or of some: failures by kind, and latencies, for charts and reports.

-- Failed polls of all servers, or of `servers`, by kind, in steps of an hour or more.
CREATE OR REPLACE FUNCTION meter.poll_failures(
    since timestamptz, until timestamptz, wanted interval, servers text[] DEFAULT NULL
)
RETURNS TABLE (ts timestamptz, outcome text, polls bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := greatest(meter.chart_step(since, until, wanted), interval '1 hour');
    chosen integer[] := meter.chosen_servers(servers);
BEGIN
    RETURN QUERY
    SELECT meter.step_of(step, x.bucket), x.outcome, sum(x.polls)::bigint
    FROM (
        -- First sums by hour over all servers, because meter.step_of is slow.
        SELECT h.bucket, h.outcome, sum(h.polls) AS polls
        FROM meter.poll_1h AS h
        WHERE
            NOT h.ok AND h.bucket >= meter.step_of(step, since) AND h.bucket < until
            AND (chosen IS NULL OR h.server_id = ANY(chosen))
        GROUP BY h.bucket, h.outcome
    ) AS x
    GROUP BY 1, 2
    ORDER BY 1, 2;
END
$fn$;

COMMENT ON FUNCTION meter.poll_failures IS
'Failed polls of all servers, or of some, by kind, in steps of an hour or more.';

-- Successful polls of all servers, or of `servers`, by latency, in steps of an hour or more:
-- `latency_ms` is the lower bound of a class (meter.latency_bounds; the first class begins at 0).
CREATE OR REPLACE FUNCTION meter.poll_latencies(
    since timestamptz, until timestamptz, wanted interval, servers text[] DEFAULT NULL
)
RETURNS TABLE (ts timestamptz, latency_ms integer, polls bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := greatest(meter.chart_step(since, until, wanted), interval '1 hour');
    chosen integer[] := meter.chosen_servers(servers);
BEGIN
    RETURN QUERY
    SELECT
        meter.step_of(step, x.bucket),
        (0 || meter.latency_bounds())[x.latency_class + 1],
        sum(x.polls)::bigint
    FROM (
        -- First sums by hour over all servers, because meter.step_of is slow.
        SELECT h.bucket, h.latency_class, sum(h.polls) AS polls
        FROM meter.poll_1h AS h
        WHERE
            h.ok AND h.bucket >= meter.step_of(step, since) AND h.bucket < until
            AND (chosen IS NULL OR h.server_id = ANY(chosen))
        GROUP BY h.bucket, h.latency_class
    ) AS x
    GROUP BY 1, 2
    ORDER BY 1, 2;
END
$fn$;

COMMENT ON FUNCTION meter.poll_latencies IS
'Successful polls of all servers, or of some, by latency, in steps of an hour or more. latency_ms '
'is the lower bound of a class.';

-- The latency in ms that a share `q` of the polls did not exceed, from the number of polls in each
-- class (meter.latency_bounds). Polls are assumed to be spread evenly within a class. The result is
-- the last bound, 10,000 ms, if it lies above.
CREATE OR REPLACE FUNCTION meter.latency_quantile(q double precision, polls bigint[])
RETURNS double precision
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
AS $fn$
    WITH class AS (
        SELECT
            n.i,
            n.polls::double precision AS polls,
            sum(n.polls) OVER (ORDER BY n.i)::double precision AS up_to,
            sum(n.polls) OVER ()::double precision AS whole,
            0 || meter.latency_bounds() AS bound
        FROM unnest(polls) WITH ORDINALITY AS n (polls, i)
    )

    SELECT
        c.bound[c.i] + (c.bound[least(c.i + 1, cardinality(c.bound))] - c.bound[c.i])
        * (q * c.whole - c.up_to + c.polls) / c.polls
    FROM class AS c
    WHERE c.polls > 0 AND c.up_to >= q * c.whole
    ORDER BY c.i
    LIMIT 1
$fn$;

COMMENT ON FUNCTION meter.latency_quantile IS
'The latency in ms that a share q of the polls did not exceed, from the number of polls in each '
'latency class.';

-- The polls of each server between two instants, which must be full minutes, from the coarsest
-- rollups that cover the period exactly.
CREATE OR REPLACE FUNCTION meter.polls_between(since timestamptz, until timestamptz)
RETURNS TABLE (
    bucket timestamptz,
    server_id integer,
    polls bigint,
    ok_polls bigint,
    participant_seconds bigint,
    session_seconds bigint,
    max_participants integer,
    max_sessions integer,
    skipped bigint
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    tile record;
BEGIN
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        CASE tile.grain
        WHEN 'day' THEN
            RETURN QUERY
            SELECT d.bucket, d.server_id, d.polls, d.ok_polls, d.participant_seconds,
                d.session_seconds, d.max_participants, d.max_sessions, d.skipped
            FROM meter.server_1d AS d
            WHERE d.bucket >= tile.lo AND d.bucket < tile.hi;
        WHEN 'hour' THEN
            PERFORM meter.require_kept('server_1h', tile.lo, ${retention_server_1h});
            RETURN QUERY
            SELECT h.bucket, h.server_id, h.polls, h.ok_polls, h.participant_seconds::bigint,
                h.session_seconds::bigint, h.max_participants, h.max_sessions, h.skipped::bigint
            FROM meter.server_1h AS h
            WHERE h.bucket >= tile.lo AND h.bucket < tile.hi;
        WHEN 'minute' THEN
            PERFORM meter.require_kept('poll', tile.lo, ${retention_poll});
            RETURN QUERY
            SELECT tile.lo, p.server_id, count(*), count(*) FILTER (WHERE p.ok),
                coalesce(sum(p.participants::bigint * p.seconds), 0)::bigint,
                coalesce(sum(p.sessions::bigint * p.seconds), 0)::bigint,
                max(p.participants), max(p.sessions), sum(p.skipped)::bigint
            FROM meter.poll AS p
            WHERE p.ts >= tile.lo AND p.ts < tile.hi
            GROUP BY p.server_id;
        END CASE;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.polls_between IS
'Polls of each server in [since, until), which must be full minutes, in rows that together cover '
'it exactly. Columns as in meter.server_1h.';

-- The same by outcome and class of latency. There is no rollup of them by the day.
CREATE OR REPLACE FUNCTION meter.outcomes_between(since timestamptz, until timestamptz)
RETURNS TABLE (
    server_id integer, ok boolean, outcome text, latency_class integer, polls bigint
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    tile record;
BEGIN
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        IF tile.grain = 'minute' THEN
            PERFORM meter.require_kept('poll', tile.lo, ${retention_poll});
            RETURN QUERY
            SELECT
                p.server_id, p.ok, p.outcome,
                width_bucket(p.latency_ms, meter.latency_bounds()), count(*)
            FROM meter.poll AS p
            WHERE p.ts >= tile.lo AND p.ts < tile.hi
            GROUP BY 1, 2, 3, 4;
        ELSE
            RETURN QUERY
            SELECT h.server_id, h.ok, h.outcome, h.latency_class, sum(h.polls)::bigint
            FROM meter.poll_1h AS h
            WHERE h.bucket >= tile.lo AND h.bucket < tile.hi
            GROUP BY 1, 2, 3, 4;
        END IF;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.outcomes_between IS
'Polls of each server in [since, until), which must be full minutes, by outcome and class of '
'latency (meter.latency_bounds), as far as meter.poll_1h is kept.';
