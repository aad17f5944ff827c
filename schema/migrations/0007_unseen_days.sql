-- What polls did not show, by the day of the billing time zone.

CREATE MATERIALIZED VIEW meter.unseen_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('1 day', bucket, ${billing_timezone}) AS bucket,
    server_id,
    tenant_id,
    sum(session_seconds)::bigint AS session_seconds
FROM meter.unseen_1h
GROUP BY time_bucket('1 day', bucket, ${billing_timezone}), server_id, tenant_id
WITH NO DATA;

COMMENT ON VIEW meter.unseen_1d IS 'meter.unseen_1h by day of the billing time zone.';
COMMENT ON COLUMN meter.unseen_1d.bucket IS 'Beginning of the day.';
COMMENT ON COLUMN meter.unseen_1d.server_id IS 'The server.';
COMMENT ON COLUMN meter.unseen_1d.tenant_id IS 'The tenant, 0 if it is unknown.';
COMMENT ON COLUMN meter.unseen_1d.session_seconds IS 'Sessions × seconds that were not seen.';
