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

-- The participant seconds that two sessions of one meeting have in common in [since, until), of
-- whole hours. It is PL/pgSQL, so that hours are looked up only if a meeting counts twice.
CREATE OR REPLACE FUNCTION meter.common_seconds(
    session_id bigint, same_as bigint, since timestamptz, until timestamptz
)
RETURNS bigint
LANGUAGE plpgsql
STABLE
AS $fn$
BEGIN
    RETURN (
        SELECT least(
            coalesce(sum(h.participant_seconds)
                FILTER (WHERE h.session_id = common_seconds.session_id), 0),
            coalesce(sum(h.participant_seconds)
                FILTER (WHERE h.session_id = common_seconds.same_as), 0)
        )
        FROM meter.session_1h AS h
        WHERE h.session_id IN (common_seconds.session_id, common_seconds.same_as)
            AND h.bucket > common_seconds.since - interval '${hour}'
            AND h.bucket < common_seconds.until
    );
END
$fn$;

COMMENT ON FUNCTION meter.common_seconds IS
'The participant seconds that two sessions of one meeting have in common between two instants: '
'those of whole hours, of the session with fewer of them.';

-- The meetings that two servers showed in [since, until).
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
            WHEN meter.still_kept(duplicates.since, ${retention_session_1h}) THEN
                sum(meter.common_seconds(
                    d.session_id, d.same_as, greatest(d.since, duplicates.since), duplicates.until
                )) / 60.0
        END::double precision
    FROM meter.duplicate_session AS d
    INNER JOIN meter.session AS s ON d.session_id = s.session_id AND d.started_at = s.started_at
    INNER JOIN meter.server AS v ON d.server_id = v.id
    INNER JOIN meter.server AS w ON d.other_server_id = w.id
    INNER JOIN meter.tenant AS t ON d.tenant_id = t.id
    INNER JOIN meter.tenant AS u ON d.other_tenant_id = u.id
    WHERE d.since < duplicates.until
        AND coalesce(d.until, s.last_seen_at, 'infinity') > duplicates.since
    GROUP BY v.name, w.name, t.name, u.name, d.counts
    ORDER BY v.name, w.name, t.name, u.name
$fn$;

COMMENT ON FUNCTION meter.duplicates IS
'The meetings that two servers showed in [since, until), by pair of servers and tenants. counts is '
'TRUE if they count twice: twice_minutes are the participant minutes that are counted twice (of '
'whole hours; NULL where hours are no longer kept).';
