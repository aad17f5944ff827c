-- Heartbeats, by which collectors that share the servers know of each other; and the polls that
-- no collector stored.

-- Note that the collector `id` is alive, and return the ids of all live collectors. A new span
-- begins when the collector has been started again (`anew`), when it wrote no heartbeat for two
-- periods, and when its fleet changes, because servers then change hands. `unsafe_since` is the
-- oldest tick that it holds in memory only, because neither the database nor its spool accepts it.
-- The other arguments are what it reports of itself.
DROP FUNCTION IF EXISTS meter.beat(
    text, text, interval, interval, boolean, timestamptz, integer, integer, timestamptz, integer,
    bigint, bigint, integer
);
CREATE OR REPLACE FUNCTION meter.beat(
    id text,
    host text,
    period interval,
    alive_for interval,
    anew boolean,
    unsafe_since timestamptz,
    interval_s integer DEFAULT NULL,
    servers integer DEFAULT NULL,
    newest_stored_at timestamptz DEFAULT NULL,
    spool_polls integer DEFAULT NULL,
    spool_bytes bigint DEFAULT NULL,
    spool_max_bytes bigint DEFAULT NULL,
    quarantined_batches integer DEFAULT NULL,
    fleet text[] DEFAULT NULL,
    fleet_hash text DEFAULT NULL,
    settings_changed_at timestamptz DEFAULT NULL
) RETURNS text[]
LANGUAGE plpgsql
AS $fn$
BEGIN
    UPDATE meter.collector AS c
    SET
        until = now(),
        safe_until = least(now(), unsafe_since),
        interval_s = beat.interval_s,
        servers = beat.servers,
        newest_stored_at = beat.newest_stored_at,
        spool_polls = beat.spool_polls,
        spool_bytes = beat.spool_bytes,
        spool_max_bytes = beat.spool_max_bytes,
        quarantined_batches = beat.quarantined_batches,
        settings_changed_at = beat.settings_changed_at
    WHERE c.id = beat.id AND NOT anew AND NOT c.stopped
        AND c.until > now() - 2 * period AND c.since <= now()
        AND c.fleet_hash IS NOT DISTINCT FROM beat.fleet_hash;
    IF NOT FOUND THEN
        INSERT INTO meter.collector AS c (
            id, host, since, until, safe_until, interval_s, servers, newest_stored_at,
            spool_polls, spool_bytes, spool_max_bytes, quarantined_batches, fleet, fleet_hash,
            settings_changed_at
        )
        VALUES (
            beat.id, beat.host, now(), now(), least(now(), unsafe_since), beat.interval_s,
            beat.servers, beat.newest_stored_at, beat.spool_polls, beat.spool_bytes,
            beat.spool_max_bytes, beat.quarantined_batches, beat.fleet, beat.fleet_hash,
            beat.settings_changed_at
        )
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN (
        SELECT array_agg(DISTINCT c.id ORDER BY c.id) FROM meter.collector AS c
        WHERE
            -- One with a longer poll interval writes fewer heartbeats.
            c.until > now() - greatest(alive_for, make_interval(secs => 2 * c.interval_s))
            AND NOT c.stopped
    );
END
$fn$;

COMMENT ON FUNCTION meter.beat IS
'Notes a collector''s heartbeat. Returns the ids of all live collectors.';

-- Note that a collector has shut down properly: the others take over its servers immediately. If it
-- wrote no heartbeat for two periods, its span is not extended up to now, because it may not have
-- polled since then.
CREATE OR REPLACE FUNCTION meter.leave(id text, period interval) RETURNS void
LANGUAGE sql
AS $fn$
    UPDATE meter.collector AS c
    SET
        stopped = TRUE,
        until = CASE WHEN c.until > now() - 2 * period THEN now() ELSE c.until END,
        safe_until = CASE WHEN c.until > now() - 2 * period THEN now() ELSE c.safe_until END
    WHERE c.id = leave.id AND c.until = (
        SELECT max(l.until) FROM meter.collector AS l WHERE l.id = leave.id
    );
$fn$;

COMMENT ON FUNCTION meter.leave IS 'Notes that a collector has shut down properly.';

-- The due polls of [since, until) that have no row, not even one of a failed poll: in spans, with
-- the reason. 'no collector': no collector was alive at the time. 'handover': a collector had just
-- started, stopped or fallen silent, and servers changed hands; what it held in memory only is
-- lost. 'unexplained': there should have been a poll.
CREATE OR REPLACE FUNCTION meter.missing_polls(since timestamptz, until timestamptz)
RETURNS TABLE (
    server_id integer,
    missing_since timestamptz,
    missing_until timestamptz,
    polls bigint,
    reason text
)
LANGUAGE plpgsql
STABLE
AS $fn$
BEGIN
    RETURN QUERY
    WITH due AS (
        SELECT
            d.server_id,
            greatest(d.since, missing_polls.since) AS lo,
            least(coalesce(d.until, missing_polls.until), missing_polls.until) AS hi
        FROM meter.server_due AS d
        WHERE
            d.since < missing_polls.until
            AND coalesce(d.until, missing_polls.until) > missing_polls.since
    ),

    edge AS (
        SELECT d.server_id, d.lo, d.hi, d.lo AS covered_until, d.lo AS ts, NULL::smallint AS seconds
        FROM due AS d
        UNION ALL
        SELECT d.server_id, d.lo, d.hi, p.ts + make_interval(secs => p.seconds), p.ts, p.seconds
        FROM due AS d
        INNER JOIN meter.poll AS p ON d.server_id = p.server_id
        WHERE
            p.ts >= d.lo AND p.ts < d.hi
            AND p.ts >= missing_polls.since AND p.ts < missing_polls.until
    ),

    gap AS (
        SELECT
            e.server_id,
            e.hi,
            e.covered_until AS lo,
            lead(e.ts, 1, e.hi) OVER next_poll AS until,
            coalesce(e.seconds, lead(e.seconds) OVER next_poll, 60) AS seconds,
            coalesce(lead(e.seconds) OVER next_poll, e.seconds, 60) AS next_seconds
        FROM edge AS e
        WINDOW next_poll AS (
            PARTITION BY e.server_id, e.lo ORDER BY e.ts, e.seconds NULLS FIRST
        )
    ),

    -- After a change of the poll interval, the new ticks can begin less than an interval later: no
    -- poll is missing there.
    whole AS (
        SELECT g.* FROM gap AS g
        WHERE g.until - g.lo >= make_interval(secs => greatest(g.seconds, g.next_seconds))
    ),

    seen AS (
        SELECT range_agg(tstzrange(c.since, c.until, '[]')) AS spans FROM meter.collector AS c
    ),

    judged AS (
        SELECT
            w.*,
            tstzmultirange(tstzrange(w.lo, w.until)) * coalesce(
                (SELECT s.spans FROM seen AS s), '{}'::tstzmultirange
            ) AS attended,
            coalesce((
                SELECT range_agg(x.span)
                FROM meter.collector AS c
                -- A new collector takes servers from the others. The servers of one that is gone
                -- are not polled for three intervals, and what was in its memory only is lost,
                -- including the tick in progress.
                CROSS JOIN LATERAL unnest(ARRAY[
                    tstzrange(
                        c.since - make_interval(secs => w.seconds),
                        c.since + make_interval(secs => 2 * w.seconds)
                    ),
                    tstzrange(
                        c.safe_until - make_interval(secs => w.seconds),
                        c.until + make_interval(secs => 4 * w.seconds)
                    )
                ]) AS x (span)
                WHERE
                    c.since < w.until + interval '5 minutes'
                    AND c.until > w.lo - interval '5 minutes'
            ), '{}'::tstzmultirange) AS handed_over
        FROM whole AS w
    )

    SELECT
        j.server_id,
        j.lo,
        j.until,
        round(extract(EPOCH FROM j.until - j.lo) / j.seconds)::bigint AS polls,
        CASE
            WHEN NOT isempty(j.attended - j.handed_over) THEN 'unexplained'
            WHEN isempty(j.attended) THEN 'no collector'
            ELSE 'handover'
        END AS reason
    FROM judged AS j
    ORDER BY j.lo, j.server_id;
END
$fn$;

COMMENT ON FUNCTION meter.missing_polls IS
'Due polls of [since, until) that have no row, not even one of a failed poll: spans of each '
'server, with the reason (no collector, handover or unexplained). Polls must still be kept for the '
'whole period. Polls of the last minutes may not be stored yet.';
