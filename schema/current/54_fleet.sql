-- Sessions of all tenants together (no breakouts) by the time at which they began, for charts.

-- Sessions of all tenants (no breakouts) that began and that ended in each step of an hour or more.
-- A step without any has no row.
CREATE OR REPLACE FUNCTION meter.fleet_turnover(
    since timestamptz, until timestamptz, wanted interval
)
RETURNS TABLE (ts timestamptz, began bigint, ended bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := greatest(meter.chart_step(since, until, wanted), interval '1 hour');
    lo timestamptz := meter.step_of(step, since);
BEGIN
    RETURN QUERY
    SELECT meter.step_of(step, e.at), sum(e.began)::bigint, sum(e.ended)::bigint
    FROM (
        SELECT h.bucket AS at, h.sessions AS began, 0 AS ended
        FROM meter.start_1h AS h
        WHERE h.bucket >= lo AND h.bucket < until
        UNION ALL
        SELECT h.bucket + h.ended_after * interval '${hour}', 0, h.sessions
        FROM meter.start_1h AS h
        -- The end of a session of more than a week is not counted.
        WHERE h.bucket >= lo - interval '7 days' AND h.bucket < until AND h.ended_after >= 0
    ) AS e
    WHERE e.at >= lo AND e.at < until
    GROUP BY 1
    ORDER BY 1;
END
$fn$;

COMMENT ON FUNCTION meter.fleet_turnover IS
'Sessions of all tenants (no breakouts) that began and that ended, in steps of an hour or more.';

-- Sessions of all tenants (no breakouts) that began in each step of an hour or more, by their
-- maximum number of participants: `size` is the smallest one of a class (meter.size_bounds).
CREATE OR REPLACE FUNCTION meter.fleet_sizes(
    since timestamptz, until timestamptz, wanted interval
)
RETURNS TABLE (ts timestamptz, size integer, sessions bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := greatest(meter.chart_step(since, until, wanted), interval '1 hour');
BEGIN
    RETURN QUERY
    SELECT n.ts, c.size, c.sessions
    FROM (
        SELECT
            meter.step_of(step, h.bucket) AS ts,
            ARRAY[
                sum(h.sessions_of_1), sum(h.sessions_of_2), sum(h.sessions_of_3),
                sum(h.sessions_of_6), sum(h.sessions_of_11), sum(h.sessions_of_21),
                sum(h.sessions_of_51), sum(h.sessions_of_101), sum(h.sessions_of_201)
            ]::bigint[] AS counts
        FROM meter.start_1h AS h
        WHERE h.bucket >= meter.step_of(step, since) AND h.bucket < until
        GROUP BY 1
    ) AS n
    CROSS JOIN unnest(meter.size_bounds(), n.counts) AS c (size, sessions)
    WHERE c.sessions > 0
    ORDER BY n.ts, c.size;
END
$fn$;

COMMENT ON FUNCTION meter.fleet_sizes IS
'Sessions of all tenants (no breakouts) that began, by their maximum number of participants, in '
'steps of an hour or more. size is the smallest number of a class: 1, 2, 3, 6, 11, 21, 51, 101 or '
'201.';

-- Sessions of all tenants (no breakouts) that began in each step of an hour or more, by the product
-- that created them.
CREATE OR REPLACE FUNCTION meter.fleet_origins(
    since timestamptz, until timestamptz, wanted interval
)
RETURNS TABLE (ts timestamptz, origin text, sessions bigint, participant_minutes double precision)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := greatest(meter.chart_step(since, until, wanted), interval '1 hour');
BEGIN
    RETURN QUERY
    SELECT
        meter.step_of(step, h.bucket),
        coalesce(nullif(h.origin, ''), 'unknown'),
        sum(h.sessions)::bigint,
        (sum(h.participant_seconds) / 60.0)::double precision
    FROM meter.start_1h AS h
    WHERE h.bucket >= meter.step_of(step, since) AND h.bucket < until
    GROUP BY 1, 2
    ORDER BY 1, 2;
END
$fn$;

COMMENT ON FUNCTION meter.fleet_origins IS
'Sessions of all tenants (no breakouts) that began, and their participant minutes, by the product '
'that created them, in steps of an hour or more.';

-- The highest minute of all tenants together in [since, until), which must be full minutes, and its
-- beginning. Unlike a chart, it has the newest minutes, and nothing of before and after. NULL if no
-- poll succeeded, or if hours of the period have been dropped.
CREATE OR REPLACE FUNCTION meter.fleet_peak(since timestamptz, until timestamptz)
RETURNS TABLE (peak_participants double precision, peak_participants_at timestamptz)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    tile record;
    peak bigint[];
BEGIN
    -- There is no rollup of the fleet by the day. Nothing is missing from before metering began.
    IF
        ${retention_fleet_1h} > 0
        AND until > since
        AND greatest(since, (SELECT min(d.since) FROM meter.server_due AS d))
        < now() - make_interval(days => ${retention_fleet_1h})
    THEN
        RETURN QUERY SELECT NULL::double precision, NULL::timestamptz;
        RETURN;
    END IF;
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        IF tile.grain = 'minute' THEN
            PERFORM meter.require_kept('fleet_1m', tile.lo, ${retention_fleet_1m});
            peak := greatest(peak, (
                SELECT
                    max(ARRAY[m.participant_seconds, -extract(EPOCH FROM m.bucket)::bigint])
                FROM meter.fleet_1m AS m
                WHERE m.bucket >= tile.lo AND m.bucket < tile.hi
            ));
        ELSE
            peak := greatest(peak, (
                SELECT max(h.peak_minute)
                FROM meter.fleet_1h AS h
                WHERE h.bucket >= tile.lo AND h.bucket < tile.hi
            ));
        END IF;
    END LOOP;
    IF peak[1] > 0 THEN
        RETURN QUERY
        SELECT peak[1] / 60.0::double precision, to_timestamp(-peak[2])::timestamptz;
    ELSE
        RETURN QUERY
        SELECT CASE WHEN sum(c.covered_seconds) > 0 THEN 0::double precision END, NULL::timestamptz
        FROM meter.server_coverage(since, until) AS c;
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.fleet_peak IS
'The highest minute of all tenants together in [since, until), which must be full minutes. NULL '
'means that no poll succeeded, or that hours of the period are no longer kept.';
