-- Periods: the billing time zone, the days and months of a report, and which rollup covers which
-- part of a period exactly.

CREATE OR REPLACE FUNCTION meter.billing_timezone() RETURNS text
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN ${billing_timezone};

COMMENT ON FUNCTION meter.billing_timezone IS
'The time zone of days and months, from the settings.';

-- The tenant of sessions that no rule of the settings matches.
CREATE OR REPLACE FUNCTION meter.default_tenant() RETURNS text
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN ${default_tenant};

COMMENT ON FUNCTION meter.default_tenant IS
'The tenant of sessions that no rule of the settings matches.';

-- The beginning of the day, month or other unit (as in date_trunc) of `zone` that contains
-- `instant`. If the clocks go back so that midnight occurs twice, the day begins at the second
-- midnight: PostgreSQL and the rollups by day read a local midnight so. The hours before it belong
-- to the day before. date_trunc alone returns an instant after them. If midnight does not occur,
-- the day begins when the clocks have gone forward.
CREATE OR REPLACE FUNCTION meter.trunc_in(unit text, instant timestamptz, zone text)
RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN CASE
    WHEN unit IN ('hour', 'minute', 'second')
        THEN instant - ((instant AT TIME ZONE zone) - date_trunc(unit, instant AT TIME ZONE zone))
    WHEN date_trunc(unit, instant, zone) <= instant THEN date_trunc(unit, instant, zone)
    ELSE date_trunc(unit, date_trunc(unit, instant, zone) - interval '24 hours', zone)
END;

COMMENT ON FUNCTION meter.trunc_in IS
'The beginning of the day, month or other unit (as in date_trunc) of a time zone that contains an '
'instant. If midnight occurs twice, the day begins at the second one.';

CREATE OR REPLACE FUNCTION meter.billing_trunc(unit text, instant timestamptz)
RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN meter.trunc_in(unit, instant, meter.billing_timezone());

COMMENT ON FUNCTION meter.billing_trunc IS
'The beginning of the day, month or other unit (as in date_trunc) of the billing time zone that '
'contains an instant. If midnight occurs twice, the day begins at the second one.';

-- The end of the day, week or month of the billing time zone that contains `instant`. It is added
-- in local time, because a day has 23 or 25 hours when the clocks change.
CREATE OR REPLACE FUNCTION meter.billing_end(unit text, instant timestamptz)
RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN (
    date_trunc(unit, meter.billing_trunc(unit, instant) AT TIME ZONE meter.billing_timezone())
    + ('1 ' || unit)::interval
) AT TIME ZONE meter.billing_timezone();

COMMENT ON FUNCTION meter.billing_end IS
'The end of the day, week or month of the billing time zone that contains an instant.';

-- Split [since, until) into days in the middle, and hours and minutes at the edges. A report over
-- any full minutes is then exact, and reads few rows. lo < hi in every row.
CREATE OR REPLACE FUNCTION meter.tiles(since timestamptz, until timestamptz)
RETURNS TABLE (grain text, lo timestamptz, hi timestamptz)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    first_day timestamptz := meter.billing_trunc('day', since);
    last_day timestamptz := meter.billing_trunc('day', until);
BEGIN
    IF since IS NULL OR until IS NULL OR since > until THEN
        RAISE EXCEPTION 'a period must not end (%) before it begins (%)', until, since
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF date_trunc('minute', since) <> since OR date_trunc('minute', until) <> until THEN
        RAISE EXCEPTION 'a period must begin and end on a full minute, not % and %', since, until
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF first_day < since THEN
        first_day := meter.billing_end('day', since);
    END IF;
    IF first_day < last_day THEN
        RETURN QUERY
        SELECT * FROM meter.day_tiles(first_day, last_day)
        UNION ALL
        SELECT * FROM meter.hour_tiles(since, first_day)
        UNION ALL
        SELECT * FROM meter.hour_tiles(last_day, until);
    ELSE
        RETURN QUERY SELECT * FROM meter.hour_tiles(since, until);
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.tiles IS
'Splits [since, until), which must be full minutes, into parts [lo, hi) for which the rollup of '
'the grain (day, hour, minute) has exact sums: days in the middle, hours and minutes at the edges.';

-- The part of meter.tiles for whole days. If midnight occurs twice, TimescaleDB before 2.29 counts
-- the time between the two to the day after it, and not to the day before. There the last row of
-- the day before lacks these hours, and the row of the day after has them too much.
CREATE OR REPLACE FUNCTION meter.day_tiles(since timestamptz, until timestamptz)
RETURNS TABLE (grain text, lo timestamptz, hi timestamptz)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    zone text := meter.billing_timezone();
    beginning timestamptz := since;
    edge record;
BEGIN
    FOR edge IN
        SELECT
            d.midnight,
            -- The first of the two midnights.
            d.midnight - (
                (d.midnight - interval '1 minute') AT TIME ZONE zone + interval '1 minute'
                - d.midnight AT TIME ZONE zone
            ) AS first_midnight,
            meter.billing_end('day', d.midnight) AS next_day
        FROM (
            SELECT p.period AS midnight FROM meter.periods(since, until, 'day') AS p
            UNION ALL
            SELECT until
        ) AS d
        WHERE public.time_bucket('1 day', d.midnight - interval '1 minute', zone) >= d.midnight
        ORDER BY d.midnight
    LOOP
        IF beginning < edge.midnight THEN
            RETURN QUERY SELECT 'day', beginning, edge.first_midnight;
            RETURN QUERY SELECT * FROM meter.hour_tiles(edge.first_midnight, edge.midnight);
        END IF;
        beginning := edge.midnight;
        IF edge.midnight < until THEN
            RETURN QUERY SELECT * FROM meter.hour_tiles(edge.midnight, edge.next_day);
            beginning := edge.next_day;
        END IF;
    END LOOP;
    IF beginning < until THEN
        RETURN QUERY SELECT 'day', beginning, until;
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.day_tiles IS 'The part of meter.tiles for whole days.';

-- The part of meter.tiles below a day.
CREATE OR REPLACE FUNCTION meter.hour_tiles(since timestamptz, until timestamptz)
RETURNS TABLE (grain text, lo timestamptz, hi timestamptz)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    first_hour timestamptz := time_bucket(
        '${hour}', since + interval '${hour}' - interval '1 minute'
    );
    last_hour timestamptz := time_bucket('${hour}', until);
BEGIN
    RETURN QUERY
    SELECT x.grain, x.lo, x.hi
    FROM (
        VALUES
        ('hour', first_hour, last_hour),
        ('minute', since, CASE WHEN first_hour < last_hour THEN first_hour ELSE until END),
        ('minute', CASE WHEN first_hour < last_hour THEN last_hour END, until)
    ) AS x (grain, lo, hi)
    WHERE x.lo < x.hi;
END
$fn$;

COMMENT ON FUNCTION meter.hour_tiles IS 'The part of meter.tiles below a day.';

-- Split [since, until) into the periods of a report: days or months of the billing time zone, the
-- first and the last one limited by since and until; or one period ('total'). ROWS keeps the
-- planner's estimates low: with 1,000 rows it compiles the query (JIT) for longer than it runs.
CREATE OR REPLACE FUNCTION meter.periods(since timestamptz, until timestamptz, per text)
RETURNS TABLE (period timestamptz, lo timestamptz, hi timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 10
AS $fn$
DECLARE
    zone text := meter.billing_timezone();
BEGIN
    IF per = 'total' THEN
        RETURN QUERY SELECT since, since, until WHERE since < until;
    ELSIF per IN ('day', 'month') THEN
        RETURN QUERY
        SELECT p.lo, greatest(p.lo, since), least(p.hi, until)
        FROM (
            SELECT
                g.day AT TIME ZONE zone AS lo, (g.day + ('1 ' || per)::interval) AT TIME ZONE zone AS hi
            FROM generate_series(
                date_trunc(per, meter.billing_trunc(per, since) AT TIME ZONE zone),
                until AT TIME ZONE zone,
                ('1 ' || per)::interval
            ) AS g (day)
        ) AS p
        WHERE since < until AND p.lo < until;
    ELSE
        RAISE EXCEPTION 'a report is per day, month or total, not per %', per
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.periods IS
'Splits [since, until) into one part [lo, hi) for each day or month of the billing time zone '
'(per), or into one part for total. period is the beginning of the whole day or month, or since.';

-- Whether everything since an instant is kept for so many days (0: without limit).
CREATE OR REPLACE FUNCTION meter.still_kept(since timestamptz, kept_days integer)
RETURNS boolean
LANGUAGE sql
STABLE
RETURN kept_days = 0 OR since >= now() - make_interval(days => kept_days);

COMMENT ON FUNCTION meter.still_kept IS
'Whether everything since an instant is still there, if it is kept for so many days (0: without '
'limit).';

-- Raise an error if an edge of a period needs rows that retention has dropped: an error is better
-- than a figure that silently lacks a part. The oldest row is looked up only if rows may have been
-- dropped, because that reads the whole table. If there is no row, all may have been dropped.
CREATE OR REPLACE FUNCTION meter.require_kept(
    relation text, needed timestamptz, kept_days integer
) RETURNS void
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    available timestamptz;
BEGIN
    IF meter.still_kept(needed, kept_days) THEN
        RETURN;
    END IF;
    EXECUTE format(
        'SELECT min(%I) FROM meter.%I',
        CASE relation
            WHEN 'sample' THEN 'ts' WHEN 'poll' THEN 'ts' WHEN 'session' THEN 'started_at'
            ELSE 'bucket'
        END,
        relation
    ) INTO available;
    IF needed < available OR available IS NULL THEN
        RAISE EXCEPTION '% is kept for % days and no longer reaches back to %', relation, kept_days,
            needed USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Let the period begin and end on whole days of the billing time zone.';
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.require_kept IS
'Raises an error if a report needs rows of a table or rollup that retention has dropped.';
