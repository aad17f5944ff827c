-- Coverage of servers: the share of the due time that successful polls cover.

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
