-- What a tenant can read with a database role of its own (`bbbmeter tenant grant-sql`): its own
-- rows, only through these views and functions. Row security would be the usual way, but does not
-- work with the columnstore.
--
-- security_barrier: PostgreSQL tests the reader's conditions only on rows that fulfil the view's
-- own condition, except for operators that cannot leak values. Comparing times is one of these, so
-- that a reader's time range still limits the chunks that are read.

-- The tenants whose roles the calling user has. In a function that runs with its owner's rights,
-- current_user is the owner: the caller is the role that was SET, or else the user who logged in.
CREATE OR REPLACE FUNCTION meter.my_tenants() RETURNS integer[]
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT coalesce(array_agg(r.tenant_id ORDER BY r.tenant_id), '{}')
    FROM meter.tenant_role AS r
    WHERE pg_has_role(
        CASE current_setting('role')
            WHEN 'none' THEN session_user ELSE current_setting('role')::name
        END,
        to_regrole(quote_ident(r.role))::oid,
        'USAGE'
    )
$fn$;

COMMENT ON FUNCTION meter.my_tenants IS
'The numbers of the tenants whose roles the calling user has (meter.tenant_role).';

-- In a subquery, the function is called once for each query, not for each row, and its value can be
-- used to search indexes and segments.
CREATE OR REPLACE VIEW meter.my_tenant WITH (security_barrier) AS
SELECT
    t.id,
    t.name,
    t.title
FROM meter.tenant AS t
WHERE t.id = any((SELECT meter.my_tenants())::integer[]);

CREATE OR REPLACE VIEW meter.my_room WITH (security_barrier) AS
SELECT
    r.id,
    r.tenant_id,
    r.external_id,
    r.name
FROM meter.room AS r
WHERE r.tenant_id = any((SELECT meter.my_tenants())::integer[]);

CREATE OR REPLACE VIEW meter.my_contract WITH (security_barrier) AS
SELECT
    k.tenant_id,
    k.since,
    k.until,
    k.participant_limit,
    k.month_minute_limit
FROM meter.contract AS k
WHERE k.tenant_id = any((SELECT meter.my_tenants())::integer[]);

CREATE OR REPLACE VIEW meter.my_session WITH (security_barrier) AS
SELECT
    s.session_id,
    s.server_id,
    s.internal_id,
    s.started_at,
    s.tenant_id,
    s.room_id,
    s.parent_internal_id,
    s.breakout,
    s.recording,
    s.origin,
    s.first_seen_at,
    s.last_seen_at,
    s.ended_at,
    s.duration_seconds,
    s.session_seconds,
    s.participant_seconds,
    s.voice_seconds,
    s.video_seconds,
    s.dialin_seconds,
    s.filled_seconds,
    s.max_participants,
    s.mean_participants
FROM meter.session AS s
WHERE s.tenant_id = any((SELECT meter.my_tenants())::integer[]);

-- All columns: what a later version adds to a sample is a count, and the tenant's own.
CREATE OR REPLACE VIEW meter.my_sample WITH (security_barrier) AS
SELECT a.* -- noqa: AM04
FROM meter.sample AS a
WHERE a.tenant_id = any((SELECT meter.my_tenants())::integer[]);

CREATE OR REPLACE VIEW meter.my_usage_1m WITH (security_barrier) AS
SELECT
    u.bucket,
    u.tenant_id,
    u.participant_seconds,
    u.voice_seconds,
    u.video_seconds,
    u.listener_seconds,
    u.dialin_seconds,
    u.session_seconds,
    u.filled_seconds,
    u.breakout_participant_seconds,
    u.max_session_size
FROM meter.usage_1m AS u
WHERE u.tenant_id = any((SELECT meter.my_tenants())::integer[]);

CREATE OR REPLACE VIEW meter.my_usage_1h WITH (security_barrier) AS
SELECT
    u.bucket,
    u.tenant_id,
    u.participant_seconds,
    u.voice_seconds,
    u.video_seconds,
    u.listener_seconds,
    u.dialin_seconds,
    u.session_seconds,
    u.filled_seconds,
    u.breakout_participant_seconds,
    u.max_session_size,
    u.peak_minute,
    u.peak_sessions_minute
FROM meter.usage_1h AS u
WHERE u.tenant_id = any((SELECT meter.my_tenants())::integer[]);

-- The report by day, by month or in total: meter.tenant_usage without the other tenants. Its
-- search_path includes public for TimescaleDB's functions. `grant-sql` refuses to work if everybody
-- can create objects there.
CREATE OR REPLACE FUNCTION meter.my_usage(
    since timestamptz, until timestamptz, per text DEFAULT 'day'
)
RETURNS SETOF meter.report_row
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $fn$
    SELECT u.*
    FROM meter.tenant_usage(since, until, per) AS u
    INNER JOIN meter.tenant AS t ON u.tenant = t.name
    WHERE t.id = ANY (meter.my_tenants())
    ORDER BY u.period, u.tenant
$fn$;

COMMENT ON FUNCTION meter.my_usage IS
'meter.tenant_usage of the calling user''s tenants.';

-- The coverage of the servers that held the tenant's sessions: its own servers, and the shared ones
-- on which it had a session. It shows nothing of other tenants' sessions.
CREATE OR REPLACE FUNCTION meter.my_coverage(
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
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
AS $fn$
    SELECT
        c.period, c.server_id, c.server,
        sum(c.due_seconds), sum(c.covered_seconds),
        sum(c.covered_seconds) / nullif(sum(c.due_seconds), 0)
    FROM meter.tenancy_coverage(since, until, per) AS c
    WHERE
        c.tenant_id = ANY (meter.my_tenants())
        OR (
            c.tenant_id IS NULL AND c.server_id IN (
                SELECT x.server_id
                FROM meter.session AS x
                WHERE x.tenant_id = ANY (meter.my_tenants())
                    AND x.started_at < until AND x.started_at >= since - interval '1 day'
            )
        )
    GROUP BY c.period, c.server_id, c.server
    ORDER BY c.period, c.server
$fn$;

COMMENT ON FUNCTION meter.my_coverage IS
'meter.server_coverage of the servers of the calling user''s tenants: their own servers while they '
'were their own, and the shared ones on which they had a session, while they were shared.';

-- Each view gets the comments of the table or rollup that it shows.
DO $do$
DECLARE
    shown record;
BEGIN
    FOR shown IN
        SELECT
            v.oid::regclass AS my_view,
            o.oid::regclass AS original,
            obj_description(o.oid, 'pg_class') AS description
        FROM pg_class AS v
        INNER JOIN pg_class AS o
            ON v.relnamespace = o.relnamespace AND v.relname = 'my_' || o.relname
        WHERE v.relnamespace = 'meter'::regnamespace AND v.relkind = 'v'
    LOOP
        PERFORM meter.copy_comments(shown.original, shown.my_view);
        EXECUTE format(
            'COMMENT ON VIEW %s IS %L', shown.my_view,
            'Only rows of the calling user''s tenants. ' || shown.description
        );
    END LOOP;
END
$do$;

REVOKE ALL ON FUNCTION meter.my_tenants, meter.my_usage, meter.my_coverage FROM public;

-- The rights of all tenants' roles. The views and functions above decide whose rows each can read.
DO $do$
BEGIN
    IF to_regrole('bbbmeter_tenant') IS NULL THEN
        CREATE ROLE bbbmeter_tenant NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'role bbbmeter_tenant is missing, and this user cannot create it';
    WHEN duplicate_object OR unique_violation THEN
        -- All databases share the roles: a migration of another database created it first.
        NULL;
END
$do$;
DO $do$
BEGIN
    IF to_regrole('bbbmeter_tenant') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA meter TO bbbmeter_tenant;
        GRANT SELECT ON
            meter.my_tenant, meter.my_room, meter.my_contract, meter.my_session,
            meter.my_sample,
            meter.my_usage_1m, meter.my_usage_1h
            TO bbbmeter_tenant;
        GRANT EXECUTE ON FUNCTION meter.my_tenants, meter.my_usage, meter.my_coverage
            TO bbbmeter_tenant;
    END IF;
END
$do$;
