-- How the fleet and the meter itself are: servers, failures, collectors, rollups, storage.

-- Every server that is due, as its last poll saw it. Counts are NULL (unknown, not zero) where that
-- failed or is more than five minutes ago.
CREATE OR REPLACE VIEW meter.server_now AS
SELECT
    v.name AS server,
    t.name AS tenant,
    coalesce(p.ok, FALSE) AS is_up,
    p.ts AS polled_at,
    nullif(p.error, '') AS error,
    p.latency_ms,
    p.sessions,
    p.participants,
    p.voice,
    p.video,
    p.dialins,
    p.breakouts,
    p.skipped,
    v.tls_expires_at
FROM meter.server AS v
LEFT JOIN meter.tenant AS t ON v.tenant_id = t.id
LEFT JOIN LATERAL (
    SELECT x.*
    FROM meter.poll AS x
    WHERE x.server_id = v.id AND x.ts > now() - interval '5 minutes'
    ORDER BY x.ts DESC
    LIMIT 1
) AS p ON TRUE
WHERE
    v.id IN (
        SELECT d.server_id
        FROM meter.server_due AS d
        WHERE d.until IS NULL
    );

-- Failed polls of all servers, or of those named, by kind, in steps of an hour at least.
CREATE OR REPLACE FUNCTION meter.poll_failures(
    since timestamptz, until timestamptz, wanted interval, servers text[] DEFAULT NULL
)
RETURNS TABLE (ts timestamptz, error text, polls bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := greatest(meter.chart_step(since, until, wanted), interval '1 hour');
    chosen integer[] := meter.chosen_servers(servers);
BEGIN
    RETURN QUERY
    SELECT meter.step_of(step, x.bucket), x.error, sum(x.polls)::bigint
    FROM (
        -- Hours of all servers first: a step's beginning takes long to find.
        SELECT h.bucket, h.error, sum(h.polls) AS polls
        FROM meter.poll_1h AS h
        WHERE
            NOT h.ok AND h.bucket >= meter.step_of(step, since) AND h.bucket < until
            AND (chosen IS NULL OR h.server_id = ANY(chosen))
        GROUP BY h.bucket, h.error
    ) AS x
    GROUP BY 1, 2
    ORDER BY 1, 2;
END
$fn$;

-- Successful polls of all servers, or of those named, by how long they took: `latency_ms` is the
-- least of a class (see meter.poll_1h). In steps of an hour at least.
CREATE OR REPLACE FUNCTION meter.poll_latencies(
    since timestamptz, until timestamptz, wanted interval, servers text[] DEFAULT NULL
)
RETURNS TABLE (ts timestamptz, latency_ms integer, polls bigint)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := greatest(meter.chart_step(since, until, wanted), interval '1 hour');
    chosen integer[] := meter.chosen_servers(servers);
BEGIN
    RETURN QUERY
    SELECT
        meter.step_of(step, x.bucket),
        (ARRAY[0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000])[x.latency_class + 1],
        sum(x.polls)::bigint
    FROM (
        -- Hours of all servers first: a step's beginning takes long to find.
        SELECT h.bucket, h.latency_class, sum(h.polls) AS polls
        FROM meter.poll_1h AS h
        WHERE
            h.ok AND h.bucket >= meter.step_of(step, since) AND h.bucket < until
            AND (chosen IS NULL OR h.server_id = ANY(chosen))
        GROUP BY h.bucket, h.latency_class
    ) AS x
    GROUP BY 1, 2
    ORDER BY 1, 2;
END
$fn$;

-- The latency in ms that a share `q` of polls did not exceed, from their numbers by latency class
-- (see meter.poll_1h), taken as even within a class; 10000 where it lies above that.
CREATE OR REPLACE FUNCTION meter.latency_quantile(q double precision, polls bigint[])
RETURNS double precision
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
AS $fn$
    WITH class AS (
        SELECT
            n.i,
            n.polls::double precision AS polls,
            sum(n.polls) OVER (ORDER BY n.i)::double precision AS up_to,
            sum(n.polls) OVER ()::double precision AS whole,
            ARRAY[0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 10000] AS bound
        FROM unnest(polls) WITH ORDINALITY AS n (polls, i)
    )

    SELECT
        c.bound[c.i] + (c.bound[c.i + 1] - c.bound[c.i])
        * (q * c.whole - c.up_to + c.polls) / c.polls
    FROM class AS c
    WHERE c.polls > 0 AND c.up_to >= q * c.whole
    ORDER BY c.i
    LIMIT 1
$fn$;

-- Each server over a period: how well it was seen, what it carried, how fast it answered. Figures
-- are of what was seen of it; whole hours, the first one whole.
CREATE OR REPLACE FUNCTION meter.server_report(since timestamptz, until timestamptz)
RETURNS TABLE (
    server text,
    coverage double precision,
    participant_minutes double precision,
    share double precision,
    session_minutes double precision,
    max_participants integer,
    max_sessions integer,
    polls bigint,
    failed_polls bigint,
    errors text,
    latency_p95_ms double precision,
    skipped bigint
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    lo timestamptz := meter.step_of(interval '1 hour', since);
    hi timestamptz := least(
        meter.step_of(interval '1 hour', until - interval '1 microsecond') + interval '1 hour',
        date_trunc('minute', now()) - interval '1 minute'
    );
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT
            d.server_id,
            sum(extract(EPOCH FROM least(d.until, hi) - greatest(d.since, lo)))
            ::double precision AS seconds
        FROM meter.server_due AS d
        WHERE d.since < hi AND (d.until IS NULL OR d.until > lo)
        GROUP BY d.server_id
    ),

    load AS (
        SELECT
            h.server_id,
            sum(h.covered_seconds)::bigint AS covered_seconds,
            sum(h.participant_seconds)::bigint AS participant_seconds,
            sum(h.session_seconds)::bigint AS session_seconds,
            max(h.max_participants) AS max_participants,
            max(h.max_sessions) AS max_sessions
        FROM meter.server_1h AS h
        WHERE h.bucket >= lo AND h.bucket < until
        GROUP BY h.server_id
    ),

    outcome AS MATERIALIZED (
        SELECT
            h.server_id,
            h.ok,
            h.latency_class,
            sum(h.polls)::bigint AS polls,
            sum(h.skipped)::bigint AS skipped
        FROM meter.poll_1h AS h
        WHERE h.bucket >= lo AND h.bucket < until
        GROUP BY h.server_id, h.ok, h.latency_class
    ),

    by_error AS (
        SELECT
            e.server_id,
            sum(e.polls)::bigint AS polls,
            string_agg(e.error || ' ' || e.polls, ', ' ORDER BY e.polls DESC, e.error) AS errors
        FROM (
            -- On its own: failures are few, and an index finds them.
            SELECT h.server_id, h.error, sum(h.polls)::bigint AS polls
            FROM meter.poll_1h AS h
            WHERE h.bucket >= lo AND h.bucket < until AND NOT h.ok
            GROUP BY h.server_id, h.error
        ) AS e
        GROUP BY e.server_id
    ),

    polled AS (
        SELECT
            o.server_id,
            sum(o.polls)::bigint AS polls,
            sum(o.skipped)::bigint AS skipped,
            meter.latency_quantile(0.95, ARRAY(
                SELECT coalesce(sum(c.polls), 0)::bigint
                FROM generate_series(0, 10) AS g (class)
                LEFT JOIN outcome AS c
                    ON c.server_id = o.server_id AND c.ok AND c.latency_class = g.class
                GROUP BY g.class
                ORDER BY g.class
            )) AS p95
        FROM outcome AS o
        GROUP BY o.server_id
    )

    SELECT
        v.name,
        least(coalesce(l.covered_seconds, 0) / d.seconds, 1),
        coalesce(l.participant_seconds, 0) / 60.0::double precision,
        (l.participant_seconds / nullif(sum(l.participant_seconds) OVER (), 0))::double precision,
        coalesce(l.session_seconds, 0) / 60.0::double precision,
        l.max_participants,
        l.max_sessions,
        coalesce(p.polls, 0),
        coalesce(e.polls, 0),
        coalesce(e.errors, ''),
        p.p95,
        coalesce(p.skipped, 0)
    FROM due AS d
    INNER JOIN meter.server AS v ON d.server_id = v.id
    LEFT JOIN load AS l ON d.server_id = l.server_id
    LEFT JOIN polled AS p ON d.server_id = p.server_id
    LEFT JOIN by_error AS e ON d.server_id = e.server_id
    ORDER BY v.name;
END
$fn$;

-- When servers were away: from the first failed poll of at least three in a row to the next one
-- that succeeded. Over more than two days, hours of which less than half is covered, joined.
CREATE OR REPLACE FUNCTION meter.outages(since timestamptz, until timestamptz)
RETURNS TABLE (
    server text,
    down_since timestamptz,
    down_until timestamptz,
    failed_polls bigint,
    error text
)
LANGUAGE plpgsql
STABLE
SET plan_cache_mode = force_custom_plan
AS $fn$
BEGIN
    RETURN QUERY
    WITH failure AS (
        SELECT
            p.server_id, p.ts AS lo, p.ts + make_interval(secs => p.seconds) AS hi,
            1::bigint AS polls, p.error
        FROM meter.poll AS p
        WHERE
            until - since <= interval '2 days'
            AND NOT p.ok AND p.ts >= since AND p.ts < until
        UNION ALL
        SELECT
            h.server_id, h.bucket, h.bucket + interval '${hour}', h.polls - h.ok_polls, e.error
        FROM meter.server_1h AS h
        LEFT JOIN (
            SELECT o.server_id, o.bucket, mode() WITHIN GROUP (ORDER BY o.error) AS error
            FROM meter.poll_1h AS o
            WHERE
                until - since > interval '2 days'
                AND NOT o.ok AND o.bucket >= since AND o.bucket < until
            GROUP BY o.server_id, o.bucket
        ) AS e ON h.server_id = e.server_id AND h.bucket = e.bucket
        WHERE
            until - since > interval '2 days'
            AND h.bucket >= since AND h.bucket < until
            AND h.covered_seconds < 0.5 * extract(EPOCH FROM interval '${hour}')
            AND h.polls - h.ok_polls > h.ok_polls
    ),

    marked AS (
        SELECT
            f.*,
            coalesce(f.lo > lag(f.hi) OVER w, TRUE) AS is_first
        FROM failure AS f
        WINDOW w AS (PARTITION BY f.server_id ORDER BY f.lo)
    ),

    numbered AS (
        SELECT
            m.*,
            count(*) FILTER (WHERE m.is_first) OVER (PARTITION BY m.server_id ORDER BY m.lo)
                AS span
        FROM marked AS m
    )

    SELECT
        v.name,
        min(n.lo),
        max(n.hi),
        sum(n.polls)::bigint,
        mode() WITHIN GROUP (ORDER BY n.error)
    FROM numbered AS n
    INNER JOIN meter.server AS v ON n.server_id = v.id
    GROUP BY n.server_id, v.name, n.span
    HAVING sum(n.polls) >= 3
    ORDER BY 2, 1;
END
$fn$;

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
