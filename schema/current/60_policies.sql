-- Policies from the settings: every migrate sets them again. TimescaleDB's scheduler runs them. The
-- embedded engine has no scheduler: there, the collector runs them.

CREATE OR REPLACE FUNCTION meter.set_refresh(
    rollup regclass, start_offset interval, end_offset interval, every interval
) RETURNS void
LANGUAGE plpgsql
AS $fn$
BEGIN
    PERFORM remove_continuous_aggregate_policy(rollup, if_exists => TRUE);
    PERFORM add_continuous_aggregate_policy(
        rollup, start_offset => start_offset, end_offset => end_offset, schedule_interval => every,
        -- A batch of a day of minutes. With the default, ten buckets, a refresh after a long
        -- interruption takes long.
        buckets_per_batch => 1440
    );
END
$fn$;

COMMENT ON FUNCTION meter.set_refresh IS
'Sets the refresh policy of a rollup, and replaces the one it has.';

CREATE OR REPLACE FUNCTION meter.set_retention(relation regclass, kept_days integer)
RETURNS void
LANGUAGE plpgsql
AS $fn$
BEGIN
    PERFORM remove_retention_policy(relation, if_exists => TRUE);
    IF kept_days > 0 THEN
        PERFORM add_retention_policy(relation, drop_after => make_interval(days => kept_days));
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.set_retention IS
'Sets for how many days a table or rollup is kept, and replaces the policy it has; 0 is without '
'limit.';

CREATE OR REPLACE FUNCTION meter.set_columnstore(relation regclass, after_days integer)
RETURNS void
LANGUAGE plpgsql
AS $fn$
BEGIN
    CALL remove_columnstore_policy(relation, if_exists => TRUE);
    IF after_days > 0 THEN
        CALL add_columnstore_policy(relation, after => make_interval(days => after_days));
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.set_columnstore IS
'Sets after how many days a table or rollup is converted to the columnstore, and replaces the '
'policy it has; 0 is never.';

-- With batches of 1,000 rows, the default, the columnstore takes twice the space: each column of a
-- batch has a header, and each batch an index entry. If TimescaleDB allows larger batches (2.29
-- does), all connections of this role to this database use them, including those of the jobs.
DO $do$
DECLARE
    most integer := (
        SELECT s.max_val::integer
        FROM pg_catalog.pg_settings AS s
        WHERE s.name = 'timescaledb.compression_batch_size_limit'
    );
BEGIN
    IF most > 1000 THEN
        EXECUTE format(
            'ALTER ROLE CURRENT_USER IN DATABASE %I '
            'SET timescaledb.compression_batch_size_limit = %s',
            current_database(), least(most, 30000)
        );
    END IF;
END
$do$;

-- Only for rollups without a columnstore: the statement waits for all readers and writers of a
-- rollup.
DO $do$
DECLARE
    rollup text;
BEGIN
    FOR rollup IN
        SELECT c.view_name
        FROM timescaledb_information.continuous_aggregates AS c
        WHERE
            c.view_schema = 'meter' AND NOT c.compression_enabled
            AND c.view_name IN ('usage_1m', 'usage_1h', 'session_1h', 'poll_1h')
    LOOP
        EXECUTE format(
            'ALTER MATERIALIZED VIEW meter.%I SET (timescaledb.enable_columnstore)', rollup
        );
    END LOOP;
END
$do$;

SELECT meter.set_refresh(
    'meter.usage_1m', make_interval(days => ${refresh_usage_1m}),
    interval '1 minute', interval '1 minute'
);
SELECT meter.set_refresh(
    'meter.usage_1h', make_interval(days => ${refresh_usage_1h}),
    interval '1 hour', interval '10 minutes'
);
SELECT meter.set_refresh(
    'meter.session_1h', make_interval(days => ${refresh_session_1h}),
    interval '1 hour', interval '10 minutes'
);
SELECT meter.set_refresh(
    'meter.server_1h', make_interval(days => ${refresh_server_1h}),
    interval '1 hour', interval '10 minutes'
);
SELECT meter.set_refresh(
    'meter.poll_1h', make_interval(days => ${refresh_poll_1h}),
    interval '1 hour', interval '10 minutes'
);
SELECT meter.set_refresh(
    'meter.fleet_1m', make_interval(days => ${refresh_fleet_1m}),
    interval '1 minute', interval '1 minute'
);
SELECT meter.set_refresh(
    'meter.fleet_1h', make_interval(days => ${refresh_fleet_1h}),
    interval '1 hour', interval '10 minutes'
);
SELECT meter.set_refresh(
    'meter.start_1h', make_interval(days => ${refresh_start_1h}),
    interval '1 hour', interval '10 minutes'
);
SELECT meter.set_refresh(
    'meter.usage_1d', make_interval(days => ${refresh_usage_1d}),
    interval '1 day', interval '1 hour'
);
SELECT meter.set_refresh(
    'meter.server_1d', make_interval(days => ${refresh_server_1d}),
    interval '1 day', interval '1 hour'
);
SELECT meter.set_refresh(
    'meter.session_1d', make_interval(days => ${refresh_session_1d}),
    interval '1 day', interval '1 hour'
);

SELECT meter.set_columnstore('meter.sample', ${columnstore_sample});
SELECT meter.set_columnstore('meter.poll', ${columnstore_poll});
SELECT meter.set_columnstore('meter.session', ${columnstore_session});
SELECT meter.set_columnstore('meter.usage_1m', ${columnstore_usage_1m});
SELECT meter.set_columnstore('meter.usage_1h', ${columnstore_usage_1h});
SELECT meter.set_columnstore('meter.session_1h', ${columnstore_session_1h});
SELECT meter.set_columnstore('meter.poll_1h', ${columnstore_poll_1h});

SELECT meter.set_retention('meter.sample', ${retention_sample});
SELECT meter.set_retention('meter.poll', ${retention_poll});
SELECT meter.set_retention('meter.session', ${retention_session});
SELECT meter.set_retention('meter.usage_1m', ${retention_usage_1m});
SELECT meter.set_retention('meter.usage_1h', ${retention_usage_1h});
SELECT meter.set_retention('meter.usage_1d', ${retention_usage_1d});
SELECT meter.set_retention('meter.fleet_1m', ${retention_fleet_1m});
SELECT meter.set_retention('meter.fleet_1h', ${retention_fleet_1h});
SELECT meter.set_retention('meter.start_1h', ${retention_start_1h});
SELECT meter.set_retention('meter.session_1h', ${retention_session_1h});
SELECT meter.set_retention('meter.session_1d', ${retention_session_1d});
SELECT meter.set_retention('meter.server_1h', ${retention_server_1h});
SELECT meter.set_retention('meter.poll_1h', ${retention_poll_1h});
SELECT meter.set_retention('meter.server_1d', ${retention_server_1d});
