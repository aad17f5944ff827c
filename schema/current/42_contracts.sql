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

-- The highest minute of one tenant in [since, until), in participants × seconds. Where minutes are
-- dropped, an hour at the edge counts if its highest minute is in the period. NULL if the tenant
-- had no session.
CREATE OR REPLACE FUNCTION meter.tenant_peak(
    of_tenant integer, since timestamptz, until timestamptz
) RETURNS bigint
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    tile record;
    peak bigint;
BEGIN
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        CASE
        WHEN tile.grain = 'day' THEN
            peak := greatest(peak, (
                SELECT max(u.peak_minute[1])
                FROM meter.usage_1d AS u
                WHERE u.tenant_id = of_tenant AND u.bucket >= tile.lo AND u.bucket < tile.hi
            ));
        WHEN tile.grain = 'hour' OR (
            ${retention_usage_1m} > 0
            AND tile.lo < now() - make_interval(days => ${retention_usage_1m} - 1)
        ) THEN
            peak := greatest(peak, (
                SELECT max(u.peak_minute[1])
                FROM meter.usage_1h AS u
                WHERE
                    u.tenant_id = of_tenant
                    AND u.bucket > tile.lo - interval '${hour}' AND u.bucket < tile.hi
                    AND -u.peak_minute[2] >= extract(EPOCH FROM tile.lo)
                    AND -u.peak_minute[2] < extract(EPOCH FROM tile.hi)
            ));
        ELSE
            peak := greatest(peak, (
                SELECT max(u.participant_seconds)
                FROM meter.usage_1m AS u
                WHERE u.tenant_id = of_tenant AND u.bucket >= tile.lo AND u.bucket < tile.hi
            ));
        END CASE;
    END LOOP;
    RETURN peak;
END
$fn$;

COMMENT ON FUNCTION meter.tenant_peak IS
'The highest minute of one tenant in [since, until), in participants × seconds; NULL if the tenant '
'had no session.';

-- The share of the calendar time of [since, until), up to now, in which polls of at least one of a
-- tenant's servers were due. Coverage cannot show a time before metering began, because no poll
-- was due then.
CREATE OR REPLACE FUNCTION meter.tenant_metered(since timestamptz, until timestamptz)
RETURNS TABLE (tenant_id integer, metered_share double precision)
LANGUAGE sql
STABLE
AS $fn$
    WITH frame AS (
        SELECT
            tenant_metered.since AS lo,
            least(tenant_metered.until, date_trunc('minute', now())) AS hi
    ),

    due AS (
        SELECT
            a.tenant_id,
            bool_or(d.since <= f.lo AND (d.until IS NULL OR d.until >= f.hi)) AS throughout,
            -- Few servers are due in a part of the time only.
            range_agg(tstzrange(greatest(d.since, f.lo), least(d.until, f.hi))) FILTER (
                WHERE d.since > f.lo OR d.until < f.hi
            ) AS spans
        FROM frame AS f
        CROSS JOIN meter.tenant_server(since, until) AS a
        INNER JOIN meter.server_due AS d
            ON
                a.server_id = d.server_id
                AND d.since < f.hi AND (d.until IS NULL OR d.until > f.lo)
        GROUP BY a.tenant_id
    )

    SELECT
        t.id,
        CASE
            WHEN f.lo >= f.hi THEN NULL
            WHEN d.throughout THEN 1
            ELSE coalesce((
                SELECT sum(extract(EPOCH FROM upper(r.span) - lower(r.span)))
                FROM unnest(d.spans) AS r (span)
            ) / extract(EPOCH FROM f.hi - f.lo), 0)
        END::double precision
    FROM frame AS f
    CROSS JOIN meter.tenant AS t
    LEFT JOIN due AS d ON t.id = d.tenant_id
$fn$;

COMMENT ON FUNCTION meter.tenant_metered IS
'The share of the calendar time of [since, until), up to now, in which polls of at least one of '
'the tenant''s servers were due (metered_share). It is below 1 if metering began later.';

-- meter.tenant_report with each tenant's share of the total, the metered share of the time, and the
-- tenant's peaks compared with its contracts.
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
    metered_share double precision,
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
        h.peak_use,
        u.breakout_minutes,
        u.dialin_minutes,
        u.coverage,
        m.metered_share,
        u.filled_share
    FROM meter.tenant_report(since, until) AS u
    INNER JOIN meter.tenant AS t ON u.tenant = t.name
    LEFT JOIN meter.contract_at(until - interval '1 microsecond') AS k ON t.id = k.tenant_id
    LEFT JOIN meter.tenant_metered(since, until) AS m ON t.id = m.tenant_id
    -- A peak is held against the contract of its own time: that of the minute's beginning.
    CROSS JOIN LATERAL (
        SELECT
            max(
                CASE
                    WHEN e.lo = tenant_ranking.since AND e.hi = tenant_ranking.until
                        THEN u.peak_participants
                    WHEN e.lo < e.hi
                        THEN coalesce(
                            meter.tenant_peak(t.id, e.lo, e.hi) / 60.0::double precision,
                            -- Nobody was there in the time of this contract.
                            CASE WHEN u.peak_participants IS NOT NULL THEN 0 END
                        )
                END / c.participant_limit
            ) AS peak_use
        FROM meter.contract AS c
        CROSS JOIN LATERAL (
            SELECT
                greatest(tenant_ranking.since, date_trunc(
                    'minute', c.since + interval '1 minute' - interval '1 microsecond'
                )) AS lo,
                least(tenant_ranking.until, date_trunc(
                    'minute', c.until + interval '1 minute' - interval '1 microsecond'
                )) AS hi
        ) AS e
        WHERE
            c.tenant_id = t.id AND c.participant_limit IS NOT NULL
            AND c.since < tenant_ranking.until
            AND (c.until IS NULL OR c.until > tenant_ranking.since)
    ) AS h
    ORDER BY 1, u.tenant
$fn$;

COMMENT ON FUNCTION meter.tenant_ranking IS
'meter.tenant_report with ranks (place), each tenant''s share of all participant minutes, the '
'limit of concurrent participants at the end of the period, the highest share of a limit that a '
'peak reached while the limit was agreed (peak_use: 1 is all of it), and the metered share of the '
'time (meter.tenant_metered).';

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
-- spans. If minutes are no longer kept, spans are full hours, or full days if hours are no longer
-- kept, and `minutes` is NULL.
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
DECLARE
    -- The first day of which all hours are kept.
    hours_since timestamptz := CASE
        WHEN ${retention_usage_1h} = 0 THEN '-infinity'
        ELSE meter.step_end('1 day', meter.billing_trunc(
            'day', now() - make_interval(days => ${retention_usage_1h})
        ))
    END;
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
            interval '${hour}' AS width,
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
            AND u.bucket >= hours_since
            AND (tenants IS NULL OR t.name = ANY(tenants))
        UNION ALL
        SELECT
            d.bucket,
            d.tenant_id,
            t.name,
            k.participant_limit,
            NULL,
            NULL,
            d.peak_minute,
            meter.step_end('1 day', d.bucket) - d.bucket,
            TRUE
        FROM meter.contract AS k
        INNER JOIN meter.tenant AS t ON k.tenant_id = t.id
        INNER JOIN meter.usage_1d AS d
            ON
                k.tenant_id = d.tenant_id
                AND d.peak_minute[1] > k.participant_limit * 60
                AND -d.peak_minute[2] >= extract(EPOCH FROM k.since)
                AND (k.until IS NULL OR -d.peak_minute[2] < extract(EPOCH FROM k.until))
        WHERE
            d.bucket > over_limit.since - interval '25 hours' AND d.bucket < over_limit.until
            AND meter.step_end('1 day', d.bucket) > over_limit.since
            AND d.bucket < hours_since
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
            h.name, h.tenant_id, h.participant_limit, h.bucket, h.bucket + h.width, NULL,
            h.peak_minute
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
'number of minutes and the peak. If minutes are no longer kept, spans are full hours, or full days '
'if hours are no longer kept, and minutes is NULL.';
