-- Sessions of which more is known, and what an answer did not tell.

-- A session's number now includes its tenant, its creation and whether it counts through a parent,
-- so it identifies the session alone. Two tenants can have meetings with the same internal id: a
-- client can choose the id of a breakout.
DROP INDEX meter.session_key;
DROP INDEX meter.session_by_id;
CREATE UNIQUE INDEX session_key ON meter.session (session_id, started_at);

-- The sessions that have not ended. A search in meter.session would read all its chunks.
CREATE TABLE meter.open_session (
    session_id bigint PRIMARY KEY,
    started_at timestamptz NOT NULL
);
INSERT INTO meter.open_session (session_id, started_at)
SELECT
    s.session_id,
    min(s.started_at) AS started_at
FROM meter.session AS s
WHERE s.ended_at IS NULL
GROUP BY s.session_id;

COMMENT ON TABLE meter.open_session IS
'The sessions of meter.session that have not ended. meter.update_sessions computes their figures.';
COMMENT ON COLUMN meter.open_session.session_id IS 'The session.';
COMMENT ON COLUMN meter.open_session.started_at IS 'started_at of its row in meter.session.';

-- Sessions that nobody has joined, or of which it is unknown. When somebody joins, the row is
-- deleted.
CREATE TABLE meter.empty_session (
    session_id bigint PRIMARY KEY,
    server_id integer NOT NULL REFERENCES meter.server (id),
    tenant_id integer NOT NULL REFERENCES meter.tenant (id),
    room_id bigint,
    started_at timestamptz NOT NULL,
    is_known boolean NOT NULL
);
CREATE INDEX empty_session_by_start ON meter.empty_session (started_at);
-- Earlier versions did not read whether somebody had joined.
INSERT INTO meter.empty_session (
    session_id, server_id, tenant_id, room_id, started_at, is_known
)
SELECT
    s.session_id,
    s.server_id,
    s.tenant_id,
    s.room_id,
    s.started_at,
    FALSE AS is_known
FROM meter.session AS s
WHERE NOT s.breakout AND coalesce(s.max_participants, 0) = 0
ON CONFLICT (session_id) DO NOTHING;

COMMENT ON TABLE meter.empty_session IS
'Sessions (no breakouts) that nobody has joined, or of which this is unknown. If it is known, the '
'session has no row in meter.session. When somebody joins, the row is deleted here.';
COMMENT ON COLUMN meter.empty_session.session_id IS
'The session. If somebody joins, it has the same number in meter.session.';
COMMENT ON COLUMN meter.empty_session.server_id IS 'The server that reported it.';
COMMENT ON COLUMN meter.empty_session.tenant_id IS 'The tenant.';
COMMENT ON COLUMN meter.empty_session.room_id IS 'The room, NULL if it is unknown.';
COMMENT ON COLUMN meter.empty_session.started_at IS 'When it was created.';
COMMENT ON COLUMN meter.empty_session.is_known IS
'TRUE if the server says that nobody ever joined. FALSE if it does not say, and nobody was seen.';

-- What a successful poll did not tell. It does not show that a session ended, and it lowers
-- coverage.
CREATE TABLE meter.unseen (
    ts timestamptz NOT NULL,
    server_id integer NOT NULL,
    tenant_id integer,
    session_id bigint,
    sessions integer NOT NULL,
    seconds smallint NOT NULL
);
SELECT create_hypertable(
    'meter.unseen', by_range('ts', interval '1 day'), create_default_indexes => FALSE
);
CREATE INDEX unseen_by_server ON meter.unseen (server_id, ts);
ALTER TABLE meter.unseen SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'server_id',
    timescaledb.orderby = 'ts'
);

COMMENT ON TABLE meter.unseen IS
'Sessions (no breakouts) that a successful poll did not show, although they ran: their part of the '
'answer could not be read or contradicted itself, or they were missing in the answer and came back '
'later. Filled samples can stand for the time.';
COMMENT ON COLUMN meter.unseen.ts IS 'Tick of the poll.';
COMMENT ON COLUMN meter.unseen.server_id IS 'The server.';
COMMENT ON COLUMN meter.unseen.tenant_id IS 'The tenant, NULL if it is unknown.';
COMMENT ON COLUMN meter.unseen.session_id IS
'The session. NULL if not even its id could be read: then it can be any session of the server.';
COMMENT ON COLUMN meter.unseen.sessions IS 'How many sessions this row stands for.';
COMMENT ON COLUMN meter.unseen.seconds IS 'The poll interval.';

CREATE MATERIALIZED VIEW meter.unseen_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', ts) AS bucket,
    server_id,
    -- Part of what identifies a row, and NULLs cannot be compared.
    coalesce(tenant_id, 0) AS tenant_id,
    sum(sessions::bigint * seconds)::bigint AS session_seconds
FROM meter.unseen
GROUP BY time_bucket('${hour}', ts), server_id, coalesce(tenant_id, 0)
WITH NO DATA;

COMMENT ON VIEW meter.unseen_1h IS 'meter.unseen by server, tenant and hour.';
COMMENT ON COLUMN meter.unseen_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.unseen_1h.server_id IS 'The server.';
COMMENT ON COLUMN meter.unseen_1h.tenant_id IS 'The tenant, 0 if it is unknown.';
COMMENT ON COLUMN meter.unseen_1h.session_seconds IS 'Sessions × seconds that were not seen.';

ALTER TYPE meter.report_row ADD ATTRIBUTE empty_sessions bigint;

COMMENT ON COLUMN meter.report_row.empty_sessions IS
'Sessions created in the period that nobody ever joined; no other figure includes them. NULL if it '
'is unknown of a session whether somebody joined.';

-- It returns another column now (../current/32_coverage.sql).
DROP FUNCTION IF EXISTS meter.covered_between(timestamptz, timestamptz);
