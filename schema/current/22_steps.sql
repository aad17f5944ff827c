-- Steps: the equal parts of time that a chart consists of.

-- The width of the steps of a chart of [since, until): at least `wanted`, available in a rollup,
-- and wide enough to read few rows. Minutes for up to two days and while they are kept; else hours
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

COMMENT ON FUNCTION meter.chart_step IS
'The width of the steps of a chart of [since, until): at least `wanted`, available in a rollup, '
'and wide enough to read few rows.';

-- The beginning of the step that contains an instant. Days and weeks are those of the billing time
-- zone.
CREATE OR REPLACE FUNCTION meter.step_of(step interval, instant timestamptz) RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN CASE
    WHEN step < interval '1 day' THEN public.time_bucket(step, instant)
    -- If midnight occurs twice, time_bucket begins a day within the day before.
    ELSE meter.billing_trunc('day', public.time_bucket(step, instant, meter.billing_timezone()))
END;

COMMENT ON FUNCTION meter.step_of IS
'The beginning of the step that contains an instant; days and weeks are those of the billing time '
'zone.';

-- The end of the step that begins at an instant.
CREATE OR REPLACE FUNCTION meter.step_end(step interval, beginning timestamptz) RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN CASE
    WHEN step < interval '1 day' THEN beginning + step
    -- Add in local time: a day has 23 or 25 hours when the clocks change.
    -- The day can begin at 01:00, and the next one at 00:00 again.
    ELSE
        (date_trunc('day', beginning AT TIME ZONE meter.billing_timezone()) + step)
        AT TIME ZONE meter.billing_timezone()
END;

COMMENT ON FUNCTION meter.step_end IS 'The end of the step that begins at an instant.';

-- The end of the last step of a chart that ends at `until`.
CREATE OR REPLACE FUNCTION meter.steps_end(step interval, until timestamptz) RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN meter.step_end(step, meter.step_of(step, until - interval '1 microsecond'));

COMMENT ON FUNCTION meter.steps_end IS
'The end of the last step of a chart that ends at an instant.';

-- The steps [ts, hi) of [since, until) that are over. The first and the last one are whole, also if
-- since and until lie within them.
CREATE OR REPLACE FUNCTION meter.steps(since timestamptz, until timestamptz, step interval)
RETURNS TABLE (ts timestamptz, hi timestamptz)
LANGUAGE sql
STABLE
AS $fn$
    SELECT g.ts, g.hi
    FROM (
        SELECT s.ts, s.ts + step AS hi
        FROM generate_series(
            public.time_bucket(step, since), until - interval '1 microsecond', step
        ) AS s (ts)
        WHERE step < interval '1 day'
        UNION ALL
        SELECT s.day AT TIME ZONE z.zone, (s.day + step) AT TIME ZONE z.zone
        FROM (SELECT meter.billing_timezone() AS zone) AS z
        CROSS JOIN LATERAL generate_series(
            date_trunc('day', meter.step_of(step, since) AT TIME ZONE z.zone),
            until AT TIME ZONE z.zone,
            step
        ) AS s (day)
        WHERE step >= interval '1 day' AND s.day AT TIME ZONE z.zone < until
    ) AS g
    WHERE g.hi <= date_trunc('minute', now()) - interval '1 minute'
$fn$;

COMMENT ON FUNCTION meter.steps IS
'The steps [ts, hi) of a period that are over. The first and the last one are whole.';
