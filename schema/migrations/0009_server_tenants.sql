-- Facts of the fleet that have a time: whose server it is, and what each collector polls.

-- Whose a server was, and when. Every server of the settings has spans that follow each other
-- without a gap: the first one begins at -infinity, the last one is open.
CREATE TABLE meter.server_tenant (
    server_id integer NOT NULL REFERENCES meter.server (id),
    since timestamptz NOT NULL,
    until timestamptz,
    tenant_id integer REFERENCES meter.tenant (id),
    PRIMARY KEY (server_id, since),
    CHECK (until >= since)
);

-- A server has one open span, also when two collectors start at the same moment.
CREATE UNIQUE INDEX server_tenant_open ON meter.server_tenant (server_id) WHERE until IS NULL;

COMMENT ON TABLE meter.server_tenant IS
'The spans of time in which a server belonged to a tenant, or was shared. The first span of a '
'server also holds for the time before it was known.';
COMMENT ON COLUMN meter.server_tenant.server_id IS 'The server (meter.server).';
COMMENT ON COLUMN meter.server_tenant.since IS
'The first tick of the span; -infinity for the first span of a server.';
COMMENT ON COLUMN meter.server_tenant.until IS
'The first tick after the span; NULL for the present one.';
COMMENT ON COLUMN meter.server_tenant.tenant_id IS
'The only tenant whose sessions it held (meter.tenant); NULL for a shared server.';

-- What earlier versions knew: the present tenant holds for all time before.
INSERT INTO meter.server_tenant (server_id, since, tenant_id)
SELECT
    v.id,
    '-infinity'::timestamptz AS since,
    v.tenant_id
FROM meter.server AS v;

-- The view reads the column; current/56_servers.sql creates it again in the same transaction.
DROP VIEW IF EXISTS meter.server_now;
ALTER TABLE meter.server DROP COLUMN tenant_id;

-- What each collector polls. A collector that does not report it is of an earlier version.
ALTER TABLE meter.collector
ADD COLUMN fleet text[],
ADD COLUMN fleet_hash text,
ADD COLUMN settings_changed_at timestamptz;

COMMENT ON COLUMN meter.collector.fleet IS
'Names of the servers that are enabled in its settings; NULL if not reported.';
COMMENT ON COLUMN meter.collector.fleet_hash IS
'Hash of what its settings say about the fleet: names, addresses and tenants of servers, poll '
'interval, tenants, attribution. It contains no secret. NULL if not reported.';
COMMENT ON COLUMN meter.collector.settings_changed_at IS
'When its settings file was last changed, by its machine; NULL without a file.';
