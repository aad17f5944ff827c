-- Coverage: the share of the due time that successful polls cover, of servers and of tenants.

-- The seconds of [since, until) that the successful polls of each server cover.
CREATE OR REPLACE FUNCTION meter.covered_between(since timestamptz, until timestamptz)
RETURNS TABLE (bucket timestamptz, server_id integer, covered_seconds bigint)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    tile record;
BEGIN
    FOR tile IN SELECT * FROM meter.tiles(since, until) LOOP
        CASE tile.grain
        WHEN 'day' THEN
            RETURN QUERY
            SELECT d.bucket, d.server_id, d.covered_seconds
            FROM meter.server_1d AS d
            WHERE d.bucket >= tile.lo AND d.bucket < tile.hi;
        WHEN 'hour' THEN
            PERFORM meter.require_kept('server_1h', tile.lo, ${retention_server_1h});
            RETURN QUERY
            SELECT h.bucket, h.server_id, h.covered_seconds
            FROM meter.server_1h AS h
            WHERE h.bucket >= tile.lo AND h.bucket < tile.hi;
        WHEN 'minute' THEN
            PERFORM meter.require_kept('poll', tile.lo, ${retention_poll});
            RETURN QUERY
            SELECT p.ts, p.server_id, p.seconds::bigint
            FROM meter.poll AS p
            WHERE p.ts >= tile.lo AND p.ts < tile.hi AND p.ok;
        END CASE;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.covered_between IS
'Seconds of [since, until) that the successful polls of each server cover, in rows that together '
'cover it exactly; a row covers a day at most.';

-- The coverage of each server by period. Polls are due in the spans of meter.server_due; an open
-- span ends one minute ago. So a collector that is down leaves a gap like a server that is down.
CREATE OR REPLACE FUNCTION meter.server_coverage(
    since timestamptz, until timestamptz, per text DEFAULT 'total'
)
RETURNS TABLE (
    period timestamptz,
    server_id integer,
    server text,
    due_seconds double precision,
    covered_seconds double precision,
    coverage double precision
)
LANGUAGE sql
STABLE
AS $fn$
    WITH horizon AS (
        SELECT
            CASE
                WHEN EXISTS (SELECT FROM meter.server_due AS o WHERE o.until IS NULL)
                    THEN least(until, date_trunc('minute', now() - interval '1 minute'))
                ELSE until
            END AS until
    ),

    periods AS (
        SELECT p.period, p.lo, p.hi
        FROM horizon AS h
        CROSS JOIN LATERAL meter.periods(since, h.until, per) AS p
    ),

    due AS (
        SELECT
            p.period,
            d.server_id,
            sum(extract(EPOCH FROM least(p.hi, d.until) - greatest(p.lo, d.since))) AS seconds
        FROM periods AS p
        INNER JOIN meter.server_due AS d
            ON p.hi > d.since AND (d.until IS NULL OR p.lo < d.until)
        GROUP BY p.period, d.server_id
    ),

    covered AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, c.bucket) END
                AS period,
            c.server_id,
            sum(c.covered_seconds) AS seconds
        FROM horizon AS h
        CROSS JOIN LATERAL meter.covered_between(since, greatest(since, h.until)) AS c
        GROUP BY 1, 2
    )

    SELECT
        d.period,
        d.server_id,
        s.name,
        d.seconds,
        least(coalesce(c.seconds, 0), d.seconds),
        least(coalesce(c.seconds, 0) / nullif(d.seconds, 0), 1)
    FROM due AS d
    INNER JOIN meter.server AS s ON d.server_id = s.id
    LEFT JOIN covered AS c ON d.period = c.period AND d.server_id = c.server_id
    WHERE d.seconds > 0
    ORDER BY d.period, s.name
$fn$;

COMMENT ON FUNCTION meter.server_coverage IS
'Coverage of each server by period (per: day, month or total): the seconds for which polls were '
'due (due_seconds), those that successful polls cover (covered_seconds), and their quotient '
'(coverage). Polls are due in the spans of meter.server_due, up to one minute ago. There is no row '
'if no poll was due.';

-- The servers that can hold sessions of each tenant: its own servers, and the shared ones, unless
-- the tenant has servers of its own and had no session on a shared one.
CREATE OR REPLACE FUNCTION meter.tenant_server(since timestamptz, until timestamptz)
RETURNS TABLE (tenant_id integer, server_id integer)
LANGUAGE sql
STABLE
AS $fn$
    WITH shares AS (
        SELECT
            t.id AS tenant_id,
            NOT EXISTS (SELECT FROM meter.server AS own WHERE own.tenant_id = t.id)
            OR EXISTS (
                SELECT
                FROM meter.session AS x
                INNER JOIN meter.server AS shared
                    ON x.server_id = shared.id AND shared.tenant_id IS NULL
                WHERE x.tenant_id = t.id
                    AND x.started_at < until AND x.started_at >= since - interval '1 day'
            ) AS on_shared
        FROM meter.tenant AS t
    )

    SELECT a.tenant_id, s.id
    FROM shares AS a
    INNER JOIN meter.server AS s
        ON a.tenant_id = s.tenant_id OR (s.tenant_id IS NULL AND a.on_shared)
$fn$;

COMMENT ON FUNCTION meter.tenant_server IS
'The servers that can hold sessions of each tenant: its own servers, and the shared ones, unless '
'the tenant has servers of its own and had no session on a shared one.';

-- The coverage of each tenant by period: the mean over the servers that can hold its sessions.
CREATE OR REPLACE FUNCTION meter.tenant_coverage(
    since timestamptz, until timestamptz, per text DEFAULT 'total'
)
RETURNS TABLE (period timestamptz, tenant_id integer, coverage double precision)
LANGUAGE sql
STABLE
AS $fn$
    SELECT c.period, a.tenant_id, sum(c.covered_seconds) / sum(c.due_seconds)
    FROM meter.server_coverage(since, until, per) AS c
    INNER JOIN meter.tenant_server(since, until) AS a ON c.server_id = a.server_id
    GROUP BY c.period, a.tenant_id
$fn$;

COMMENT ON FUNCTION meter.tenant_coverage IS
'Coverage of each tenant by period (per: day, month or total): meter.server_coverage over all '
'servers that can hold its sessions (meter.tenant_server).';
