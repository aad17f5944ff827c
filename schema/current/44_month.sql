-- The calendar month so far: what each tenant used, and what it will have used.

-- The calendar month up to the end of the minute of `instant` (meter.report_edge), the expected
-- total of the month, and the month before. The rest of the month is expected to be like the same
-- weekdays of the four weeks before today. Days in which no poll succeeded do not count. If that
-- leaves no day for a weekday, it is expected to be like the mean of the other days.
CREATE OR REPLACE FUNCTION meter.month_to_date(instant timestamptz DEFAULT now())
RETURNS TABLE (
    tenant text,
    title text,
    participant_minutes double precision,
    projected_minutes double precision,
    last_month_minutes double precision,
    change double precision,
    month_minute_limit bigint,
    use double precision,
    projected_use double precision,
    coverage double precision,
    last_month_metered_share double precision
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    up_to timestamptz := meter.report_edge(instant, is_end => TRUE);
    -- At the end of a month, this is still that month.
    last_instant timestamptz := up_to - interval '1 microsecond';
BEGIN
    RETURN QUERY
    WITH frame AS (
        SELECT
            up_to AS until,
            meter.billing_trunc('month', last_instant) AS since,
            meter.billing_trunc('month', meter.billing_trunc('month', last_instant)
                - interval '1 microsecond') AS before_since,
            meter.billing_trunc('day', last_instant) AS today,
            -- 27 days and a half: the clocks can have changed since then.
            meter.billing_trunc('day', meter.billing_trunc('day', last_instant)
                - interval '660 hours') AS known_since,
            meter.billing_end('month', last_instant) AS month_end
    ),

    -- Days with a successful poll. On other days, usage is unknown and not zero.
    known_day AS (
        SELECT
            x.day,
            extract(ISODOW FROM x.day AT TIME ZONE meter.billing_timezone()) AS weekday
        FROM (
            SELECT meter.billing_trunc('day', d.bucket) AS day, d.covered_seconds
            FROM frame AS f
            INNER JOIN meter.server_1d AS d ON d.bucket >= f.known_since AND d.bucket < f.today
        ) AS x
        GROUP BY x.day
        HAVING sum(x.covered_seconds) > 0
    ),

    used AS (
        SELECT
            k.weekday,
            t.id AS tenant_id,
            avg(coalesce(u.seconds, 0)) AS seconds
        FROM known_day AS k
        CROSS JOIN meter.tenant AS t
        LEFT JOIN (
            SELECT
                meter.billing_trunc('day', d.bucket) AS day,
                d.tenant_id,
                sum(d.participant_seconds) AS seconds
            FROM frame AS f
            INNER JOIN meter.usage_1d AS d ON d.bucket >= f.known_since AND d.bucket < f.today
            GROUP BY 1, 2
        ) AS u ON k.day = u.day AND t.id = u.tenant_id
        GROUP BY GROUPING SETS ((k.weekday, t.id), (t.id))
    ),

    -- The rest of the month by weekday, in days and parts of a day.
    left_over AS (
        SELECT
            extract(ISODOW FROM p.period AT TIME ZONE meter.billing_timezone()) AS weekday,
            sum(extract(EPOCH FROM p.hi - p.lo) / 86400) AS days
        FROM frame AS f
        CROSS JOIN LATERAL meter.periods(f.until, f.month_end, 'day') AS p
        GROUP BY 1
    ),

    expected AS (
        SELECT
            t.id AS tenant_id,
            sum(l.days * coalesce(u.seconds, a.seconds)) / 60 AS minutes
        FROM meter.tenant AS t
        CROSS JOIN left_over AS l
        LEFT JOIN used AS u ON t.id = u.tenant_id AND l.weekday = u.weekday
        LEFT JOIN used AS a ON t.id = a.tenant_id AND a.weekday IS NULL
        GROUP BY t.id
    ),

    -- Materialized, so that each report is computed once and not once for each tenant.
    this_month AS MATERIALIZED (
        SELECT m.* FROM frame AS f CROSS JOIN LATERAL meter.tenant_report(f.since, f.until) AS m
    ),

    last_month AS MATERIALIZED (
        SELECT b.tenant, b.participant_minutes
        FROM frame AS f
        CROSS JOIN LATERAL meter.tenant_report(f.before_since, f.since) AS b
    ),

    metered AS (
        SELECT d.tenant_id, d.metered_share
        FROM frame AS f
        CROSS JOIN LATERAL meter.tenant_metered(f.before_since, f.since) AS d
    ),

    figure AS (
        SELECT
            t.id,
            t.name,
            coalesce(nullif(t.title, ''), t.name) AS title,
            m.participant_minutes,
            (m.participant_minutes + e.minutes)::double precision AS projected,
            b.participant_minutes AS before,
            d.metered_share AS before_metered,
            m.coverage
        FROM this_month AS m
        INNER JOIN meter.tenant AS t ON m.tenant = t.name
        LEFT JOIN last_month AS b ON m.tenant = b.tenant
        LEFT JOIN metered AS d ON t.id = d.tenant_id
        LEFT JOIN expected AS e ON t.id = e.tenant_id
    )

    SELECT
        x.name,
        x.title,
        x.participant_minutes,
        x.projected,
        x.before,
        -- A part of a month cannot be compared with a month.
        CASE WHEN x.before_metered = 1 THEN x.projected / nullif(x.before, 0) - 1 END,
        k.month_minute_limit,
        x.participant_minutes / k.month_minute_limit,
        x.projected / k.month_minute_limit,
        x.coverage,
        x.before_metered
    FROM figure AS x
    LEFT JOIN meter.contract_at(last_instant) AS k ON x.id = k.tenant_id
    ORDER BY x.participant_minutes DESC NULLS LAST, x.name;
END
$fn$;

COMMENT ON FUNCTION meter.month_to_date IS
'The calendar month up to an instant, for each tenant: participant minutes so far, the expected '
'minutes of the whole month (projected_minutes), the minutes of the month before, and the '
'contract''s month_minute_limit (use and projected_use: 1 is all of them). change is the relative '
'change from last_month_minutes to projected_minutes; it is NULL if polls were not due throughout '
'the month before (last_month_metered_share below 1). The rest of the month is expected to be like '
'the last four weeks.';
