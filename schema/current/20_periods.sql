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

-- The first instant of the day or month of the billing time zone that contains `instant`.
CREATE OR REPLACE FUNCTION meter.billing_trunc(unit text, instant timestamptz)
RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN date_trunc(unit, instant, meter.billing_timezone());

COMMENT ON FUNCTION meter.billing_trunc IS
'The beginning of the day, month or other unit (as in date_trunc) of the billing time zone that '
'contains an instant.';

-- Split [since, until) into days in the middle, and hours and minutes at the edges. A report over
-- any full minutes is then exact, and reads few rows. lo < hi in every row.
CREATE OR REPLACE FUNCTION meter.tiles(since timestamptz, until timestamptz)
RETURNS TABLE (grain text, lo timestamptz, hi timestamptz)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    zone text := meter.billing_timezone();
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
        -- Add in local time: a day has 23 or 25 hours when the clocks change. If they change at
        -- midnight, that day begins at 01:00, and the next one at 00:00 again.
        first_day := (date_trunc('day', since AT TIME ZONE zone) + interval '1 day')
            AT TIME ZONE zone;
    END IF;
    IF last_day > until THEN
        -- If midnight occurs twice, a day begins at the second one.
        last_day := (date_trunc('day', until AT TIME ZONE zone) - interval '1 day')
            AT TIME ZONE zone;
    END IF;
    IF first_day < last_day THEN
        RETURN QUERY
        SELECT 'day', first_day, last_day
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
-- first and the last one limited by since and until; or one period ('total').
CREATE OR REPLACE FUNCTION meter.periods(since timestamptz, until timestamptz, per text)
RETURNS TABLE (period timestamptz, lo timestamptz, hi timestamptz)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    zone text := meter.billing_timezone();
BEGIN
    IF per = 'total' THEN
        RETURN QUERY SELECT since, since, until WHERE since < until;
    ELSIF per IN ('day', 'month') THEN
        RETURN QUERY
        SELECT g.day AT TIME ZONE zone, greatest(g.day AT TIME ZONE zone, since),
            least((g.day + ('1 ' || per)::interval) AT TIME ZONE zone, until)
        FROM generate_series(
            date_trunc(per, since AT TIME ZONE zone),
            (until - interval '1 microsecond') AT TIME ZONE zone,
            ('1 ' || per)::interval
        ) AS g (day)
        WHERE since < until;
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
-- dropped, because that reads the whole table.
CREATE OR REPLACE FUNCTION meter.require_kept(
    relation text, needed timestamptz, kept_days integer
) RETURNS void
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    available timestamptz;
BEGIN
    IF kept_days = 0 OR needed >= now() - make_interval(days => kept_days) THEN
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
    IF needed < available THEN
        RAISE EXCEPTION '% is kept for % days and no longer reaches back to %', relation, kept_days,
            needed USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Let the period begin and end on whole days of the billing time zone.';
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.require_kept IS
'Raises an error if a report needs rows of a table or rollup that retention has dropped.';

-- The edge of a report over `span` for any `instant`: the full minute, or the full hour or day if
-- finer rollups of that age may have been dropped. A span of more than a week begins and ends on
-- full days, except for edges in the last two days.
CREATE OR REPLACE FUNCTION meter.report_edge(instant timestamptz, span interval)
RETURNS timestamptz
LANGUAGE sql
STABLE
AS $fn$
    SELECT CASE
        WHEN instant < now() - interval '2 days' AND (
            span > interval '7 days'
            OR (
                ${retention_usage_1h} > 0
                AND instant < now() - make_interval(days => ${retention_usage_1h} - 1)
            )
        ) THEN meter.billing_trunc('day', instant)
        WHEN instant < now() - interval '2 days' AND least(
            nullif(${retention_usage_1m}, 0), nullif(${retention_poll}, 0)
        ) < extract(EPOCH FROM now() - instant) / 86400 + 1
            THEN public.time_bucket('${hour}', instant)
        ELSE date_trunc('minute', instant)
    END
$fn$;

COMMENT ON FUNCTION meter.report_edge IS
'The beginning of the minute, hour or day that contains an instant, so that a report over a span '
'of time can begin or end there. Finer rollups of that age may have been dropped.';
