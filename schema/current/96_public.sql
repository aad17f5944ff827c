-- What everybody (PUBLIC) may do in a new database, and no reader and no tenant needs. This file
-- takes it away where the user who runs it may. A superuser can also run it alone, as often as
-- wanted: TimescaleDB's and PostgreSQL's own functions belong to a superuser, also where
-- `bbbmeter migrate` runs as the owner of the database (docs/threat-model.md).
DO $do$
DECLARE
    keeper text := (
        SELECT n.nspowner::regrole::text FROM pg_namespace AS n WHERE n.nspname = 'meter'
    );
    readers text[] := (
        SELECT array_agg(quote_ident(r.rolname)) FROM pg_roles AS r
        WHERE r.rolname IN ('bbbmeter_reader', 'bbbmeter_writer')
    );
    entry record;
    grantee text;
BEGIN
    -- Temporary tables fill the disk. Functions in pg_temp can be put in the way of others.
    IF pg_has_role((
        SELECT d.datdba FROM pg_database AS d WHERE d.datname = current_database()
    ), 'USAGE') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM public', current_database());
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO %s', current_database(), keeper);
    END IF;
    -- TimescaleDB's functions are in the schema public: a tenant can reach none of them.
    IF pg_has_role((
        SELECT n.nspowner FROM pg_namespace AS n WHERE n.nspname = 'public'
    ), 'USAGE') THEN
        REVOKE ALL ON SCHEMA public FROM public;
        FOREACH grantee IN ARRAY keeper || readers LOOP
            EXECUTE format('GRANT USAGE ON SCHEMA public TO %s', grantee);
        END LOOP;
    END IF;

    -- Functions that store, run or lock something are only for the owner of the schema meter. What
    -- counts or measures the data of all tenants is also for readers and for monitoring.
    FOR entry IN
        SELECT
            'EXECUTE ON ROUTINE ' || p.oid::regprocedure::text AS power,
            p.proname ~ 'size|row_count' AS counts
        FROM pg_proc AS p
        INNER JOIN pg_depend AS d
            ON p.oid = d.objid AND d.classid = 'pg_proc'::regclass AND d.deptype = 'e'
        INNER JOIN pg_extension AS e ON d.refobjid = e.oid AND e.extname = 'timescaledb'
        WHERE
            p.pronamespace::regnamespace::text IN ('public', '_timescaledb_functions')
            AND p.provolatile = 'v' AND pg_has_role(p.proowner, 'USAGE')
            -- These are for queries, or are called by every session.
            AND p.proname !~ (
                '^(time_bucket_gapfill|interpolate|locf|by_(hash|range)|generate_uuid.*|to_uuidv7'
                '|time_to_internal|jsonb_get_matching_index_entry|tsl_loaded|extension_state'
                '|has_invalidation_trigger)$'
            )
        UNION ALL
        SELECT
            'EXECUTE ON ROUTINE ' || p.oid::regprocedure::text,
            p.proname ~ '_stat_|_size$|_wal_'
        FROM pg_proc AS p
        WHERE
            p.pronamespace = 'pg_catalog'::regnamespace AND pg_has_role(p.proowner, 'USAGE')
            AND p.proname ~ (
                '^(lo_creat|lo_create|lo_from_bytea|lo_put|lowrite|pg_logical_emit_message'
                '|pg_(try_)?advisory_(xact_)?lock(_shared)?|pg_current_wal_.*'
                '|pg_(relation|table|indexes|total_relation|database|tablespace)_size'
                '|pg_stat_get_(xact|db|bgwriter|checkpointer|buf|function|blocks|mod_since)_.*'
                '|pg_stat_get_(numscans|lastscan|.*tuples.*|ins_since_.*|slru|(backend_)?(io|wal)))$'
            )
        UNION ALL
        SELECT 'SELECT ON ' || c.oid::regclass::text, TRUE
        FROM pg_class AS c
        WHERE
            c.relnamespace::regnamespace::text ~ '^_?timescaledb_'
            AND pg_has_role(c.relowner, 'USAGE')
            AND c.relname IN (
                'compression_chunk_size', 'chunk_column_stats', 'bgw_policy_chunk_stats',
                'compressed_chunk_stats', 'hypertable_chunk_local_size', 'stat_chunk_activity',
                'continuous_aggs_hypertable_invalidation_log',
                'continuous_aggs_materialization_invalidation_log'
            )
    LOOP
        EXECUTE format('REVOKE %s FROM public', entry.power);
        FOREACH grantee IN ARRAY
            keeper || CASE WHEN entry.counts THEN readers || 'pg_monitor'::text END
        LOOP
            EXECUTE format('GRANT %s TO %s', entry.power, grantee);
        END LOOP;
    END LOOP;
END
$do$;
