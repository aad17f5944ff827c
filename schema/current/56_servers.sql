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
-- that successful polls cover. As in meter.server_coverage, sessions that these polls did not show
-- lower the coverage.
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
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    step interval := meter.chart_step(since, until, wanted);
    chosen integer[] := meter.chosen_servers(servers);
BEGIN
    RETURN QUERY
    WITH lost AS MATERIALIZED (
        SELECT u.ts, u.server_id, sum(u.session_seconds) AS seconds
        FROM meter.unseen_steps(since, until, step) AS u
        GROUP BY u.ts, u.server_id
    )

    SELECT
        s.ts,
        v.name,
        s.participant_seconds::double precision / nullif(s.covered_seconds, 0),
        s.max_participants,
        s.session_seconds::double precision / nullif(s.covered_seconds, 0),
        s.max_sessions,
        s.latency_ms_sum::double precision / nullif(s.ok_polls, 0),
        s.max_latency_ms,
        s.covered_seconds / s.due_seconds * meter.seen_share(s.session_seconds, l.seconds)
    FROM meter.server_steps(since, until, step, chosen) AS s
    INNER JOIN meter.server AS v ON s.server_id = v.id
    LEFT JOIN lost AS l ON s.ts = l.ts AND s.server_id = l.server_id
    ORDER BY s.ts, v.name;
END
$fn$;

COMMENT ON FUNCTION meter.server_load IS
'Each server in steps, for charts: means over the time that successful polls cover, maxima at any '
'tick, latency and coverage.';

-- Each server over a period: coverage, load, failed polls and latency. The period is widened to
-- full minutes (meter.report_edge). Measured minutes are those that successful polls saw: bills
-- also have the filled ones.
CREATE OR REPLACE FUNCTION meter.server_report(since timestamptz, until timestamptz)
RETURNS TABLE (
    server text,
    coverage double precision,
    measured_participant_minutes double precision,
    share double precision,
    measured_session_minutes double precision,
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
    lo timestamptz := meter.report_edge(since);
    hi timestamptz := meter.report_edge(until, is_end => TRUE);
BEGIN
    RETURN QUERY
    WITH load AS (
        SELECT
            b.server_id,
            sum(b.polls)::bigint AS polls,
            sum(b.polls - b.ok_polls)::bigint AS failed_polls,
            sum(b.participant_seconds)::bigint AS participant_seconds,
            sum(b.session_seconds)::bigint AS session_seconds,
            max(b.max_participants) AS max_participants,
            max(b.max_sessions) AS max_sessions,
            sum(b.skipped)::bigint AS skipped
        FROM meter.polls_between(lo, hi) AS b
        GROUP BY b.server_id
    ),

    outcome AS MATERIALIZED (
        SELECT o.server_id, o.ok, o.outcome, o.latency_class, sum(o.polls)::bigint AS polls
        FROM meter.outcomes_between(lo, hi) AS o
        GROUP BY 1, 2, 3, 4
    ),

    by_outcome AS (
        SELECT
            e.server_id,
            string_agg(e.outcome || ' ' || e.polls, ', ' ORDER BY e.polls DESC, e.outcome) AS failures
        FROM (
            SELECT o.server_id, o.outcome, sum(o.polls)::bigint AS polls
            FROM outcome AS o
            WHERE NOT o.ok
            GROUP BY o.server_id, o.outcome
        ) AS e
        GROUP BY e.server_id
    ),

    class AS (
        SELECT o.server_id, o.latency_class, sum(o.polls)::bigint AS polls
        FROM outcome AS o
        WHERE o.ok
        GROUP BY o.server_id, o.latency_class
    ),

    latency AS (
        SELECT
            o.server_id,
            meter.latency_quantile(0.95, ARRAY(
                SELECT coalesce(c.polls, 0)
                FROM generate_series(0, cardinality(meter.latency_bounds())) AS g (class)
                LEFT JOIN class AS c ON c.server_id = o.server_id AND c.latency_class = g.class
                ORDER BY g.class
            )) AS p95
        FROM (SELECT DISTINCT x.server_id FROM class AS x) AS o
    )

    SELECT
        d.server,
        d.coverage,
        coalesce(l.participant_seconds, 0) / 60.0::double precision,
        (l.participant_seconds / nullif(sum(l.participant_seconds) OVER (), 0))::double precision,
        coalesce(l.session_seconds, 0) / 60.0::double precision,
        l.max_participants,
        l.max_sessions,
        coalesce(l.polls, 0),
        coalesce(l.failed_polls, 0),
        coalesce(e.failures, ''),
        y.p95,
        coalesce(l.skipped, 0)
    FROM meter.server_coverage(lo, hi) AS d
    LEFT JOIN load AS l ON d.server_id = l.server_id
    LEFT JOIN latency AS y ON d.server_id = y.server_id
    LEFT JOIN by_outcome AS e ON d.server_id = e.server_id
    ORDER BY d.server;
END
$fn$;

COMMENT ON FUNCTION meter.server_report IS
'Each server over a period, widened to full minutes: coverage, participant minutes that successful '
'polls saw (measured, without filled ones) and their share of all servers, maximum number of '
'participants and sessions at any tick, failed polls by kind, 95th percentile of latency. The last '
'two are those of the time for which meter.poll_1h is kept.';

-- Outages: from the first of at least three failed polls in a row to the next successful one. For a
-- period of more than two days, or where polls are no longer kept: joined hours with at least three
-- failed polls each. Then three single failures of one hour are listed too.
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
DECLARE
    by_poll boolean := until - since <= interval '2 days' AND (
        ${retention_poll} = 0 OR since >= now() - make_interval(days => ${retention_poll})
    );
BEGIN
    RETURN QUERY
    WITH failure AS (
        SELECT
            p.server_id, p.ts AS lo, p.ts + make_interval(secs => p.seconds) AS hi,
            1::bigint AS polls, p.outcome
        FROM meter.poll AS p
        WHERE
            by_poll
            AND NOT p.ok AND p.ts >= since AND p.ts < until
        UNION ALL
        SELECT
            h.server_id, h.bucket, h.bucket + interval '${hour}', h.polls - h.ok_polls, e.outcome
        FROM meter.server_1h AS h
        LEFT JOIN (
            SELECT o.server_id, o.bucket, mode() WITHIN GROUP (ORDER BY o.outcome) AS outcome
            FROM meter.poll_1h AS o
            WHERE
                NOT by_poll
                AND NOT o.ok AND o.bucket > since - interval '${hour}' AND o.bucket < until
            GROUP BY o.server_id, o.bucket
        ) AS e ON h.server_id = e.server_id AND h.bucket = e.bucket
        WHERE
            NOT by_poll
            AND h.bucket > since - interval '${hour}' AND h.bucket < until
            AND h.polls - h.ok_polls >= 3
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
'and where polls are no longer kept: joined hours with at least three failed polls.';
