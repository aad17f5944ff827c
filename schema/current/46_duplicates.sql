-- For people and alerts: the meetings that two servers show (13_duplicates.sql finds them).

-- The meetings that are on two servers now, by pairs of servers and tenants.
CREATE OR REPLACE FUNCTION meter.duplicates_now()
RETURNS TABLE (
    server text, other_server text, tenant text, other_tenant text, counts boolean, sessions bigint
)
LANGUAGE sql
STABLE
AS $fn$
    SELECT v.name, w.name, t.name, u.name, d.counts, count(*)
    FROM meter.duplicate_session AS d
    INNER JOIN meter.server AS v ON d.server_id = v.id
    INNER JOIN meter.server AS w ON d.other_server_id = w.id
    INNER JOIN meter.tenant AS t ON d.tenant_id = t.id
    INNER JOIN meter.tenant AS u ON d.other_tenant_id = u.id
    WHERE d.until IS NULL
    GROUP BY v.name, w.name, t.name, u.name, d.counts
    ORDER BY v.name, w.name, t.name, u.name
$fn$;

COMMENT ON FUNCTION meter.duplicates_now IS
'The meetings that two servers show now, by pair of servers and tenants. counts is TRUE if they '
'count twice; else those of server count through those of other_server.';

-- The meetings that two servers showed in [since, until). The minutes of those that count twice are
-- those of whole hours, of the session with fewer of them; NULL where hours are no longer kept.
CREATE OR REPLACE FUNCTION meter.duplicates(since timestamptz, until timestamptz)
RETURNS TABLE (
    server text, other_server text, tenant text, other_tenant text, counts boolean,
    sessions bigint, twice_minutes double precision
)
LANGUAGE sql
STABLE
AS $fn$
    SELECT
        v.name, w.name, t.name, u.name, d.counts, count(*),
        CASE
            WHEN NOT d.counts THEN 0
            WHEN meter.still_kept(duplicates.since, ${retention_session_1h})
                THEN sum(least(x.own_seconds, x.other_seconds)) / 60.0
        END::double precision
    FROM meter.duplicate_session AS d
    INNER JOIN meter.session AS s ON d.session_id = s.session_id AND d.started_at = s.started_at
    INNER JOIN meter.server AS v ON d.server_id = v.id
    INNER JOIN meter.server AS w ON d.other_server_id = w.id
    INNER JOIN meter.tenant AS t ON d.tenant_id = t.id
    INNER JOIN meter.tenant AS u ON d.other_tenant_id = u.id
    CROSS JOIN LATERAL (
        SELECT
            coalesce(sum(h.participant_seconds)
                FILTER (WHERE h.session_id = d.session_id), 0) AS own_seconds,
            coalesce(sum(h.participant_seconds)
                FILTER (WHERE h.session_id = d.same_as), 0) AS other_seconds
        FROM meter.session_1h AS h
        WHERE d.counts AND h.session_id IN (d.session_id, d.same_as)
            AND h.bucket < duplicates.until
            AND h.bucket > greatest(d.since, duplicates.since) - interval '${hour}'
    ) AS x
    WHERE d.since < duplicates.until
        AND coalesce(d.until, s.last_seen_at, 'infinity') > duplicates.since
    GROUP BY v.name, w.name, t.name, u.name, d.counts
    ORDER BY v.name, w.name, t.name, u.name
$fn$;

COMMENT ON FUNCTION meter.duplicates IS
'The meetings that two servers showed in [since, until), by pair of servers and tenants. counts is '
'TRUE if they count twice: twice_minutes are the participant minutes that are counted twice (of '
'whole hours; NULL where hours are no longer kept).';
