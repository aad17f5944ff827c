-- The tables. ../current/90_comments.sql says what each table and column means.

CREATE TABLE meter.setting (
    key text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE meter.tenant (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    title text NOT NULL DEFAULT ''
);

CREATE TABLE meter.contract (
    tenant_id integer NOT NULL REFERENCES meter.tenant (id),
    since timestamptz NOT NULL,
    until timestamptz,
    participant_limit integer CHECK (participant_limit > 0),
    month_minute_limit bigint CHECK (month_minute_limit > 0),
    PRIMARY KEY (tenant_id, since),
    CHECK (until >= since),
    CHECK (participant_limit IS NOT NULL OR month_minute_limit IS NOT NULL)
);

-- A tenant has one open contract, also when two collectors start at the same moment.
CREATE UNIQUE INDEX contract_open ON meter.contract (tenant_id) WHERE until IS NULL;

CREATE TABLE meter.server (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    tenant_id integer REFERENCES meter.tenant (id),
    tls_expires_at timestamptz
);

CREATE TABLE meter.server_due (
    server_id integer NOT NULL REFERENCES meter.server (id),
    since timestamptz NOT NULL,
    until timestamptz,
    PRIMARY KEY (server_id, since),
    CHECK (until >= since)
);

-- A server has one open span, also when two collectors start at the same moment.
CREATE UNIQUE INDEX server_due_open ON meter.server_due (server_id) WHERE until IS NULL;

CREATE TABLE meter.room (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES meter.tenant (id),
    external_id text NOT NULL,
    name text,
    UNIQUE (tenant_id, external_id)
);

CREATE TABLE meter.session (
    session_id bigint NOT NULL,
    server_id integer NOT NULL,
    internal_id text NOT NULL,
    started_at timestamptz NOT NULL,
    tenant_id integer NOT NULL,
    room_id bigint,
    parent_internal_id text,
    breakout boolean NOT NULL,
    recording boolean NOT NULL,
    origin text,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz,
    ended_at timestamptz,
    duration_seconds double precision,
    session_seconds bigint,
    participant_seconds bigint,
    voice_seconds bigint,
    video_seconds bigint,
    dialin_seconds bigint,
    filled_seconds bigint,
    max_participants integer,
    mean_participants double precision
);
SELECT create_hypertable(
    'meter.session', by_range('started_at', interval '30 days'), create_default_indexes => FALSE
);
CREATE UNIQUE INDEX session_key ON meter.session (server_id, internal_id, started_at);
CREATE INDEX session_by_id ON meter.session (session_id);
CREATE INDEX session_by_tenant ON meter.session (tenant_id, started_at);
CREATE INDEX session_by_start ON meter.session (started_at);
CREATE INDEX session_open ON meter.session (server_id) WHERE ended_at IS NULL;
ALTER TABLE meter.session SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'tenant_id',
    timescaledb.orderby = 'started_at, session_id'
);

CREATE TABLE meter.poll (
    ts timestamptz NOT NULL,
    server_id integer NOT NULL,
    ok boolean NOT NULL,
    outcome text NOT NULL,
    latency_ms integer NOT NULL,
    seconds smallint NOT NULL,
    sessions integer,
    participants integer,
    voice integer,
    video integer,
    listeners integer,
    dialins integer,
    breakouts integer,
    skipped integer NOT NULL
);
SELECT create_hypertable(
    'meter.poll', by_range('ts', interval '1 day'), create_default_indexes => FALSE
);
CREATE UNIQUE INDEX poll_key ON meter.poll (server_id, ts);
CREATE INDEX poll_by_time ON meter.poll (ts);
-- For the outages of the last days.
CREATE INDEX poll_failed ON meter.poll (ts, server_id) WHERE NOT ok;
ALTER TABLE meter.poll SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'server_id',
    timescaledb.orderby = 'ts'
);

-- No unique index: a sample is stored only together with its poll, and the poll is unique.
CREATE TABLE meter.sample (
    ts timestamptz NOT NULL,
    tenant_id integer NOT NULL,
    server_id integer NOT NULL,
    session_id bigint NOT NULL,
    participants smallint NOT NULL,
    voice smallint NOT NULL,
    video smallint NOT NULL,
    listeners smallint NOT NULL,
    dialins smallint NOT NULL,
    seconds smallint NOT NULL,
    breakout boolean NOT NULL,
    filled boolean NOT NULL
);
SELECT create_hypertable(
    'meter.sample', by_range('ts', interval '1 day'), create_default_indexes => FALSE
);
CREATE INDEX sample_by_time ON meter.sample (ts);
CREATE INDEX sample_by_session ON meter.sample (session_id, ts);
ALTER TABLE meter.sample SET (
    timescaledb.enable_columnstore,
    timescaledb.segmentby = 'tenant_id',
    timescaledb.orderby = 'server_id, session_id, ts'
);

-- The spans of time in which samples were stored late or filled, until meter.settle has handled
-- them.
CREATE TABLE meter.late (
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    added_at timestamptz NOT NULL DEFAULT now()
);

-- The spans of time in which each collector was alive. A live collector extends its last span.
CREATE TABLE meter.collector (
    id text NOT NULL,
    host text NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    safe_until timestamptz NOT NULL,
    stopped boolean NOT NULL DEFAULT FALSE,
    interval_s integer,
    servers integer,
    newest_stored_at timestamptz,
    spool_polls integer,
    spool_bytes bigint,
    spool_max_bytes bigint,
    quarantined_batches integer,
    PRIMARY KEY (id, since)
);
CREATE INDEX collector_by_until ON meter.collector (until);

-- The database roles that can read the rows of one tenant.
CREATE TABLE meter.tenant_role (
    role text PRIMARY KEY,
    tenant_id integer NOT NULL REFERENCES meter.tenant (id)
);

-- A row of every report (../current/40_reports.sql). A later version adds a figure by ALTER TYPE
-- in a new migration, and the functions that return the type are written again in that migrate.
CREATE TYPE meter.report_row AS (
    period timestamptz,
    tenant text,
    server text,
    room text,
    participant_minutes double precision,
    voice_minutes double precision,
    video_minutes double precision,
    dialin_minutes double precision,
    sessions bigint,
    session_minutes double precision,
    avg_session_minutes double precision,
    max_session_minutes double precision,
    avg_session_size double precision,
    max_session_size integer,
    large_sessions bigint,
    peak_participants double precision,
    peak_participants_at timestamptz,
    peak_sessions double precision,
    breakout_minutes double precision,
    coverage double precision,
    filled_share double precision
);
