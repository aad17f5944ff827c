-- Coverage of tenants: of the servers that could hold their sessions, and when they could.

-- The tenants that use the shared servers in [since, until): all except those that had servers of
-- their own and no session on a shared one.
CREATE OR REPLACE FUNCTION meter.sharing_tenants(since timestamptz, until timestamptz)
RETURNS TABLE (tenant_id integer)
LANGUAGE sql
STABLE
AS $fn$
    SELECT t.id
    FROM meter.tenant AS t
    WHERE
        NOT EXISTS (
            SELECT FROM meter.server_tenant AS own
            WHERE
                own.tenant_id = t.id AND own.since < sharing_tenants.until
                AND (own.until IS NULL OR own.until > greatest(own.since, sharing_tenants.since))
        )
        OR EXISTS (
            SELECT
            FROM meter.session AS x
            INNER JOIN meter.server_tenant AS w
                ON
                    x.server_id = w.server_id AND w.tenant_id IS NULL
                    AND (w.until IS NULL OR w.until > greatest(w.since, x.started_at))
                    AND (x.last_seen_at IS NULL OR x.last_seen_at >= w.since)
            WHERE
                x.tenant_id = t.id AND x.started_at < sharing_tenants.until
                AND x.started_at >= sharing_tenants.since - interval '1 day'
        )
$fn$;

COMMENT ON FUNCTION meter.sharing_tenants IS
'The tenants that use the shared servers in a period: all except those that had servers of their '
'own and no session on a shared one.';

-- The servers that could hold sessions of each tenant at some time of [since, until).
CREATE OR REPLACE FUNCTION meter.tenant_server(since timestamptz, until timestamptz)
RETURNS TABLE (tenant_id integer, server_id integer)
LANGUAGE sql
STABLE
AS $fn$
    SELECT DISTINCT coalesce(w.tenant_id, s.tenant_id), w.server_id
    FROM meter.server_tenant AS w
    LEFT JOIN meter.sharing_tenants(since, until) AS s ON w.tenant_id IS NULL
    WHERE
        w.since < tenant_server.until
        AND (w.until IS NULL OR w.until > greatest(w.since, tenant_server.since))
        AND (w.tenant_id IS NOT NULL OR s.tenant_id IS NOT NULL)
$fn$;

COMMENT ON FUNCTION meter.tenant_server IS
'The servers that could hold sessions of each tenant at some time of a period: its own servers, '
'and the shared ones if it uses them (meter.sharing_tenants).';

-- Split [since, until) where servers changed tenants, at edges for which coverage can still be
-- computed: the minute, or the hour or day if finer rows may have been dropped. So a server belongs
-- to one tenant in each part, except in a minute (hour, day) in which it changed.
CREATE OR REPLACE FUNCTION meter.tenancy_parts(since timestamptz, until timestamptz)
RETURNS TABLE (lo timestamptz, hi timestamptz)
LANGUAGE plpgsql
STABLE
ROWS 1
AS $fn$
BEGIN
    IF NOT EXISTS (
        SELECT FROM meter.server_tenant AS w
        WHERE w.since > tenancy_parts.since AND w.since < tenancy_parts.until
    ) THEN
        RETURN QUERY SELECT tenancy_parts.since, tenancy_parts.until;
        RETURN;
    END IF;
    RETURN QUERY
    WITH change AS (
        SELECT DISTINCT w.since AS at, g.grain
        FROM meter.server_tenant AS w
        CROSS JOIN LATERAL (
            SELECT CASE
                WHEN ${retention_poll} = 0 OR time_bucket('${hour}', w.since)
                    >= now() - make_interval(days => ${retention_poll}) THEN 'minute'
                WHEN ${retention_server_1h} = 0 OR meter.billing_trunc('day', w.since)
                    >= now() - make_interval(days => ${retention_server_1h}) THEN 'hour'
                ELSE 'day'
            END AS grain
        ) AS g
        WHERE w.since > tenancy_parts.since AND w.since < tenancy_parts.until
    ),

    edge AS (
        SELECT tenancy_parts.since AS at
        UNION
        SELECT tenancy_parts.until
        UNION
        SELECT least(greatest(e.at, tenancy_parts.since), tenancy_parts.until)
        FROM change AS c
        CROSS JOIN LATERAL unnest(CASE c.grain
            WHEN 'minute' THEN ARRAY[
                date_trunc('minute', c.at),
                date_trunc('minute', c.at + interval '59.999999 seconds')
            ]
            WHEN 'hour' THEN ARRAY[
                time_bucket('${hour}', c.at),
                time_bucket('${hour}', c.at + interval '${hour}' - interval '1 microsecond')
            ]
            ELSE ARRAY[
                meter.billing_trunc('day', c.at),
                meter.billing_end('day', c.at - interval '1 microsecond')
            ]
        END) AS e (at)
    )

    SELECT x.lo, x.hi
    FROM (SELECT e.at AS lo, lead(e.at) OVER (ORDER BY e.at) AS hi FROM edge AS e) AS x
    WHERE x.hi IS NOT NULL;
END
$fn$;

COMMENT ON FUNCTION meter.tenancy_parts IS
'Splits a period where servers changed tenants, at full minutes, or at full hours or days if finer '
'rows may have been dropped.';

-- The due and covered time of each server by period, and whose it was: a row for each tenant to
-- which it belonged, and a row (tenant_id is NULL) for the time in which it was shared. In the
-- minute (hour, day) in which it changed, each gets a part by time.
CREATE OR REPLACE FUNCTION meter.tenancy_coverage(
    since timestamptz, until timestamptz, per text DEFAULT 'total'
)
RETURNS TABLE (
    period timestamptz,
    server_id integer,
    server text,
    tenant_id integer,
    due_seconds double precision,
    covered_seconds double precision
)
LANGUAGE sql
STABLE
AS $fn$
    WITH seen AS (
        SELECT
            CASE per WHEN 'total' THEN since ELSE c.period END AS period,
            c.server_id,
            c.server,
            c.due_seconds,
            c.covered_seconds,
            CASE per WHEN 'total' THEN p.lo ELSE greatest(p.lo, c.period) END AS lo,
            CASE per
                WHEN 'total' THEN p.hi
                ELSE least(p.hi, meter.billing_end(per, c.period))
            END AS hi
        FROM meter.tenancy_parts(since, until) AS p
        CROSS JOIN LATERAL meter.server_coverage(p.lo, p.hi, per) AS c
    )

    SELECT
        c.period, c.server_id, c.server, w.tenant_id,
        sum(c.due_seconds * x.share), sum(c.covered_seconds * x.share)
    FROM seen AS c
    LEFT JOIN meter.server_tenant AS w
        ON
            c.server_id = w.server_id AND w.since < c.hi
            AND (w.until IS NULL OR w.until > greatest(w.since, c.lo))
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN w.server_id IS NULL OR w.since <= c.lo AND (w.until IS NULL OR w.until >= c.hi) THEN 1
            ELSE
                extract(EPOCH FROM least(w.until, c.hi) - greatest(w.since, c.lo))
                / extract(EPOCH FROM c.hi - c.lo)
        END::double precision AS share
    ) AS x
    GROUP BY 1, 2, 3, 4
$fn$;

COMMENT ON FUNCTION meter.tenancy_coverage IS
'The due and covered seconds of each server by period (per: day, month or total), for each tenant '
'to which it belonged in the period; tenant_id is NULL for the time in which it was shared.';

-- The coverage of each tenant by period: the mean over the servers that could hold its sessions,
-- each by the time in which it could, times the share of its sessions that their polls showed.
-- Whether a tenant uses the shared servers is decided for each period, so that a month has the same
-- coverage alone and among others.
CREATE OR REPLACE FUNCTION meter.tenant_coverage(
    since timestamptz, until timestamptz, per text DEFAULT 'total'
)
RETURNS TABLE (period timestamptz, tenant_id integer, coverage double precision)
LANGUAGE sql
STABLE
AS $fn$
    WITH lost AS MATERIALIZED (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, u.bucket) END
                AS period,
            u.server_id,
            u.tenant_id,
            sum(u.session_seconds) AS seconds
        FROM meter.unseen_between(since, until) AS u
        GROUP BY 1, 2, 3
    ),

    -- Most of the time nothing is lost, and the rest is not read.
    shown AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, c.bucket) END
                AS period,
            c.server_id,
            sum(c.session_seconds) AS seconds
        FROM meter.covered_between(since, until) AS c
        WHERE EXISTS (SELECT FROM lost AS l WHERE l.tenant_id = 0)
        GROUP BY 1, 2
    ),

    used AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, u.bucket) END
                AS period,
            u.tenant_id,
            sum(u.session_seconds - u.filled_seconds) AS seconds
        FROM meter.usage_between(since, until) AS u
        WHERE EXISTS (SELECT FROM lost AS l WHERE l.tenant_id > 0)
        GROUP BY 1, 2
    ),

    of_tenant AS (
        SELECT l.period, l.tenant_id, sum(l.seconds) AS seconds
        FROM lost AS l
        WHERE l.tenant_id > 0
        GROUP BY l.period, l.tenant_id
    ),

    -- A session of which nothing is known can be of any tenant.
    held AS MATERIALIZED (
        SELECT
            c.period,
            c.tenant_id,
            sum(c.covered_seconds * meter.seen_share(w.seconds, l.seconds)) AS covered_seconds,
            sum(c.due_seconds) AS due_seconds
        FROM meter.tenancy_coverage(since, until, per) AS c
        LEFT JOIN lost AS l
            ON c.period = l.period AND c.server_id = l.server_id AND l.tenant_id = 0
        LEFT JOIN shown AS w ON c.period = w.period AND c.server_id = w.server_id
        GROUP BY c.period, c.tenant_id
    ),

    polled AS (
        SELECT
            x.period,
            x.tenant_id,
            sum(x.covered_seconds) AS covered_seconds,
            sum(x.due_seconds) AS due_seconds
        FROM (
            SELECT h.period, h.tenant_id, h.covered_seconds, h.due_seconds
            FROM held AS h
            WHERE h.tenant_id IS NOT NULL
            UNION ALL
            SELECT h.period, s.tenant_id, h.covered_seconds, h.due_seconds
            FROM meter.periods(since, until, per) AS p
            INNER JOIN held AS h ON p.period = h.period AND h.tenant_id IS NULL
            CROSS JOIN LATERAL meter.sharing_tenants(p.lo, p.hi) AS s
        ) AS x
        GROUP BY x.period, x.tenant_id
        HAVING sum(x.due_seconds) > 0
    )

    SELECT
        p.period,
        p.tenant_id,
        p.covered_seconds / p.due_seconds * meter.seen_share(u.seconds, l.seconds)
    FROM polled AS p
    LEFT JOIN of_tenant AS l ON p.period = l.period AND p.tenant_id = l.tenant_id
    LEFT JOIN used AS u ON p.period = u.period AND p.tenant_id = u.tenant_id
$fn$;

COMMENT ON FUNCTION meter.tenant_coverage IS
'Coverage of each tenant by period (per: day, month or total): covered time divided by due time, '
'over its own servers while they were its own and, if it uses them (meter.sharing_tenants), the '
'shared servers while they were shared; times the share of its sessions that the polls showed.';
