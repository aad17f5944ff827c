-- Erasure on request, for data protection officers. docs/privacy.md says when and why.

-- Erase what identifies a room: its meeting id, its name, and the internal ids, which are hashes of
-- the meeting id. Its sessions get random numbers, because their numbers are computed from the
-- internal ids. The sums stay as they are. With keep_sums FALSE, the sessions and samples are
-- deleted too, and the sums change as far back as rollups are still refreshed. Returns the number
-- of sessions found.
--
-- The sessions move to a new room, and the old row of meter.room is left without them: a running
-- collector remembers the old room's number, and would connect new sessions with the erased ones.
CREATE OR REPLACE FUNCTION meter.forget_room(
    tenant text, external_id text, keep_sums boolean DEFAULT TRUE
)
RETURNS bigint
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $fn$
DECLARE
    given_up meter.room;
    successor bigint;
    rollup text := (
        SELECT format('%I.%I', c.materialization_hypertable_schema,
            c.materialization_hypertable_name)
        FROM timescaledb_information.continuous_aggregates AS c
        WHERE c.view_schema = 'meter' AND c.view_name = 'session_1h'
    );
    old meter.session;
    since timestamptz;
    until timestamptz;
    fresh bigint;
    found_sessions bigint := 0;
BEGIN
    -- Changing a row in the columnstore decompresses a whole batch. Allow any number of them.
    PERFORM set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', TRUE);
    SELECT r.* INTO given_up
    FROM meter.room AS r
    INNER JOIN meter.tenant AS t ON r.tenant_id = t.id
    WHERE t.name = forget_room.tenant AND r.external_id = forget_room.external_id
    FOR UPDATE OF r;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'tenant % has no such room', tenant
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (
        SELECT FROM meter.session AS s WHERE s.room_id = given_up.id AND s.ended_at IS NULL
    ) THEN
        RAISE EXCEPTION 'a session of this room is open: try again when it has ended'
            USING ERRCODE = 'object_in_use';
    END IF;
    IF keep_sums THEN
        INSERT INTO meter.room (tenant_id, external_id)
        VALUES (given_up.tenant_id, 'forgotten-' || gen_random_uuid())
        RETURNING id INTO successor;
    END IF;
    FOR old IN
        SELECT s.* FROM meter.session AS s
        WHERE s.tenant_id = given_up.tenant_id AND s.room_id = given_up.id
    LOOP
        found_sessions := found_sessions + 1;
        since := old.first_seen_at - interval '2 hours';
        until := old.last_seen_at + interval '2 hours';
        DELETE FROM meter.session AS s
        WHERE s.session_id = old.session_id AND s.started_at = old.started_at;
        IF keep_sums THEN
            fresh := ('x' || translate(gen_random_uuid()::text, '-', ''))::bit(64)::bigint
                & 9223372036854775807;
            UPDATE meter.sample AS a SET session_id = fresh
            WHERE a.session_id = old.session_id AND a.ts >= since AND a.ts < until;
            UPDATE meter.unseen AS u SET session_id = fresh
            WHERE u.session_id = old.session_id AND u.ts >= since AND u.ts < until;
            UPDATE meter.duplicate_session AS d SET session_id = fresh
            WHERE d.session_id = old.session_id;
            UPDATE meter.duplicate_session AS d SET same_as = fresh
            WHERE d.same_as = old.session_id;
            EXECUTE format(
                'UPDATE %s SET session_id = $1
                WHERE session_id = $2 AND bucket >= $3 AND bucket < $4', rollup
            ) USING fresh, old.session_id, since, until;
            -- In the columnstore, a column of a unique key cannot be updated: the row was deleted,
            -- and is inserted again.
            old.session_id := fresh;
            old.internal_id := 'forgotten-' || fresh;
            old.parent_internal_id := CASE WHEN old.breakout THEN 'forgotten' END;
            old.room_id := successor;
            INSERT INTO meter.session VALUES (old.*);
        ELSE
            DELETE FROM meter.sample AS a
            WHERE a.session_id = old.session_id AND a.ts >= since AND a.ts < until;
            DELETE FROM meter.unseen AS u
            WHERE u.session_id = old.session_id AND u.ts >= since AND u.ts < until;
            DELETE FROM meter.duplicate_session AS d
            WHERE d.session_id = old.session_id OR d.same_as = old.session_id;
            EXECUTE format(
                'DELETE FROM %s WHERE session_id = $1 AND bucket >= $2 AND bucket < $3', rollup
            ) USING old.session_id, since, until;
        END IF;
    END LOOP;
    IF keep_sums THEN
        UPDATE meter.empty_session AS e
        SET
            room_id = successor,
            session_id = ('x' || translate(gen_random_uuid()::text, '-', ''))::bit(64)::bigint
                & 9223372036854775807
        WHERE e.room_id = given_up.id;
    ELSE
        DELETE FROM meter.empty_session AS e WHERE e.room_id = given_up.id;
    END IF;
    UPDATE meter.room AS r
    SET external_id = 'forgotten-' || gen_random_uuid(), name = NULL
    WHERE r.id = given_up.id;
    RETURN found_sessions;
END
$fn$;

COMMENT ON FUNCTION meter.forget_room IS
'Erases what identifies a room (meeting id, name, internal ids, and the session numbers computed '
'from them), and keeps the sums. With keep_sums FALSE it also deletes the room''s sessions and '
'samples. Returns the number of sessions found. Only the owner of the schema can run it; see '
'docs/privacy.md.';
