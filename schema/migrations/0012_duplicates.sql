-- Meetings that two servers of the settings show: ../current/13_duplicates.sql fills the table.

CREATE TABLE meter.duplicate_session (
    session_id bigint PRIMARY KEY,
    started_at timestamptz NOT NULL,
    server_id integer NOT NULL REFERENCES meter.server (id),
    tenant_id integer NOT NULL REFERENCES meter.tenant (id),
    same_as bigint NOT NULL,
    other_server_id integer NOT NULL REFERENCES meter.server (id),
    other_tenant_id integer NOT NULL REFERENCES meter.tenant (id),
    counts boolean NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz
);
CREATE INDEX duplicate_session_now ON meter.duplicate_session (session_id) WHERE until IS NULL;

COMMENT ON TABLE meter.duplicate_session IS
'Sessions of meetings that another server of the settings shows too, for example a load balancer '
'and the servers behind it.';
COMMENT ON COLUMN meter.duplicate_session.session_id IS 'The session (meter.session).';
COMMENT ON COLUMN meter.duplicate_session.started_at IS 'started_at of its row in meter.session.';
COMMENT ON COLUMN meter.duplicate_session.server_id IS 'Its server.';
COMMENT ON COLUMN meter.duplicate_session.tenant_id IS 'Its tenant.';
COMMENT ON COLUMN meter.duplicate_session.same_as IS
'The session of the same meeting on the other server. It always counts.';
COMMENT ON COLUMN meter.duplicate_session.other_server_id IS 'The other server.';
COMMENT ON COLUMN meter.duplicate_session.other_tenant_id IS 'The tenant of the other session.';
COMMENT ON COLUMN meter.duplicate_session.counts IS
'TRUE if the meeting counts twice, because it is unknown which of two tenants it belongs to. FALSE '
'if this session counts through the other one, as a breakout room does through its parent.';
COMMENT ON COLUMN meter.duplicate_session.since IS
'The first tick at which both servers showed it.';
COMMENT ON COLUMN meter.duplicate_session.until IS
'When the other server showed it last; NULL while both show it.';
