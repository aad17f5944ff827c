-- The state of bbbmeter itself: collectors, rollups, jobs, storage.

-- The last heartbeat of every collector. is_live: the collector wrote it within its last two poll
-- intervals, and has not shut down.
CREATE OR REPLACE VIEW meter.collector_now AS
SELECT
    c.id AS collector,
    c.host,
    c.since AS started_at,
    c.until AS seen_at,
    NOT c.stopped AND c.until > now() - make_interval(secs => 2 * coalesce(c.interval_s, 60))
        AS is_live,
    c.stopped,
    c.servers,
    c.newest_stored_at,
    extract(EPOCH FROM c.until - c.newest_stored_at)::double precision AS lag_seconds,
    c.spool_polls,
    c.spool_bytes,
    c.spool_max_bytes,
    c.spool_bytes::double precision / nullif(c.spool_max_bytes, 0) AS spool_use,
    c.quarantined_batches,
    c.fleet_hash,
    c.settings_changed_at
FROM (
    SELECT DISTINCT ON (x.id) x.*
    FROM meter.collector AS x
    ORDER BY x.id ASC, x.until DESC, x.since DESC
) AS c;

COMMENT ON VIEW meter.collector_now IS
'The last heartbeat of every collector.';
COMMENT ON COLUMN meter.collector_now.collector IS
'The collector: the identity of its spool.';
COMMENT ON COLUMN meter.collector_now.host IS
'Name of the machine or container it runs on.';
COMMENT ON COLUMN meter.collector_now.started_at IS
'When it was started, wrote the first heartbeat after an interruption, or changed its fleet.';
COMMENT ON COLUMN meter.collector_now.seen_at IS
'When it wrote its last heartbeat.';
COMMENT ON COLUMN meter.collector_now.is_live IS
'Whether it wrote a heartbeat within its last two poll intervals, and has not shut down.';
COMMENT ON COLUMN meter.collector_now.stopped IS
'Whether it has shut down properly.';
COMMENT ON COLUMN meter.collector_now.servers IS
'Number of servers that it polls.';
COMMENT ON COLUMN meter.collector_now.newest_stored_at IS
'The newest tick that it has stored in the database.';
COMMENT ON COLUMN meter.collector_now.lag_seconds IS
'Age of that tick in seconds at the last heartbeat.';
COMMENT ON COLUMN meter.collector_now.spool_polls IS
'Number of polls in its spool on disk.';
COMMENT ON COLUMN meter.collector_now.spool_bytes IS
'Size of its spool in bytes.';
COMMENT ON COLUMN meter.collector_now.spool_max_bytes IS
'Maximum size of its spool in bytes.';
COMMENT ON COLUMN meter.collector_now.spool_use IS
'Share of that maximum in use.';
COMMENT ON COLUMN meter.collector_now.quarantined_batches IS
'Number of batches that the database rejected because of their content.';
COMMENT ON COLUMN meter.collector_now.fleet_hash IS
'Hash of what its settings say about the fleet. It is equal for collectors with the same settings. '
'NULL if not reported.';
COMMENT ON COLUMN meter.collector_now.settings_changed_at IS
'When its settings file was last changed, by its machine; NULL without a file.';

-- Up to when each rollup is computed. Later rows are computed at each query. is_stale: the rollup
-- is so far behind that its policy must have failed several times.
CREATE OR REPLACE FUNCTION meter.rollup_freshness()
RETURNS TABLE (
    rollup text,
    computed_until timestamptz,
    lag_seconds double precision,
    is_stale boolean
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT
        w.rollup,
        w.computed_until,
        -- A manual refresh can have computed buckets in the future.
        greatest(extract(EPOCH FROM now() - w.computed_until), 0)::double precision,
        -- A rollup is late only if there are rows that it should have computed: in a night without
        -- sessions there are none.
        coalesce(w.computed_until, '-infinity') < now() - w.allowed AND CASE
            WHEN left(w.rollup, 4) IN ('poll', 'serv') THEN EXISTS (
                SELECT FROM meter.poll AS p
                WHERE
                    p.ts >= coalesce(w.computed_until, '-infinity')
                    AND p.ts < now() - w.allowed
            )
            WHEN left(w.rollup, 4) = 'unse' THEN EXISTS (
                SELECT FROM meter.unseen AS u
                WHERE
                    u.ts >= coalesce(w.computed_until, '-infinity')
                    AND u.ts < now() - w.allowed
            )
            ELSE EXISTS (
                SELECT FROM meter.sample AS a
                WHERE
                    a.ts >= coalesce(w.computed_until, '-infinity')
                    AND a.ts < now() - w.allowed
            )
        END
    FROM (
        SELECT
            a.user_view_name::text AS rollup,
            CASE
                -- While nothing is computed, the watermark is an instant long ago.
                WHEN x.watermark BETWEEN '2000-01-01' AND '2200-01-01' THEN x.watermark
            END AS computed_until,
            CASE right(a.user_view_name::text, 2)
                WHEN '1m' THEN interval '15 minutes'
                WHEN '1h' THEN interval '3 hours'
                ELSE interval '3 days'
            END AS allowed
        FROM _timescaledb_catalog.continuous_agg AS a
        CROSS JOIN LATERAL (
            SELECT
                _timescaledb_functions.to_timestamp(
                    _timescaledb_functions.cagg_watermark(a.mat_hypertable_id)
                ) AS watermark
        ) AS x
        WHERE a.user_view_schema = 'meter'
    ) AS w
    ORDER BY w.rollup
$fn$;

COMMENT ON FUNCTION meter.rollup_freshness IS
'Up to when each rollup is computed, and whether that is too long ago although there are newer '
'rows.';

-- TimescaleDB's jobs for this schema, and the result of their last run. If another refresh of the
-- same time was already running, the status is Overtaken and not Failed. The embedded engine does
-- not record runs: the status is NULL there.
CREATE OR REPLACE FUNCTION meter.job_state()
RETURNS TABLE (
    job_id integer,
    job text,
    relation text,
    scheduled boolean,
    status text,
    last_run_at timestamptz,
    next_run_at timestamptz,
    failures bigint,
    error text
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
    SELECT
        j.job_id,
        j.proc_name::text,
        coalesce(c.view_name, j.hypertable_name)::text,
        j.scheduled,
        CASE WHEN s.last_run_status = 'Failed' AND e.sqlerrcode = '55P03' THEN 'Overtaken'
            ELSE s.last_run_status
        END,
        nullif(s.last_run_started_at, '-infinity'),
        nullif(s.next_start, '-infinity'),
        coalesce(s.total_failures, 0),
        e.err_message
    FROM timescaledb_information.jobs AS j
    LEFT JOIN timescaledb_information.continuous_aggregates AS c
        ON
            c.view_schema = 'meter'
            AND j.hypertable_name IN (c.view_name, c.materialization_hypertable_name)
    LEFT JOIN timescaledb_information.job_stats AS s ON j.job_id = s.job_id
    LEFT JOIN LATERAL (
        SELECT x.sqlerrcode, x.err_message
        FROM timescaledb_information.job_errors AS x
        WHERE x.job_id = j.job_id AND s.last_run_status = 'Failed'
        ORDER BY x.start_time DESC
        LIMIT 1
    ) AS e ON TRUE
    WHERE j.hypertable_schema = 'meter' OR c.view_name IS NOT NULL
    ORDER BY 3, 2
$fn$;

COMMENT ON FUNCTION meter.job_state IS
'TimescaleDB''s jobs for this schema, and the result of their last run. status is NULL if no run '
'is recorded.';

-- The size of each table and rollup on disk, in the rowstore and in the columnstore; the days for
-- which it is kept (NULL: without limit); and the expected size in a year, at the rate of the last
-- two weeks.
CREATE OR REPLACE FUNCTION meter.disk_usage()
RETURNS TABLE (
    relation text,
    bytes bigint,
    row_bytes bigint,
    column_bytes bigint,
    chunks bigint,
    column_chunks bigint,
    kept_since timestamptz,
    kept_days integer,
    bytes_in_a_year double precision
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
    WITH stored AS (
        SELECT
            h.id,
            coalesce(a.user_view_name, h.table_name)::text AS relation,
            h.schema_name,
            h.table_name
        FROM _timescaledb_catalog.hypertable AS h
        LEFT JOIN _timescaledb_catalog.continuous_agg AS a
            ON h.id = a.mat_hypertable_id AND a.user_view_schema = 'meter'
        WHERE h.schema_name = 'meter' OR a.mat_hypertable_id IS NOT NULL
    ),

    chunk AS (
        SELECT
            s.relation,
            i.range_start,
            extract(EPOCH FROM i.range_end - i.range_start) / 86400 AS days,
            i.is_compressed,
            z.total_bytes AS bytes
        FROM stored AS s
        -- The size includes the columnstore.
        CROSS JOIN LATERAL public.chunks_detailed_size(
            format('%I.%I', s.schema_name, s.table_name)::regclass
        ) AS z
        INNER JOIN timescaledb_information.chunks AS i
            ON z.chunk_schema = i.chunk_schema AND z.chunk_name = i.chunk_name
    ),

    policy AS (
        SELECT
            s.relation,
            extract(EPOCH FROM max((j.config ->> 'drop_after')::interval)) / 86400 AS kept_days,
            extract(EPOCH FROM max((j.config ->> 'compress_after')::interval)) / 86400
                AS row_days
        FROM stored AS s
        -- Some versions of TimescaleDB list a rollup's jobs under its own name, others under the
        -- name of its hypertable.
        INNER JOIN timescaledb_information.jobs AS j
            ON
                j.hypertable_schema IN ('meter', s.schema_name)
                AND j.hypertable_name IN (s.relation, s.table_name)
        GROUP BY s.relation
    ),

    summed AS (
        SELECT
            c.relation,
            sum(c.bytes)::bigint AS bytes,
            coalesce(sum(c.bytes) FILTER (WHERE NOT c.is_compressed), 0)::bigint AS row_bytes,
            coalesce(sum(c.bytes) FILTER (WHERE c.is_compressed), 0)::bigint AS column_bytes,
            count(*) AS chunks,
            count(*) FILTER (WHERE c.is_compressed) AS column_chunks,
            min(c.range_start) AS kept_since,
            -- Of chunks in the columnstore, only those that are not much older than two weeks.
            avg(c.bytes / c.days) FILTER (WHERE NOT c.is_compressed) AS row_bytes_a_day,
            avg(c.bytes / c.days) FILTER (WHERE c.is_compressed AND c.is_recent)
                AS column_bytes_a_day
        FROM (
            SELECT
                x.*,
                x.range_start > now() - (15 + x.days) * interval '1 day' AS is_recent
            FROM chunk AS x
        ) AS c
        GROUP BY c.relation
    )

    SELECT
        s.relation,
        s.bytes,
        s.row_bytes,
        s.column_bytes,
        s.chunks,
        s.column_chunks,
        s.kept_since,
        p.kept_days::integer,
        (
            coalesce(s.row_bytes_a_day, s.column_bytes_a_day)
            * least(coalesce(p.row_days, 365), coalesce(p.kept_days, 365), 365)
            + coalesce(s.column_bytes_a_day, s.row_bytes_a_day)
            * greatest(least(coalesce(p.kept_days, 365), 365) - coalesce(p.row_days, 365), 0)
        )::double precision
    FROM summed AS s
    LEFT JOIN policy AS p ON s.relation = p.relation
    ORDER BY s.bytes DESC, s.relation
$fn$;

COMMENT ON FUNCTION meter.disk_usage IS
'The size of each table and rollup on disk, the days for which it is kept, and its expected size '
'in a year at the present rate.';
