-- Edges of the figures of a time range, and steps: the equal parts of time that a chart consists
-- of.

-- The finest grain that all figures of an instant still have: minute, hour or day. With
-- `of_sessions`, also the sessions that began then. A grain ends a day before it is dropped, so
-- that the hour or day around the instant is still there.
CREATE OR REPLACE FUNCTION meter.kept_grain(
    instant timestamptz, of_sessions boolean DEFAULT FALSE
) RETURNS text
LANGUAGE sql
STABLE
RETURN CASE
    WHEN extract(EPOCH FROM now() - instant) / 86400 > least(
        nullif(${retention_usage_1h}, 0), nullif(${retention_fleet_1h}, 0),
        nullif(${retention_server_1h}, 0),
        CASE WHEN of_sessions THEN nullif(${retention_session}, 0) END
    ) - 1 THEN 'day'
    WHEN extract(EPOCH FROM now() - instant) / 86400 > least(
        nullif(${retention_usage_1m}, 0), nullif(${retention_fleet_1m}, 0),
        nullif(${retention_poll}, 0)
    ) - 1 THEN 'hour'
    ELSE 'minute'
END;

COMMENT ON FUNCTION meter.kept_grain IS
'The finest grain that all figures of an instant still have: minute, hour or day; with '
'of_sessions, also the sessions that began then.';

-- The beginning (or the end) of figures of a time range that begins (or ends) at an instant. It is
-- widened to the full minute; to the full hour where minutes may have been dropped, and to the full
-- day where hours may have been dropped. Every surface uses this: Grafana ends "previous month" at
-- 23:59:59.999, and people zoom to any millisecond.
DROP FUNCTION IF EXISTS meter.report_edge(timestamptz, interval);
CREATE OR REPLACE FUNCTION meter.report_edge(instant timestamptz, is_end boolean DEFAULT FALSE)
RETURNS timestamptz
LANGUAGE sql
STABLE
AS $fn$
    SELECT CASE WHEN is_end AND e.lo < instant THEN e.hi ELSE e.lo END
    FROM (
        SELECT
            d.day AS lo,
            -- A day has 23 to 25 hours.
            meter.billing_trunc('day', d.day + interval '36 hours') AS hi,
            'day' AS grain
        FROM (SELECT meter.billing_trunc('day', instant) AS day) AS d
        UNION ALL
        SELECT h.hour, h.hour + interval '${hour}', 'hour'
        FROM (SELECT public.time_bucket(interval '${hour}', instant) AS hour) AS h
        UNION ALL
        SELECT m.minute, m.minute + interval '1 minute', 'minute'
        FROM (SELECT date_trunc('minute', instant) AS minute) AS m
    ) AS e
    WHERE e.grain = meter.kept_grain(instant, of_sessions => TRUE)
$fn$;

COMMENT ON FUNCTION meter.report_edge IS
'The edge of the figures of a time range: the beginning of the minute that contains an instant, or '
'(is_end) its end. It is the edge of an hour or a day where minutes or hours of that age may have '
'been dropped. A time range is widened, never narrowed.';

-- The width of the steps of a chart of [since, until): at least `wanted`, available in a rollup,
-- and wide enough to read few rows. Minutes for up to two days and while they are kept; else hours,
-- while these are kept, or days.
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
                    WHEN meter.kept_grain(since) = 'day' THEN interval '1 day'
                    WHEN meter.kept_grain(since) = 'hour' OR until - since > interval '2 days'
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

-- The step that is not over yet, if it is in [since, until) and a minute of it is over; else NULL.
CREATE OR REPLACE FUNCTION meter.running_step(
    since timestamptz, until timestamptz, step interval
) RETURNS timestamptz
LANGUAGE sql
STABLE
AS $fn$
    SELECT r.ts
    FROM (
        SELECT
            meter.step_of(step, date_trunc('minute', now()) - interval '2 minutes') AS ts,
            date_trunc('minute', now()) - interval '1 minute' AS known_until
    ) AS r
    WHERE
        r.ts >= meter.step_of(step, since) AND r.ts < until
        AND meter.step_end(step, r.ts) > r.known_until
$fn$;

COMMENT ON FUNCTION meter.running_step IS
'The beginning of the step that is not over yet, if it is in [since, until); else NULL.';
