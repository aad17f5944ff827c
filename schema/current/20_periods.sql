-- Cutting time: which rollup covers which part of a period exactly.

CREATE OR REPLACE FUNCTION meter.billing_timezone() RETURNS text
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN ${billing_timezone};

COMMENT ON FUNCTION meter.billing_timezone IS 'The time zone in which days and months are cut.';

-- The tenant of meetings that no rule of the settings matches.
CREATE OR REPLACE FUNCTION meter.default_tenant() RETURNS text
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN ${default_tenant};

COMMENT ON FUNCTION meter.default_tenant IS
'The tenant of meetings that no rule of the settings matches.';

-- The first instant of the day or month in the billing time zone that `instant` lies in.
CREATE OR REPLACE FUNCTION meter.billing_trunc(unit text, instant timestamptz)
RETURNS timestamptz
LANGUAGE sql
STABLE PARALLEL SAFE
RETURN date_trunc(unit, instant, meter.billing_timezone());

COMMENT ON FUNCTION meter.billing_trunc IS
'The beginning of the day, month or other unit (as in date_trunc) of the billing time zone that '
'an instant lies in.';

-- [since, until) cut into days, hours and minutes, coarse in the middle and fine at the edges, so
-- that a report over any whole minutes is exact and reads few rows. lo < hi in every row.
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
        -- Adding in local time: a day has 23 or 25 hours when the clocks change, and where they
        -- change at midnight a day begins at 01:00, but not the next one.
        first_day := (date_trunc('day', since AT TIME ZONE zone) + interval '1 day')
            AT TIME ZONE zone;
    END IF;
    IF last_day > until THEN
        -- Where midnight comes twice, a day begins at the second one.
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
'[since, until), which must be full minutes, cut into pieces [lo, hi) of which the rollup by '
'grain (day, hour, minute) holds exact sums: coarse in the middle, fine at the edges.';

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

-- [since, until) as the periods of a report: one a day, one a month (in the billing time zone, the
-- first and the last one cut at the edges), or one in all ('total').
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
'[since, until) cut into one piece [lo, hi) a day or month of the billing time zone (per), or '
'in one for total. period is the beginning of the whole day or month, or since.';

-- Refuse a period whose edges need a table that no longer reaches back so far: a figure that
-- lacks a part without saying so is worse than none. What is left is looked up only where something
-- may be gone, for that reads all of it.
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
'Raises an error where a report needs rows of a relation from before those that retention has '
'left.';

-- An edge of a report of `span` around `instant`, where the rollups of that age have one: a whole
-- minute; a whole hour or day where finer ones may be gone. A span of more than a week begins and
-- ends on whole days, but for what is younger than two days.
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
'The minute, hour or day that an instant lies in, so that a report over a span of time can begin '
'or end there: finer ones may no longer be kept.';
