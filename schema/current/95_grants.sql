-- Roles and their rights. bbbmeter_reader is for people, Grafana and reports. bbbmeter_writer is
-- for a collector that does not own the schema; `bbbmeter migrate` needs the owner. Both are
-- created here unless they exist, without a login: GRANT them to the roles that log in.

-- By default, everybody can call every function.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA meter FROM public;

DO $do$
DECLARE
    grantee text;
    rollup text;
BEGIN
    FOREACH grantee IN ARRAY ARRAY['bbbmeter_reader', 'bbbmeter_writer'] LOOP
        IF to_regrole(grantee) IS NULL THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', grantee);
            EXCEPTION
                WHEN insufficient_privilege THEN
                    RAISE NOTICE 'role % is missing, and this user cannot create it', grantee;
                    CONTINUE;
                WHEN duplicate_object OR unique_violation THEN
                    -- All databases share the roles: a migration of another database created it
                    -- first.
                    NULL;
            END;
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA meter TO %I', grantee);
        -- Granted one by one, so that no table with personal data is granted by mistake.
        EXECUTE format(
            'GRANT SELECT ON
                meter.setting, meter.tenant, meter.server, meter.server_due,
                meter.server_tenant, meter.room,
                meter.session, meter.open_session, meter.empty_session,
                meter.duplicate_session, meter.poll, meter.sample,
                meter.unseen, meter.late, meter.collector, meter.contract,
                meter.session_figures, meter.server_now, meter.collector_now
            TO %I', grantee
        );
        -- Rollups are sums of these tables: readers may see all of them.
        FOR rollup IN
            SELECT c.view_name FROM timescaledb_information.continuous_aggregates AS c
            WHERE c.view_schema = 'meter'
        LOOP
            EXECUTE format('GRANT SELECT ON meter.%I TO %I', rollup, grantee);
        END LOOP;
        EXECUTE format(
            'GRANT EXECUTE ON FUNCTION
                meter.tenant_report, meter.tenant_usage, meter.usage_by,
                meter.server_coverage, meter.tenant_coverage,
                meter.usage_between, meter.sessions_between, meter.session_usage_between,
                meter.covered_between, meter.count_between, meter.unseen_between,
                meter.seen_share, meter.still_kept, meter.require_kept, meter.periods, meter.tiles,
                meter.day_tiles, meter.hour_tiles, meter.billing_timezone, meter.trunc_in,
                meter.billing_trunc, meter.billing_end,
                meter.default_tenant,
                meter.calculation_version, meter.missing_polls,
                meter.tenant_server, meter.sharing_tenants, meter.tenancy_parts,
                meter.tenancy_coverage, meter.contract_at, meter.kept_grain, meter.report_edge,
                meter.chart_step, meter.fleet_hours_since,
                meter.step_of, meter.step_end, meter.steps_end, meter.steps,
                meter.running_step,
                meter.usage_steps, meter.fleet_steps,
                meter.chosen_servers, meter.unseen_steps, meter.coverage_steps, meter.server_steps,
                meter.fleet_concurrency, meter.concurrency, meter.server_load,
                meter.tenant_ranking, meter.month_to_date, meter.tenant_peak,
                meter.tenant_metered, meter.fleet_peak, meter.polls_between,
                meter.outcomes_between,
                meter.minutes_above, meter.over_limit,
                meter.session_list, meter.room_usage, meter.session_number,
                meter.session_course, meter.session_starts, meter.fleet_turnover,
                meter.fleet_sizes, meter.fleet_origins, meter.poll_failures, meter.poll_latencies,
                meter.latency_quantile, meter.server_report, meter.outages,
                meter.latency_bounds, meter.size_bounds, meter.size_class,
                meter.rollup_freshness, meter.job_state, meter.disk_usage,
                meter.duplicates_now, meter.duplicates, meter.common_seconds
            TO %I', grantee
        );
    END LOOP;

    -- A collector also writes. The sequences of identity columns need no grant. It cannot change
    -- what was polled.
    IF to_regrole('bbbmeter_writer') IS NOT NULL THEN
        GRANT SELECT ON meter.migration TO bbbmeter_writer;
        GRANT INSERT, UPDATE ON
            meter.tenant, meter.server, meter.server_due, meter.server_tenant, meter.room,
            meter.session,
            meter.collector, meter.contract, meter.duplicate_session
            TO bbbmeter_writer;
        GRANT INSERT, DELETE ON meter.open_session, meter.empty_session TO bbbmeter_writer;
        GRANT INSERT ON meter.poll, meter.sample, meter.unseen, meter.late TO bbbmeter_writer;
        GRANT EXECUTE ON FUNCTION
            meter.has_ended, meter.open_figures, meter.reopen_sessions, meter.update_sessions,
            meter.find_duplicates, meter.beat, meter.leave, meter.settle, meter.supersede
            TO bbbmeter_writer;
    END IF;
END
$do$;
