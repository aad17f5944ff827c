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
            AND c.view_name IN (
                SELECT k.relation FROM (VALUES ${columnstore_policies}) AS k (relation, days)
            )
    LOOP
        EXECUTE format(
            'ALTER MATERIALIZED VIEW meter.%I SET (timescaledb.enable_columnstore)', rollup
        );
    END LOOP;
END
$do$;

-- The lists come from collector/rollups.py and the settings.
SELECT
    meter.set_refresh(
        format('meter.%I', r.rollup)::regclass,
        make_interval(days => r.days_back::integer), r.delay, r.every
    )
FROM (VALUES ${refresh_policies}) AS r (rollup, days_back, delay, every);

SELECT meter.set_columnstore(format('meter.%I', c.relation)::regclass, c.days)
FROM (VALUES ${columnstore_policies}) AS c (relation, days);

SELECT meter.set_retention(format('meter.%I', k.relation)::regclass, k.days)
FROM (VALUES ${retention_policies}) AS k (relation, days);
