-- Servers: their state now, their load, a report, and outages.

-- Every server that is due, with the figures of its last poll. Figures are NULL (unknown, not zero)
-- if that poll failed, or if it is more than five minutes old.
CREATE OR REPLACE VIEW meter.server_now AS
SELECT
    v.name AS server,
    t.name AS tenant,
    coalesce(p.ok, FALSE) AS is_up,
    p.ts AS polled_at,
    p.outcome,
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
LEFT JOIN meter.server_tenant AS w ON v.id = w.server_id AND w.until IS NULL
LEFT JOIN meter.tenant AS t ON w.tenant_id = t.id
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

COMMENT ON VIEW meter.server_now IS
'Every server that is due, with the figures of its last poll of the last five minutes.';
COMMENT ON COLUMN meter.server_now.server IS 'Name of the server.';
COMMENT ON COLUMN meter.server_now.tenant IS
'Its tenant; NULL for a shared server.';
COMMENT ON COLUMN meter.server_now.is_up IS
'Whether the last poll succeeded. Also false if there was no poll for five minutes.';
COMMENT ON COLUMN meter.server_now.polled_at IS
'The tick of that poll; NULL if there was none.';
COMMENT ON COLUMN meter.server_now.outcome IS
'How the poll ended: ok, partial (some meetings could not be read), or why it failed.';
COMMENT ON COLUMN meter.server_now.latency_ms IS
'Milliseconds from the request to the whole answer, or to the error.';
COMMENT ON COLUMN meter.server_now.sessions IS
'Sessions without breakouts; NULL if unknown.';
COMMENT ON COLUMN meter.server_now.participants IS
'Participants in them; NULL if unknown.';
COMMENT ON COLUMN meter.server_now.voice IS
'Participants with voice; NULL if unknown.';
COMMENT ON COLUMN meter.server_now.video IS
'Webcam streams; NULL if unknown.';
COMMENT ON COLUMN meter.server_now.dialins IS
'Participants by telephone; NULL if unknown.';
COMMENT ON COLUMN meter.server_now.breakouts IS
'Breakout rooms; NULL if unknown.';
COMMENT ON COLUMN meter.server_now.skipped IS
'Number of meetings in the answer that could not be read.';
COMMENT ON COLUMN meter.server_now.tls_expires_at IS
'When its certificate expires; NULL if it does not use TLS, or its certificate was never seen.';

-- Load and coverage of each server, or of each in `servers`, by step. Means are taken over the time
-- that successful polls cover.
CREATE OR REPLACE FUNCTION meter.server_load(
    since timestamptz, until timestamptz, wanted interval, servers text[] DEFAULT NULL
)
RETURNS TABLE (
    ts timestamptz,
    server text,
    participants double precision,
    max_participants integer,
    sessions double precision,
    max_sessions integer,
    latency_ms double precision,
    max_latency_ms integer,
    coverage double precision
)
LANGUAGE plpgsql
STABLE
AS $fn$
DECLARE
    step interval := meter.chart_step(since, until, wanted);
    chosen integer[] := meter.chosen_servers(servers);
BEGIN
    RETURN QUERY
    SELECT
        s.ts,
        v.name,
        s.participant_seconds::double precision / nullif(s.covered_seconds, 0),
        s.max_participants,
        s.session_seconds::double precision / nullif(s.covered_seconds, 0),
        s.max_sessions,
        s.latency_ms_sum::double precision / nullif(s.ok_polls, 0),
        s.max_latency_ms,
        s.covered_seconds / s.due_seconds
    FROM meter.server_steps(since, until, step, chosen) AS s
    INNER JOIN meter.server AS v ON s.server_id = v.id
    ORDER BY s.ts, v.name;
END
$fn$;

COMMENT ON FUNCTION meter.server_load IS
'Each server in steps, for charts: means over the time that successful polls cover, maxima at any '
'tick, latency and coverage.';

-- Each server over a period: coverage, load, failed polls and latency. The first and the last hour
-- count whole. Figures are those of the time that successful polls cover.
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
    failures text,
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

    by_outcome AS (
        SELECT
            e.server_id,
            sum(e.polls)::bigint AS polls,
            string_agg(e.outcome || ' ' || e.polls, ', ' ORDER BY e.polls DESC, e.outcome) AS failures
        FROM (
            -- Not from `outcome`: failures are few, and an index finds them.
            SELECT h.server_id, h.outcome, sum(h.polls)::bigint AS polls
            FROM meter.poll_1h AS h
            WHERE h.bucket >= lo AND h.bucket < until AND NOT h.ok
            GROUP BY h.server_id, h.outcome
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
                FROM generate_series(0, cardinality(meter.latency_bounds())) AS g (class)
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
        coalesce(e.failures, ''),
        p.p95,
        coalesce(p.skipped, 0)
    FROM due AS d
    INNER JOIN meter.server AS v ON d.server_id = v.id
    LEFT JOIN load AS l ON d.server_id = l.server_id
    LEFT JOIN polled AS p ON d.server_id = p.server_id
    LEFT JOIN by_outcome AS e ON d.server_id = e.server_id
    ORDER BY v.name;
END
$fn$;

COMMENT ON FUNCTION meter.server_report IS
'Each server over a period of full hours: coverage, participant minutes and their share of all '
'servers, maximum number of participants and sessions at any tick, failed polls by kind, 95th '
'percentile of latency.';

-- Outages: from the first of at least three failed polls in a row to the next successful one. For a
-- period of more than two days: joined hours of which successful polls cover less than half.
CREATE OR REPLACE FUNCTION meter.outages(since timestamptz, until timestamptz)
RETURNS TABLE (
    server text,
    down_since timestamptz,
    down_until timestamptz,
    failed_polls bigint,
    outcome text
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
            1::bigint AS polls, p.outcome
        FROM meter.poll AS p
        WHERE
            until - since <= interval '2 days'
            AND NOT p.ok AND p.ts >= since AND p.ts < until
        UNION ALL
        SELECT
            h.server_id, h.bucket, h.bucket + interval '${hour}', h.polls - h.ok_polls, e.outcome
        FROM meter.server_1h AS h
        LEFT JOIN (
            SELECT o.server_id, o.bucket, mode() WITHIN GROUP (ORDER BY o.outcome) AS outcome
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
        mode() WITHIN GROUP (ORDER BY n.outcome)
    FROM numbered AS n
    INNER JOIN meter.server AS v ON n.server_id = v.id
    GROUP BY n.server_id, v.name, n.span
    HAVING sum(n.polls) >= 3
    ORDER BY 2, 1;
END
$fn$;

COMMENT ON FUNCTION meter.outages IS
'The outages of servers: at least three failed polls in a row. For a period of more than two days, '
'hours of which successful polls cover less than half.';
