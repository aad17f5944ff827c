-- Data that arrive late: from a spool, from a collector that had no connection, from a wrong clock.
-- In the transaction that stores them, the writer notes the span of time in meter.late.

-- Delete what counts a second of [since, until) twice. Polls of one server overlap only where the
-- interval was changed and two writers at once did not see each other's rows: of two successful
-- ones, the earlier one stays. A real sample replaces all filled ones of its session that it
-- overlaps. Of filled ones that overlap, the earliest stays; of those that begin at the same tick,
-- the longest, then the one with most participants.
CREATE OR REPLACE FUNCTION meter.drop_overlaps(since timestamptz, until timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    -- No interval is longer than a minute.
    earliest timestamptz := since - interval '1 minute';
    item record;
    kept record;
BEGIN
    SELECT NULL::integer AS server_id, NULL::timestamptz AS until INTO kept;
    IF (
        SELECT min(p.seconds) < max(p.seconds)
        FROM meter.poll AS p
        WHERE p.ok AND p.ts > earliest AND p.ts < drop_overlaps.until
    ) THEN
        FOR item IN
            SELECT p.server_id, p.ts, p.ts + make_interval(secs => p.seconds) AS until
            FROM meter.poll AS p
            WHERE p.ok AND p.ts > earliest AND p.ts < drop_overlaps.until
            ORDER BY p.server_id, p.ts
        LOOP
            IF kept.server_id IS DISTINCT FROM item.server_id OR kept.until <= item.ts THEN
                kept := item;
                CONTINUE;
            END IF;
            DELETE FROM meter.poll AS p WHERE p.server_id = item.server_id AND p.ts = item.ts;
            DELETE FROM meter.sample AS a
            WHERE a.server_id = item.server_id AND a.ts = item.ts AND NOT a.filled;
            DELETE FROM meter.unseen AS u
            WHERE u.server_id = item.server_id AND u.ts = item.ts;
        END LOOP;
    END IF;

    SELECT NULL::bigint AS session_id, NULL::timestamptz AS until INTO kept;
    FOR item IN
        WITH tick AS (
            -- The filled samples of each session and tick, mostly one.
            SELECT
                a.tenant_id, a.session_id, a.ts, count(*) AS samples,
                a.ts + make_interval(secs => max(a.seconds)) AS until,
                EXISTS (
                    SELECT FROM meter.sample AS b
                    WHERE b.session_id = a.session_id AND NOT b.filled
                        AND b.ts > a.ts - interval '1 minute'
                        AND b.ts < a.ts + make_interval(secs => max(a.seconds))
                        AND b.ts + make_interval(secs => b.seconds) > a.ts
                ) AS is_seen
            FROM meter.sample AS a
            WHERE a.filled AND a.ts > earliest AND a.ts < drop_overlaps.until
            GROUP BY a.tenant_id, a.session_id, a.ts
        ), judged AS (
            SELECT
                t.*,
                bool_or(t.samples > 1 OR t.is_seen) OVER session
                OR max(t.until) OVER (session ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                > t.ts AS doubtful
            FROM tick AS t
            WINDOW session AS (PARTITION BY t.session_id ORDER BY t.ts)
        )
        SELECT j.*
        FROM judged AS j
        WHERE j.session_id IN (SELECT x.session_id FROM judged AS x WHERE x.doubtful)
        ORDER BY j.session_id, j.ts
    LOOP
        item.is_seen := item.is_seen OR coalesce(
            kept.session_id = item.session_id AND kept.until > item.ts, FALSE
        );
        IF NOT item.is_seen THEN
            kept := item;
        END IF;
        IF item.is_seen OR item.samples > 1 THEN
            WITH gone AS (
                DELETE FROM meter.sample AS a
                WHERE a.tenant_id = item.tenant_id AND a.session_id = item.session_id
                    AND a.ts = item.ts AND a.filled
                RETURNING a.*
            )
            INSERT INTO meter.sample
            SELECT g.* FROM gone AS g
            WHERE NOT item.is_seen
            ORDER BY g.seconds DESC, g.participants DESC, g.voice DESC, g.video DESC
            LIMIT 1;
        END IF;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.drop_overlaps IS
'Deletes what counts a second of [since, until) twice: polls of a server that overlap earlier ones,'
' and filled samples that overlap others of their session. The caller must refresh the rollups.';

-- Note in meter.unseen what successful polls of [since, until) did not show, although filled
-- samples stand for it. A collector notes this itself, unless the poll was another collector's.
CREATE OR REPLACE FUNCTION meter.note_unseen(since timestamptz, until timestamptz) RETURNS void
LANGUAGE sql
SET search_path = pg_catalog, pg_temp
AS $fn$
INSERT INTO meter.unseen (ts, server_id, tenant_id, session_id, sessions, seconds)
SELECT p.ts, p.server_id, a.tenant_id, a.session_id, 1, p.seconds
FROM meter.sample AS a
INNER JOIN meter.poll AS p ON a.server_id = p.server_id AND a.ts = p.ts
WHERE a.ts >= note_unseen.since AND a.ts < note_unseen.until AND a.filled AND NOT a.breakout
    AND p.ts >= note_unseen.since AND p.ts < note_unseen.until AND p.ok
    AND NOT EXISTS (
        SELECT FROM meter.unseen AS u
        WHERE u.ts = a.ts AND u.server_id = a.server_id
            AND (u.session_id = a.session_id OR u.session_id IS NULL)
    )
$fn$;

COMMENT ON FUNCTION meter.note_unseen IS
'Notes in meter.unseen the filled samples of [since, until) at whose tick there is a successful '
'poll: it did not show the session. The caller must refresh the rollups.';

-- Handle all late data that were noted at least `delay` ago, when no writer is still active in
-- that span of time. No second counts twice then (meter.drop_overlaps). Sessions that had ended are
-- opened again, so that meter.update_sessions computes them again. Returns the changed spans of
-- time, in order. The caller must refresh the rollups of these spans, which a function cannot do.
CREATE OR REPLACE FUNCTION meter.settle(delay interval DEFAULT interval '2 minutes')
RETURNS TABLE (since timestamptz, until timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    span tstzrange;
    spans tstzmultirange;
    touched bigint[];
    ids bigint[];
    starts timestamptz[];
BEGIN
    -- Changing one row in the columnstore decompresses a whole batch. Few rows are changed, but
    -- together their batches can exceed TimescaleDB's default limit.
    PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
    WITH noted AS (
        DELETE FROM meter.late AS l WHERE l.added_at <= now() - delay RETURNING l.since, l.until
    )
    SELECT range_agg(tstzrange(n.since, n.until)) INTO spans FROM noted AS n;
    FOR span IN SELECT unnest(spans) LOOP
        PERFORM meter.drop_overlaps(lower(span), upper(span));
        PERFORM meter.count_once(lower(span), upper(span));
        PERFORM meter.note_unseen(lower(span), upper(span));
        SELECT array_agg(DISTINCT a.session_id) INTO touched
        FROM meter.sample AS a
        WHERE a.ts >= lower(span) AND a.ts < upper(span);
        SELECT array_agg(s.session_id), array_agg(s.started_at) INTO ids, starts
        FROM meter.session AS s
        WHERE s.session_id = ANY(touched)
            AND s.started_at >= lower(span) - interval '30 days' AND s.started_at < upper(span);
        PERFORM meter.reopen_sessions(ids, starts);
        -- Few are left: sessions that began long before. Only for them all chunks are searched.
        touched := ARRAY(
            SELECT x.id FROM unnest(touched) AS x (id)
            WHERE x.id <> ALL (coalesce(ids, '{}'))
                AND NOT EXISTS (SELECT FROM meter.open_session AS o WHERE o.session_id = x.id)
        );
        IF cardinality(touched) > 0 THEN
            SELECT array_agg(s.session_id), array_agg(s.started_at) INTO ids, starts
            FROM meter.session AS s
            WHERE s.session_id = ANY(touched)
                -- The figures are computed from hours where samples have been dropped.
                AND (
                    ${retention_session_1h} = 0
                    OR s.first_seen_at >= now() - make_interval(days => ${retention_session_1h})
                );
            PERFORM meter.reopen_sessions(ids, starts);
        END IF;
        since := lower(span);
        until := upper(span);
        RETURN NEXT;
    END LOOP;
    IF spans IS NOT NULL THEN
        -- Sessions that came from a spool may have ended before they could be compared.
        PERFORM meter.find_duplicates();
    END IF;
    DELETE FROM meter.empty_session AS e
    WHERE ${retention_session} > 0
        AND e.started_at < now() - make_interval(days => ${retention_session});
    DELETE FROM meter.duplicate_session AS d
    WHERE ${retention_session} > 0
        AND d.started_at < now() - make_interval(days => ${retention_session});
    -- The spans of collectors explain missing polls. They are kept two days longer than polls.
    DELETE FROM meter.collector AS c
    WHERE ${retention_poll} > 0 AND c.until < now() - make_interval(days => ${retention_poll} + 2);
END
$fn$;

COMMENT ON FUNCTION meter.settle IS
'Handles late data (meter.late): real samples replace filled ones, and ended sessions are opened '
'again, to be computed again. Returns the changed spans of time. The caller must refresh the '
'rollups of these spans.';

-- Delete the failed polls of these servers and ticks, because successful ones will be stored in
-- their place. Another collector may have seen a failure, or the failed poll stood for a batch that
-- could not be stored at that time. Returns the polls that were deleted.
CREATE OR REPLACE FUNCTION meter.supersede(servers integer[], ticks timestamptz[])
RETURNS TABLE (server_id integer, ts timestamptz)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $fn$
BEGIN
    PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
    FOR server_id, ts IN
        SELECT p.server_id, p.ts
        FROM unnest(servers, ticks) AS s (server_id, ts)
        INNER JOIN meter.poll AS p ON p.server_id = s.server_id AND p.ts = s.ts
        WHERE NOT p.ok
    LOOP
        DELETE FROM meter.poll AS p
        WHERE p.server_id = supersede.server_id AND p.ts = supersede.ts AND NOT p.ok;
        RETURN NEXT;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.supersede IS
'Deletes failed polls (server and tick), so that successful ones can be stored in their place. '
'Returns those that were deleted.';
