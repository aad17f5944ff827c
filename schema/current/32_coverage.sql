-- Coverage: the share of the due time that successful polls cover, of servers and of tenants.

-- The seconds of [since, until) that the successful polls of each server cover, and the seconds of
-- the sessions (no breakouts) that they showed.
CREATE OR REPLACE FUNCTION meter.covered_between(since timestamptz, until timestamptz)
RETURNS TABLE (
    bucket timestamptz, server_id integer, covered_seconds bigint, session_seconds bigint
)
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
            SELECT d.bucket, d.server_id, d.covered_seconds, d.session_seconds
            FROM meter.server_1d AS d
            WHERE d.bucket >= tile.lo AND d.bucket < tile.hi;
        WHEN 'hour' THEN
            PERFORM meter.require_kept('server_1h', tile.lo, ${retention_server_1h});
            RETURN QUERY
            SELECT h.bucket, h.server_id, h.covered_seconds, h.session_seconds
            FROM meter.server_1h AS h
            WHERE h.bucket >= tile.lo AND h.bucket < tile.hi;
        WHEN 'minute' THEN
            PERFORM meter.require_kept('poll', tile.lo, ${retention_poll});
            RETURN QUERY
            SELECT p.ts, p.server_id, p.seconds::bigint, p.sessions::bigint * p.seconds
            FROM meter.poll AS p
            WHERE p.ts >= tile.lo AND p.ts < tile.hi AND p.ok;
        END CASE;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.covered_between IS
'Seconds of [since, until) that the successful polls of each server cover, and session seconds '
'that they showed, in rows that together cover it exactly; a row covers a day at most.';

-- The session seconds of [since, until) that the successful polls of each server did not show, by
-- tenant; the tenant is 0 if it is unknown.
CREATE OR REPLACE FUNCTION meter.unseen_between(since timestamptz, until timestamptz)
RETURNS TABLE (bucket timestamptz, server_id integer, tenant_id integer, session_seconds bigint)
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
            SELECT d.bucket, d.server_id, d.tenant_id, d.session_seconds
            FROM meter.unseen_1d AS d
            WHERE d.bucket >= tile.lo AND d.bucket < tile.hi;
        WHEN 'hour' THEN
            RETURN QUERY
            SELECT h.bucket, h.server_id, h.tenant_id, h.session_seconds
            FROM meter.unseen_1h AS h
            WHERE h.bucket >= tile.lo AND h.bucket < tile.hi;
        WHEN 'minute' THEN
            RETURN QUERY
            SELECT u.ts, u.server_id, coalesce(u.tenant_id, 0), u.sessions::bigint * u.seconds
            FROM meter.unseen AS u
            WHERE u.ts >= tile.lo AND u.ts < tile.hi;
        END CASE;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.unseen_between IS
'Session seconds of [since, until) that the successful polls of each server did not show, by '
'tenant (0 if it is unknown), in rows that together cover it exactly; a row covers a day at most.';

-- The share of sessions that was seen: 1 if nothing is missing, and 0 if nothing was seen.
CREATE OR REPLACE FUNCTION meter.seen_share(seen_seconds numeric, unseen_seconds numeric)
RETURNS double precision
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN coalesce(unseen_seconds, 0) = 0 THEN 1
    ELSE
        coalesce(seen_seconds, 0)::double precision
        / (coalesce(seen_seconds, 0) + unseen_seconds)::double precision
END;

COMMENT ON FUNCTION meter.seen_share IS
'The share of sessions that was seen, from the session seconds that were seen and those that were '
'not.';

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
            sum(c.covered_seconds) AS seconds,
            sum(c.session_seconds) AS session_seconds
        FROM horizon AS h
        CROSS JOIN LATERAL meter.covered_between(since, greatest(since, h.until)) AS c
        GROUP BY 1, 2
    ),

    lost AS (
        SELECT
            CASE WHEN per = 'total' THEN since ELSE meter.billing_trunc(per, u.bucket) END
                AS period,
            u.server_id,
            sum(u.session_seconds) AS seconds
        FROM meter.unseen_between(since, until) AS u
        GROUP BY 1, 2
    )

    SELECT
        d.period,
        d.server_id,
        s.name,
        d.seconds,
        least(coalesce(c.seconds, 0), d.seconds),
        least(coalesce(c.seconds, 0) / nullif(d.seconds, 0), 1)
        * meter.seen_share(c.session_seconds, l.seconds)
    FROM due AS d
    INNER JOIN meter.server AS s ON d.server_id = s.id
    LEFT JOIN covered AS c ON d.period = c.period AND d.server_id = c.server_id
    LEFT JOIN lost AS l ON d.period = l.period AND d.server_id = l.server_id
    WHERE d.seconds > 0
    ORDER BY d.period, s.name
$fn$;

COMMENT ON FUNCTION meter.server_coverage IS
'Coverage of each server by period (per: day, month or total): the seconds for which polls were '
'due (due_seconds), those that successful polls cover (covered_seconds), and coverage: their '
'quotient, times the share of sessions that the polls showed. Polls are due in the spans of '
'meter.server_due, up to one minute ago. There is no row if no poll was due.';

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

-- The coverage of each tenant by period: the mean over the servers that can hold its sessions,
-- times the share of its sessions that their polls showed.
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
    polled AS (
        SELECT
            c.period,
            a.tenant_id,
            sum(c.covered_seconds * meter.seen_share(w.seconds, l.seconds)) AS covered_seconds,
            sum(c.due_seconds) AS due_seconds
        FROM meter.server_coverage(since, until, per) AS c
        INNER JOIN meter.tenant_server(since, until) AS a ON c.server_id = a.server_id
        LEFT JOIN lost AS l
            ON c.period = l.period AND c.server_id = l.server_id AND l.tenant_id = 0
        LEFT JOIN shown AS w ON c.period = w.period AND c.server_id = w.server_id
        GROUP BY c.period, a.tenant_id
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
'Coverage of each tenant by period (per: day, month or total): the share of the due polls that '
'succeeded, of all servers that can hold its sessions (meter.tenant_server), times the share of '
'its sessions that these polls showed.';
