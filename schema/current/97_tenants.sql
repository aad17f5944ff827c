-- What a tenant can read with a database role of its own (`bbbmeter tenant grant-sql`): its own
-- rows, only through these functions, and views of the same names. Row security would be the usual
-- way, but does not work with the columnstore.
--
-- A view on the tables would not be enough, also not with security_barrier. PostgreSQL compares
-- times and ids (leakproof operators) with the rows of all tenants, and EXPLAIN (ANALYZE) and the
-- time of an index lookup show how many there were. A function with its owner's rights returns only
-- rows of the caller, and everything that the caller asks is compared with these. Its
-- client_min_messages keeps debug_print_plan from showing how it reads.

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

-- For each relation X that a tenant sees: the function meter.my_X and the view meter.my_X, which
-- returns all rows of the function. Where X has a time, the function takes a period [since, until).
-- It reads whole days, so that the caller cannot choose which instants of other tenants' rows are
-- compared. OFFSET 0 keeps the exact edges, and the caller's conditions, above that.
DO $do$
DECLARE
    shown record;
    described text;
BEGIN
    FOR shown IN
        SELECT x.relation, x.tenant, x.instant, o.oid::regclass AS original,
            obj_description(o.oid, 'pg_class') AS description
        FROM (
            VALUES
            ('tenant', 'id', NULL),
            ('room', 'tenant_id', NULL),
            ('contract', 'tenant_id', NULL),
            ('session', 'tenant_id', 'started_at'),
            ('sample', 'tenant_id', 'ts'),
            ('usage_1m', 'tenant_id', 'bucket'),
            ('usage_1h', 'tenant_id', 'bucket')
        ) AS x (relation, tenant, instant)
        INNER JOIN pg_class AS o
            ON x.relation = o.relname AND o.relnamespace = 'meter'::regnamespace
    LOOP
        EXECUTE format(
            $sql$
            CREATE OR REPLACE FUNCTION meter.%1$I(%2$s) RETURNS SETOF %3$s
            LANGUAGE plpgsql
            STABLE
            SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp
            SET plan_cache_mode = force_custom_plan
            SET client_min_messages = error
            AS $fn$
            DECLARE
                tenants CONSTANT integer[] := meter.my_tenants();
                %7$s
            BEGIN
                RETURN QUERY
                SELECT a.* FROM (
                    SELECT x.* FROM %3$s AS x WHERE x.%4$I = ANY(tenants) %5$s
                    OFFSET 0
                ) AS a %6$s;
            END
            $fn$
            $sql$,
            'my_' || shown.relation,
            CASE WHEN shown.instant IS NOT NULL THEN
                $sql$since timestamptz DEFAULT '-infinity', until timestamptz DEFAULT 'infinity'$sql$
            END,
            shown.original,
            shown.tenant,
            CASE WHEN shown.instant IS NOT NULL THEN format(
                'AND x.%1$I >= first_day AND x.%1$I < end_day', shown.instant
            ) END,
            CASE WHEN shown.instant IS NOT NULL THEN format(
                'WHERE a.%1$I >= since AND a.%1$I < until', shown.instant
            ) END,
            CASE WHEN shown.instant IS NOT NULL THEN
                $sql$first_day CONSTANT timestamptz := date_trunc('day', since, 'UTC');
                end_day CONSTANT timestamptz := date_trunc('day', until, 'UTC') + interval '1 day';$sql$
            END
        );
        described := 'Only rows of the calling user''s tenants. ' || shown.description;
        EXECUTE format(
            'COMMENT ON FUNCTION meter.%I IS %L', 'my_' || shown.relation,
            CASE WHEN shown.instant IS NULL THEN described ELSE described
                || ' With since and until, only rows whose ' || shown.instant
                || ' is in [since, until).' END
        );
        EXECUTE format(
            'CREATE OR REPLACE VIEW meter.%1$I AS SELECT a.* FROM meter.%1$I() AS a',
            'my_' || shown.relation
        );
        EXECUTE format('COMMENT ON VIEW meter.%I IS %L', 'my_' || shown.relation, described);
        PERFORM meter.copy_comments(
            shown.original, format('meter.%I', 'my_' || shown.relation)::regclass
        );
    END LOOP;
END
$do$;

-- Raise an error unless [since, until) is a period that a tenant may ask a report for: full days,
-- and not too many. Finer edges would let a tenant measure how long reports of single minutes take,
-- and so how much others used in them.
CREATE OR REPLACE FUNCTION meter.require_days(since timestamptz, until timestamptz) RETURNS void
LANGUAGE plpgsql
STABLE
AS $fn$
BEGIN
    IF since IS NULL OR until IS NULL OR NOT isfinite(since) OR NOT isfinite(until)
        OR since > until OR until - since > interval '1100 days'
    THEN
        RAISE EXCEPTION 'a report must have a beginning and an end, at most 1100 days later'
            USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Ask for parts of a longer period.';
    END IF;
    IF meter.billing_trunc('day', since) <> since OR meter.billing_trunc('day', until) <> until THEN
        RAISE EXCEPTION 'a report must begin and end with a day of the time zone %, not at % and %',
            meter.billing_timezone(), since, until
            USING ERRCODE = 'invalid_parameter_value',
            HINT = 'For today, end with the beginning of tomorrow.';
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.require_days IS
'Raises an error unless a period is full days of the billing time zone, and at most 1100 of them.';

-- The report by day, by month or in total: meter.tenant_usage without the other tenants. Its
-- search_path includes public for TimescaleDB's functions. `grant-sql` refuses to work if everybody
-- can create objects there.
CREATE OR REPLACE FUNCTION meter.my_usage(
    since timestamptz, until timestamptz, per text DEFAULT 'day'
)
RETURNS SETOF meter.report_row
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET client_min_messages = error
AS $fn$
BEGIN
    PERFORM meter.require_days(since, until);
    RETURN QUERY
    SELECT u.*
    FROM meter.tenant_usage(since, until, per) AS u
    INNER JOIN meter.tenant AS t ON u.tenant = t.name
    WHERE t.id = ANY(meter.my_tenants())
    ORDER BY u.period, u.tenant;
END
$fn$;

COMMENT ON FUNCTION meter.my_usage IS
'meter.tenant_usage of the calling user''s tenants, for full days of the billing time zone.';

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
LANGUAGE plpgsql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp
SET client_min_messages = error
AS $fn$
BEGIN
    PERFORM meter.require_days(since, until);
    RETURN QUERY
    SELECT
        c.period, c.server_id, c.server,
        sum(c.due_seconds), sum(c.covered_seconds),
        sum(c.covered_seconds) / nullif(sum(c.due_seconds), 0)
    FROM meter.tenancy_coverage(since, until, per) AS c
    WHERE
        c.tenant_id = ANY(meter.my_tenants())
        OR (
            c.tenant_id IS NULL AND c.server_id IN (
                SELECT x.server_id
                FROM meter.session AS x
                WHERE x.tenant_id = ANY(meter.my_tenants())
                    AND x.started_at < until AND x.started_at >= since - interval '1 day'
            )
        )
    GROUP BY c.period, c.server_id, c.server
    ORDER BY c.period, c.server;
END
$fn$;

COMMENT ON FUNCTION meter.my_coverage IS
'Coverage by polls of the servers of the calling user''s tenants: their own servers while they '
'were their own, and the shared ones on which they had a session, while they were shared. For '
'full days of the billing time zone.';

-- The rights of all tenants' roles. The functions above decide whose rows each can read.
DO $do$
DECLARE
    mine text;
BEGIN
    IF to_regrole('bbbmeter_tenant') IS NULL THEN
        BEGIN
            CREATE ROLE bbbmeter_tenant NOLOGIN;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RAISE NOTICE 'role bbbmeter_tenant is missing, and this user cannot create it';
            WHEN duplicate_object OR unique_violation THEN
                -- All databases share the roles: a migration of another database created it first.
                NULL;
        END;
    END IF;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA meter FROM public;
    IF to_regrole('bbbmeter_tenant') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA meter TO bbbmeter_tenant;
        FOREACH mine IN ARRAY ARRAY[
            'my_tenant', 'my_room', 'my_contract', 'my_session', 'my_sample', 'my_usage_1m',
            'my_usage_1h'
        ] LOOP
            EXECUTE format('GRANT SELECT ON meter.%I TO bbbmeter_tenant', mine);
            EXECUTE format('GRANT EXECUTE ON FUNCTION meter.%I TO bbbmeter_tenant', mine);
        END LOOP;
        GRANT EXECUTE ON FUNCTION meter.my_tenants, meter.my_usage, meter.my_coverage
            TO bbbmeter_tenant;
    END IF;
END
$do$;
