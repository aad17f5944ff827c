-- Tenants compared with each other and with what their contracts allow.

-- The contract of each tenant at an instant. A tenant without a contract has no row.
CREATE OR REPLACE FUNCTION meter.contract_at(instant timestamptz)
RETURNS TABLE (tenant_id integer, participant_limit integer, month_minute_limit bigint)
LANGUAGE sql
STABLE
AS $fn$
    SELECT k.tenant_id, k.participant_limit, k.month_minute_limit
    FROM meter.contract AS k
    WHERE k.since <= instant AND (k.until IS NULL OR instant < k.until)
$fn$;

COMMENT ON FUNCTION meter.contract_at IS
'The contract of each tenant at an instant. A limit is NULL if the contract does not set it; a '
'tenant without a contract has no row.';

-- meter.tenant_report with each tenant's share of the total, and its peak compared with its
-- contract.
CREATE OR REPLACE FUNCTION meter.tenant_ranking(since timestamptz, until timestamptz)
RETURNS TABLE (
    place bigint,
    tenant text,
    title text,
    participant_minutes double precision,
    share double precision,
    sessions bigint,
    avg_session_size double precision,
    max_session_size integer,
    peak_participants double precision,
    peak_participants_at timestamptz,
    participant_limit integer,
    peak_use double precision,
    breakout_minutes double precision,
    dialin_minutes double precision,
    coverage double precision,
    filled_share double precision
)
LANGUAGE sql
STABLE
AS $fn$
    SELECT
        rank() OVER (ORDER BY u.participant_minutes DESC NULLS LAST),
        u.tenant,
        coalesce(nullif(t.title, ''), t.name),
        u.participant_minutes,
        u.participant_minutes / nullif(sum(u.participant_minutes) OVER (), 0),
        u.sessions,
        u.avg_session_size,
        u.max_session_size,
        u.peak_participants,
        u.peak_participants_at,
        k.participant_limit,
        u.peak_participants / k.participant_limit,
        u.breakout_minutes,
        u.dialin_minutes,
        u.coverage,
        u.filled_share
    FROM meter.tenant_report(since, until) AS u
    INNER JOIN meter.tenant AS t ON u.tenant = t.name
    LEFT JOIN meter.contract_at(until - interval '1 microsecond') AS k ON t.id = k.tenant_id
    ORDER BY 1, u.tenant
$fn$;

COMMENT ON FUNCTION meter.tenant_ranking IS
'meter.tenant_report with ranks (place), each tenant''s share of all participant minutes, and its '
'peak as a share of what the contract at the end of the period allows (peak_use: 1 is all of it).';

-- The calendar month up to `instant`, the expected total of the month, and the month before. The
-- rest of the month is expected to be like the same weekdays of the four weeks before today. Days
-- in which no poll succeeded do not count. If that leaves no day for a weekday, it is expected to
-- be like the mean of the other days.
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
    coverage double precision
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
BEGIN
    RETURN QUERY
    WITH frame AS (
        SELECT
            date_trunc('minute', instant) AS until,
            meter.billing_trunc('month', instant) AS since,
            meter.billing_trunc('month', meter.billing_trunc('month', instant)
                - interval '1 microsecond') AS before_since,
            meter.billing_trunc('day', instant) AS today,
            -- 27 days and a half: the clocks can have changed since then.
            meter.billing_trunc('day', meter.billing_trunc('day', instant)
                - interval '660 hours') AS known_since,
            meter.billing_end('month', instant) AS month_end
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

    figure AS (
        SELECT
            t.id,
            t.name,
            coalesce(nullif(t.title, ''), t.name) AS title,
            m.participant_minutes,
            (m.participant_minutes + e.minutes)::double precision AS projected,
            b.participant_minutes AS before,
            m.coverage
        FROM this_month AS m
        INNER JOIN meter.tenant AS t ON m.tenant = t.name
        LEFT JOIN last_month AS b ON m.tenant = b.tenant
        LEFT JOIN expected AS e ON t.id = e.tenant_id
    )

    SELECT
        x.name,
        x.title,
        x.participant_minutes,
        x.projected,
        x.before,
        x.projected / nullif(x.before, 0) - 1,
        k.month_minute_limit,
        x.participant_minutes / k.month_minute_limit,
        x.projected / k.month_minute_limit,
        x.coverage
    FROM figure AS x
    LEFT JOIN meter.contract_at(instant) AS k ON x.id = k.tenant_id
    ORDER BY x.participant_minutes DESC NULLS LAST, x.name;
END
$fn$;

COMMENT ON FUNCTION meter.month_to_date IS
'The calendar month up to an instant, for each tenant: participant minutes so far, the expected '
'minutes of the whole month (projected_minutes), the minutes of the month before, and the '
'contract''s month_minute_limit (use and projected_use: 1 is all of them). change is the relative '
'change from last_month_minutes to projected_minutes. The rest of the month is expected to be like '
'the last four weeks.';

-- The minutes of [since, until) in which a tenant had more than `most` participants × seconds.
-- meter.over_limit calls it for each span of hours.
CREATE OR REPLACE FUNCTION meter.minutes_above(
    of_tenant integer, since timestamptz, until timestamptz, most bigint
)
RETURNS TABLE (bucket timestamptz, participant_seconds bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
BEGIN
    RETURN QUERY
    SELECT m.bucket, m.participant_seconds
    FROM meter.usage_1m AS m
    WHERE
        m.tenant_id = of_tenant AND m.bucket >= since AND m.bucket < until
        AND m.participant_seconds > most;
END
$fn$;

COMMENT ON FUNCTION meter.minutes_above IS
'The minutes of [since, until) in which a tenant had more than a number of participants × seconds.';

-- When tenants had more participants at once than their contracts allow: minutes, joined into
-- spans. If minutes are no longer kept, spans are full hours, and `minutes` is NULL.
CREATE OR REPLACE FUNCTION meter.over_limit(
    since timestamptz, until timestamptz, tenants text[] DEFAULT NULL
)
RETURNS TABLE (
    tenant text,
    over_since timestamptz,
    over_until timestamptz,
    minutes bigint,
    peak_participants double precision,
    peak_participants_at timestamptz,
    participant_limit integer
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
BEGIN
    RETURN QUERY
    WITH hour AS (
        -- Few hours have a peak above the limit, and only their minutes are read. A contract has a
        -- since and an until too: those of the call are written with the function's name.
        SELECT
            u.bucket,
            u.tenant_id,
            t.name,
            k.participant_limit,
            greatest(k.since, over_limit.since) AS lo,
            least(k.until, over_limit.until) AS hi,
            u.peak_minute,
            ${retention_usage_1m} > 0
            AND u.bucket < now() - make_interval(days => ${retention_usage_1m}) AS only_hours
        FROM meter.contract AS k
        INNER JOIN meter.tenant AS t ON k.tenant_id = t.id
        INNER JOIN meter.usage_1h AS u
            ON k.tenant_id = u.tenant_id
            AND u.peak_minute[1] > k.participant_limit * 60
            AND u.bucket > k.since - interval '1 hour' AND (k.until IS NULL OR u.bucket < k.until)
        WHERE
            u.bucket > over_limit.since - interval '1 hour' AND u.bucket < over_limit.until
            AND (tenants IS NULL OR t.name = ANY(tenants))
    ),

    -- Consecutive hours are joined, because each span is searched by a query of its own.
    hours AS (
        SELECT
            n.name, n.tenant_id, n.participant_limit,
            greatest(min(n.bucket), n.lo) AS lo,
            least(max(n.bucket) + interval '${hour}', n.hi) AS hi
        FROM (
            SELECT
                h.*,
                h.bucket - interval '${hour}'
                * row_number() OVER (PARTITION BY h.tenant_id, h.lo ORDER BY h.bucket) AS island
            FROM hour AS h
            WHERE NOT h.only_hours
        ) AS n
        GROUP BY n.name, n.tenant_id, n.participant_limit, n.lo, n.hi, n.island
    ),

    piece AS (
        SELECT
            h.name, h.tenant_id, h.participant_limit, m.bucket AS lo,
            m.bucket + interval '1 minute' AS hi, 1 AS minutes,
            ARRAY[m.participant_seconds, -extract(EPOCH FROM m.bucket)::bigint] AS peak
        FROM hours AS h
        CROSS JOIN LATERAL meter.minutes_above(
            h.tenant_id, h.lo, h.hi, h.participant_limit * 60::bigint
        ) AS m
        UNION ALL
        SELECT
            h.name, h.tenant_id, h.participant_limit, h.bucket, h.bucket + interval '${hour}',
            NULL, h.peak_minute
        FROM hour AS h
        WHERE h.only_hours
    ),

    marked AS (
        SELECT
            p.*,
            coalesce(p.lo > lag(p.hi) OVER w, TRUE) OR p.participant_limit
            <> lag(p.participant_limit) OVER w AS is_first
        FROM piece AS p
        WINDOW w AS (PARTITION BY p.tenant_id ORDER BY p.lo)
    ),

    numbered AS (
        SELECT
            m.*,
            count(*) FILTER (WHERE m.is_first) OVER (PARTITION BY m.tenant_id ORDER BY m.lo)
                AS span
        FROM marked AS m
    )

    SELECT
        n.name,
        min(n.lo),
        max(n.hi),
        sum(n.minutes),
        (max(n.peak))[1] / 60.0::double precision,
        to_timestamp(-(max(n.peak))[2]),
        n.participant_limit
    FROM numbered AS n
    GROUP BY n.tenant_id, n.name, n.participant_limit, n.span
    ORDER BY 2, 1;
END
$fn$;

COMMENT ON FUNCTION meter.over_limit IS
'The spans in which tenants had more participants at once than their contracts allow, with the '
'number of minutes and the peak. If minutes are no longer kept, spans are full hours, and minutes '
'is NULL.';
