-- How the meter itself is: collectors, rollups, jobs, storage.

-- Every collector's last sign of life. is_live: heard of in two of its intervals, and not ended.
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
    c.quarantined_batches
FROM (
    SELECT DISTINCT ON (x.id) x.*
    FROM meter.collector AS x
    ORDER BY x.id ASC, x.until DESC, x.since DESC
) AS c;

COMMENT ON VIEW meter.collector_now IS 'Every collector''s last sign of life.';
COMMENT ON COLUMN meter.collector_now.collector IS 'The collector: its spool''s identity.';
COMMENT ON COLUMN meter.collector_now.host IS 'Name of the machine or container it runs on.';
COMMENT ON COLUMN meter.collector_now.started_at IS 'Since when it has been heard of.';
COMMENT ON COLUMN meter.collector_now.seen_at IS 'Its last sign of life.';
COMMENT ON COLUMN meter.collector_now.is_live IS
'Whether that was in the last two of its intervals, and it has not ended.';
COMMENT ON COLUMN meter.collector_now.stopped IS 'Whether it ended in good order.';
COMMENT ON COLUMN meter.collector_now.servers IS 'Servers that it polls.';
COMMENT ON COLUMN meter.collector_now.newest_stored_at IS 'The newest tick it has stored.';
COMMENT ON COLUMN meter.collector_now.lag_seconds IS 'How old that was at the sign of life.';
COMMENT ON COLUMN meter.collector_now.spool_polls IS 'Polls that wait on its disk.';
COMMENT ON COLUMN meter.collector_now.spool_bytes IS 'What those take.';
COMMENT ON COLUMN meter.collector_now.spool_max_bytes IS 'What its spool may take.';
COMMENT ON COLUMN meter.collector_now.spool_use IS 'The share of that in use.';
COMMENT ON COLUMN meter.collector_now.quarantined_batches IS
'Batches that the database refused for their content.';

-- Up to when each rollup is computed; readers see later rows too, added up as they ask. is_stale:
-- so far behind that its policy must have failed for some turns.
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
        -- A refresh by hand can have gone beyond now.
        greatest(extract(EPOCH FROM now() - w.computed_until), 0)::double precision,
        -- Late is what was due and is not there: in a quiet night nothing is due.
        coalesce(w.computed_until, '-infinity') < now() - w.allowed AND CASE
            WHEN left(w.rollup, 4) IN ('poll', 'serv') THEN EXISTS (
                SELECT FROM meter.poll AS p
                WHERE
                    p.ts >= coalesce(w.computed_until, '-infinity')
                    AND p.ts < now() - w.allowed
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
                -- Where nothing was computed, it is an instant long ago.
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
'Up to when each rollup is computed, and whether that is too long ago while polls come in.';

-- The database's jobs for this schema, and how their last run went. A refresh that found another
-- one of the same time under way is overtaken, not failed. The embedded engine records no runs:
-- there, status is NULL.
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
'TimescaleDB''s jobs for this schema, and how their last run went; status is NULL where none is '
'recorded.';

-- What each table and rollup takes on disk, as rows and as columns; for how many days it is kept
-- (NULL: for ever); and what it is expected to take a year from now if all goes on as in the last
-- two weeks.
CREATE OR REPLACE FUNCTION meter.storage()
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
        -- Its columns included, where it has them.
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
        -- Versions differ in whether they call a rollup by its own name.
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
            -- Of chunks that are full, and not much older than two weeks.
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

COMMENT ON FUNCTION meter.storage IS
'What each table and rollup takes on disk, for how long it is kept, and what it will take in a '
'year at the present pace.';
