-- What tenants' contracts allow, and what collectors know of certificates, products and themselves.

CREATE TABLE meter.contract (
    tenant_id integer NOT NULL REFERENCES meter.tenant (id),
    since timestamptz NOT NULL,
    until timestamptz,
    max_participants integer CHECK (max_participants > 0),
    month_minutes bigint CHECK (month_minutes > 0),
    PRIMARY KEY (tenant_id, since),
    CHECK (until >= since),
    CHECK (max_participants IS NOT NULL OR month_minutes IS NOT NULL)
);

-- A tenant has one contract at a time: two collectors that start together open one.
CREATE UNIQUE INDEX contract_open ON meter.contract (tenant_id) WHERE until IS NULL;

ALTER TABLE meter.server ADD COLUMN tls_expires_at timestamptz;

ALTER TABLE meter.session ADD COLUMN origin text;

ALTER TABLE meter.collector ADD COLUMN interval_s integer;
ALTER TABLE meter.collector ADD COLUMN servers integer;
ALTER TABLE meter.collector ADD COLUMN newest_stored_at timestamptz;
ALTER TABLE meter.collector ADD COLUMN spool_polls integer;
ALTER TABLE meter.collector ADD COLUMN spool_bytes bigint;
ALTER TABLE meter.collector ADD COLUMN spool_max_bytes bigint;
ALTER TABLE meter.collector ADD COLUMN quarantined_batches integer;
