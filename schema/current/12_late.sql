-- Data that arrive out of order: from a spool, from a collector that was cut off, from a clock
-- that was wrong. The writer notes the time they touch in meter.late, in their own transaction.

-- See to all that was noted at least `delay` ago, when no writer that might cross it is still at
-- work: a filled sample yields to a real one, and of two filled ones one stays; sessions that had
-- ended are opened again, for meter.update_sessions to compute anew. Returns the touched time, in
-- order: rollups of it are to be refreshed, which a function cannot do.
CREATE OR REPLACE FUNCTION meter.settle(delay interval DEFAULT interval '2 minutes')
RETURNS TABLE (since timestamptz, until timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    span tstzrange;
    spans tstzmultirange;
    twin record;
BEGIN
    -- To change a row in columns is to unpack a thousand; few rows are changed, but maybe hundreds.
    PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
    WITH noted AS (
        DELETE FROM meter.late AS l WHERE l.added_at <= now() - delay RETURNING l.since, l.until
    )
    SELECT range_agg(tstzrange(n.since, n.until)) INTO spans FROM noted AS n;
    FOR span IN SELECT unnest(spans) LOOP
        FOR twin IN
            SELECT a.tenant_id, a.session_id, a.ts, bool_or(p.ts IS NOT NULL) AS is_real
            FROM meter.sample AS a
            LEFT JOIN meter.poll AS p
                ON a.server_id = p.server_id AND a.ts = p.ts AND p.ok
                AND p.ts >= lower(span) AND p.ts < upper(span)
            WHERE a.filled AND a.ts >= lower(span) AND a.ts < upper(span)
            GROUP BY a.tenant_id, a.session_id, a.ts
            HAVING count(*) > 1 OR bool_or(p.ts IS NOT NULL)
        LOOP
            WITH gone AS (
                DELETE FROM meter.sample AS a
                WHERE a.tenant_id = twin.tenant_id AND a.session_id = twin.session_id
                    AND a.ts = twin.ts AND a.filled
                RETURNING a.*
            )
            INSERT INTO meter.sample
            SELECT g.* FROM gone AS g
            WHERE NOT twin.is_real
            ORDER BY g.participants DESC, g.voice DESC, g.video DESC
            LIMIT 1;
        END LOOP;
        UPDATE meter.session AS s SET ended_at = NULL
        WHERE s.ended_at IS NOT NULL
            AND s.started_at >= lower(span) - interval '30 days' AND s.started_at < upper(span)
            -- Of one that was longer ago, the first samples may be dropped already.
            AND (
                ${retention_sample} = 0
                OR s.first_seen_at >= now() - make_interval(days => ${retention_sample})
            )
            AND s.session_id IN (
                SELECT a.session_id FROM meter.sample AS a
                WHERE a.ts >= lower(span) AND a.ts < upper(span)
            );
        since := lower(span);
        until := upper(span);
        RETURN NEXT;
    END LOOP;
    -- Who was seen when explains missing polls: it is of no use longer than they are.
    DELETE FROM meter.collector AS c
    WHERE ${retention_poll} > 0 AND c.until < now() - make_interval(days => ${retention_poll} + 2);
END
$fn$;

COMMENT ON FUNCTION meter.settle IS
'Sees to what hangs on late data (meter.late): filled samples yield to real ones, ended sessions '
'are computed again. Returns the time that was touched, whose rollups are to be refreshed.';

-- Make room for successful polls (server and tick) where failed ones stand: a failure that another
-- collector saw, or what was noted in place of a batch that could not be stored then. Returns
-- those that stood there.
CREATE OR REPLACE FUNCTION meter.supersede(servers integer[], ticks timestamptz[])
RETURNS TABLE (server_id integer, ts timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
    FOR server_id, ts IN
        SELECT p.server_id, p.ts
        FROM unnest(servers, ticks) AS s (server_id, ts)
        INNER JOIN meter.poll AS p ON p.server_id = s.server_id AND p.ts = s.ts
        WHERE NOT p.ok
    LOOP
        DELETE FROM meter.poll AS p
        WHERE p.server_id = supersede.server_id AND p.ts = supersede.ts AND NOT p.ok;
        RETURN NEXT;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.supersede IS
'Removes failed polls (server and tick) in whose place successful ones are to be stored.';
