-- Moderators by the day, in the billing time zone.

CREATE MATERIALIZED VIEW meter.moderators_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('1 day', bucket, ${billing_timezone}) AS bucket,
    tenant_id,
    sum(count_seconds)::bigint AS count_seconds,
    sum(known_seconds)::bigint AS known_seconds
FROM meter.moderators_1h
GROUP BY time_bucket('1 day', bucket, ${billing_timezone}), tenant_id
WITH NO DATA;

COMMENT ON VIEW meter.moderators_1d IS 'meter.moderators_1h by day of the billing time zone.';
COMMENT ON COLUMN meter.moderators_1d.bucket IS 'Beginning of the day.';
COMMENT ON COLUMN meter.moderators_1d.tenant_id IS 'The tenant.';
COMMENT ON COLUMN meter.moderators_1d.count_seconds IS
'Moderators × seconds; NULL if nothing is known.';
COMMENT ON COLUMN meter.moderators_1d.known_seconds IS
'Seconds of sessions in which the number of moderators is known.';
