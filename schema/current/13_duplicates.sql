-- Meetings that two servers of the settings show. A load balancer shows the meetings of the servers
-- behind it, and one BigBlueButton can have two names. Such a meeting counts once where its tenant
-- is known. Then the other session counts through this one, as a breakout room through its parent.

-- Find such meetings among the open sessions, or among the sessions that are given by session_id
-- and started_at. Returns the number of sessions that were noted in meter.duplicate_session.
--
-- BigBlueButton makes internal ids of the meeting id's hash and its clock. Two meetings have the
-- same one only if a client tries for it (docs/trust.md).
-- But clients choose those of breakout rooms, so breakouts are left out. They count through their
-- parent, wherever that counts.
CREATE OR REPLACE FUNCTION meter.find_duplicates(
    ids bigint[] DEFAULT NULL, starts timestamptz[] DEFAULT NULL
)
RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET plan_cache_mode = force_custom_plan
AS $fn$
DECLARE
    fresh_ids bigint[];
    ceased record;
BEGIN
    FOR ceased IN UPDATE meter.duplicate_session AS d
    -- When the other server showed it last; what this server showed after that counts by itself.
    SET until = coalesce((
        SELECT max(s.ended_at) FROM meter.session AS s WHERE s.session_id = d.same_as
    ), now())
    WHERE d.until IS NULL AND NOT EXISTS (
        SELECT FROM meter.open_session AS o
        WHERE o.session_id = d.same_as
            -- A session that counts through the other one goes on with another number.
            AND (NOT d.counts OR EXISTS (
                SELECT FROM meter.open_session AS x WHERE x.session_id = d.session_id
            ))
    )
    RETURNING d.*
    LOOP
        IF NOT ceased.counts THEN
            PERFORM meter.count_again(ceased.session_id, ceased.started_at, ceased.until);
        END IF;
    END LOOP;

    WITH shown AS MATERIALIZED (
        SELECT s.*
        FROM (
            SELECT o.session_id, o.started_at FROM meter.open_session AS o WHERE ids IS NULL
            UNION ALL
            SELECT x.session_id, x.started_at
            FROM unnest(ids, starts) AS x (session_id, started_at)
        ) AS o
        INNER JOIN meter.session AS s
            ON o.session_id = s.session_id AND o.started_at = s.started_at
        WHERE s.parent_internal_id IS NULL AND (
            NOT s.breakout
            -- It counts again since the other server ceased to show it.
            OR EXISTS (
                SELECT FROM meter.duplicate_session AS d
                WHERE d.session_id = s.session_id AND d.until IS NOT NULL
            )
        )
    ), meeting AS (
        SELECT s.internal_id
        FROM shown AS s
        GROUP BY s.internal_id
        HAVING count(DISTINCT s.server_id) > 1
    ), entry AS MATERIALIZED (
        SELECT s.*, coalesce(x.seen_until, s.last_seen_at, s.first_seen_at) AS seen_until
        FROM shown AS s
        INNER JOIN meeting AS m ON s.internal_id = m.internal_id
        -- last_seen_at can be a minute old.
        CROSS JOIN LATERAL (
            SELECT max(a.ts + make_interval(secs => a.seconds)) AS seen_until
            FROM meter.sample AS a
            WHERE a.session_id = s.session_id AND NOT a.filled
                AND a.ts >= coalesce(s.last_seen_at, s.first_seen_at)
        ) AS x
    ), pair AS (
        SELECT e.server_id, f.server_id AS other_server_id
        FROM entry AS e
        INNER JOIN entry AS f ON e.internal_id = f.internal_id AND e.server_id <> f.server_id
        UNION
        SELECT d.server_id, d.other_server_id
        FROM meter.duplicate_session AS d
        WHERE d.until IS NULL
        UNION
        SELECT d.other_server_id, d.server_id
        FROM meter.duplicate_session AS d
        WHERE d.until IS NULL
    ), partners AS (
        SELECT p.server_id, count(*) AS servers
        FROM pair AS p
        GROUP BY p.server_id
    ), judged AS (
        -- One session of each meeting always counts. Of two that were first seen at the same
        -- tick, it is the one whose server shares meetings with fewer others: a load balancer
        -- shares them with all servers behind it.
        SELECT
            e.*,
            t.name = meter.default_tenant() AS unassigned,
            first_value(e.session_id) OVER chosen AS same_as,
            first_value(e.server_id) OVER chosen AS other_server_id,
            first_value(e.tenant_id) OVER chosen AS other_tenant_id,
            first_value(e.first_seen_at) OVER chosen AS other_since,
            first_value(e.seen_until) OVER chosen AS other_until
        FROM entry AS e
        INNER JOIN meter.tenant AS t ON e.tenant_id = t.id
        INNER JOIN partners AS p ON e.server_id = p.server_id
        WINDOW chosen AS (
            PARTITION BY e.internal_id
            ORDER BY
                t.name = meter.default_tenant(), e.first_seen_at, p.servers, e.server_id,
                e.session_id
        )
    ), fresh AS (
        SELECT
            j.session_id, j.started_at, j.server_id, j.tenant_id, j.same_as,
            j.other_server_id, j.other_tenant_id,
            -- Samples that were dropped have been counted.
            NOT (j.tenant_id = j.other_tenant_id OR j.unassigned)
            OR NOT meter.still_kept(j.first_seen_at, ${retention_sample}) AS counts,
            greatest(j.first_seen_at, j.other_since) AS since
        FROM judged AS j
        WHERE j.server_id <> j.other_server_id
            AND j.first_seen_at < j.other_until AND j.seen_until > j.other_since
    ), noted AS (
        INSERT INTO meter.duplicate_session AS d (
            session_id, started_at, server_id, tenant_id, same_as, other_server_id,
            other_tenant_id, counts, since
        )
        SELECT
            n.session_id, n.started_at, n.server_id, n.tenant_id, n.same_as, n.other_server_id,
            n.other_tenant_id, n.counts, n.since
        FROM fresh AS n
        ON CONFLICT (session_id) DO UPDATE SET
            same_as = excluded.same_as, other_server_id = excluded.other_server_id,
            other_tenant_id = excluded.other_tenant_id, counts = excluded.counts,
            -- In between it counted by itself.
            since = CASE WHEN d.until IS NULL THEN d.since ELSE greatest(d.until, (
                SELECT min(a.ts) FROM meter.sample AS a
                WHERE a.session_id = excluded.same_as AND a.ts >= d.until
            )) END,
            until = NULL
        WHERE d.until IS NOT NULL OR d.same_as <> excluded.same_as OR d.counts <> excluded.counts
        RETURNING d.session_id
    )
    SELECT array_agg(n.session_id) INTO fresh_ids FROM noted AS n;

    -- What is stored already is changed by meter.settle, which also refreshes the rollups.
    INSERT INTO meter.late (since, until)
    SELECT least(d.started_at, d.since), x.until
    FROM meter.duplicate_session AS d
    CROSS JOIN LATERAL (
        SELECT max(a.ts + make_interval(secs => a.seconds)) AS until
        FROM meter.sample AS a
        WHERE a.session_id = d.session_id AND a.ts >= d.since AND NOT a.breakout
    ) AS x
    WHERE d.session_id = ANY(fresh_ids) AND NOT d.counts AND x.until IS NOT NULL;
    -- A collector that has not read the table yet can still store such samples.
    INSERT INTO meter.late (since, until)
    SELECT min(a.ts), max(a.ts + make_interval(secs => a.seconds))
    FROM meter.duplicate_session AS d
    INNER JOIN meter.sample AS a ON d.session_id = a.session_id
    WHERE d.until IS NULL AND NOT d.counts AND NOT a.breakout AND a.ts >= d.since
        AND a.ts >= now() - interval '10 minutes'
        AND d.session_id <> ALL(coalesce(fresh_ids, '{}'))
    HAVING count(*) > 0;
    RETURN coalesce(cardinality(fresh_ids), 0);
END
$fn$;

COMMENT ON FUNCTION meter.find_duplicates IS
'Finds meetings that two servers show, among the open sessions or the given ones, and notes them '
'in meter.duplicate_session. Returns the number of sessions that were noted.';

-- Let a session count by itself from an instant on, when the other server ceased to show its
-- meeting. That is known some minutes later. Until then the collectors stored it with the number of
-- a session that counts through another one.
CREATE OR REPLACE FUNCTION meter.count_again(
    of_session bigint, of_start timestamptz, since timestamptz
) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    own record;
    ids bigint[];
    last_at timestamptz;
BEGIN
    SELECT s.* INTO own
    FROM meter.session AS s
    WHERE s.session_id = of_session AND s.started_at = of_start;
    SELECT array_agg(s.session_id) INTO ids
    FROM meter.open_session AS o
    INNER JOIN meter.session AS s ON o.session_id = s.session_id AND o.started_at = s.started_at
    WHERE s.server_id = own.server_id AND s.tenant_id = own.tenant_id
        AND s.internal_id = own.internal_id AND s.breakout AND s.parent_internal_id IS NULL;
    WITH changed AS (
        UPDATE meter.sample AS a SET breakout = FALSE, session_id = of_session
        WHERE a.tenant_id = own.tenant_id AND a.session_id = ANY(ids || of_session)
            AND a.breakout AND a.ts >= count_again.since
        RETURNING a.*
    ), polls AS (
        UPDATE meter.poll AS p
        SET
            sessions = p.sessions + 1,
            participants = p.participants + c.participants,
            voice = p.voice + c.voice,
            video = p.video + c.video,
            listeners = p.listeners + c.listeners,
            dialins = p.dialins + c.dialins,
            breakouts = p.breakouts - 1
        FROM changed AS c
        WHERE NOT c.filled AND p.server_id = c.server_id AND p.ts = c.ts
            AND p.ts >= count_again.since
    )
    SELECT max(c.ts + make_interval(secs => c.seconds)) INTO last_at FROM changed AS c;
    IF last_at IS NOT NULL THEN
        PERFORM meter.reopen_sessions(ARRAY[of_session], ARRAY[of_start]);
        INSERT INTO meter.late (since, until) VALUES (count_again.since, last_at);
    END IF;
END
$fn$;

COMMENT ON FUNCTION meter.count_again IS
'Lets a session that counted through another one count by itself from an instant on, in what is '
'stored.';

-- Let the sessions that count through another one do so also in what is stored of [since, until):
-- their samples, their polls' totals, and their rows. The rollups must be refreshed after it.
CREATE OR REPLACE FUNCTION meter.count_once(since timestamptz, until timestamptz) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
#variable_conflict use_variable
DECLARE
    duplicate record;
BEGIN
    FOR duplicate IN
        SELECT
            d.session_id, d.started_at, d.tenant_id, greatest(d.since, since) AS since,
            least(d.until, until) AS until
        FROM meter.duplicate_session AS d
        WHERE NOT d.counts AND EXISTS (
            SELECT FROM meter.sample AS a
            WHERE a.session_id = d.session_id AND NOT a.breakout
                AND a.ts >= since AND a.ts < until
                AND a.ts >= d.since AND (d.until IS NULL OR a.ts < d.until)
        )
    LOOP
        WITH changed AS (
            UPDATE meter.sample AS a SET breakout = TRUE
            WHERE a.tenant_id = duplicate.tenant_id AND a.session_id = duplicate.session_id
                AND NOT a.breakout AND a.ts >= duplicate.since AND a.ts < duplicate.until
            RETURNING a.*
        )
        UPDATE meter.poll AS p
        SET
            sessions = p.sessions - 1,
            participants = p.participants - c.participants,
            voice = p.voice - c.voice,
            video = p.video - c.video,
            listeners = p.listeners - c.listeners,
            dialins = p.dialins - c.dialins,
            breakouts = p.breakouts + 1
        FROM changed AS c
        WHERE NOT c.filled AND p.server_id = c.server_id AND p.ts = c.ts
            AND p.ts >= duplicate.since AND p.ts < duplicate.until;
        -- A session that began before the other server showed it is a session of its own.
        UPDATE meter.session AS s SET breakout = TRUE
        WHERE s.session_id = duplicate.session_id AND s.started_at = duplicate.started_at
            AND s.first_seen_at >= duplicate.since;
    END LOOP;
END
$fn$;

COMMENT ON FUNCTION meter.count_once IS
'Changes what is stored of [since, until), so that sessions which count through another one '
'(meter.duplicate_session) do not count by themselves. The caller must refresh the rollups.';
