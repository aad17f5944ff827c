-- Moderators in samples: getMeetings' moderatorCount. NULL is unknown: a server that does not send
-- it, or a sample of an earlier version.

ALTER TABLE meter.sample ADD COLUMN moderators smallint;

COMMENT ON COLUMN meter.sample.moderators IS
'Participants who are moderators; NULL if the server does not report it. BigBlueButton before '
'November 2024 reports a wrong number.';

-- Also the hours in which nothing is known: a rollup without new rows would look as if its refresh
-- had stopped, and each read would search the samples.
CREATE MATERIALIZED VIEW meter.moderators_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', ts) AS bucket,
    tenant_id,
    sum(moderators::integer * seconds) AS count_seconds,
    coalesce(sum(seconds) FILTER (WHERE moderators IS NOT NULL), 0) AS known_seconds
FROM meter.sample
WHERE NOT breakout
GROUP BY time_bucket('${hour}', ts), tenant_id
WITH NO DATA;

COMMENT ON VIEW meter.moderators_1h IS
'Moderators of each tenant by hour, as far as servers report them.';
COMMENT ON COLUMN meter.moderators_1h.bucket IS 'Beginning of the hour.';
COMMENT ON COLUMN meter.moderators_1h.tenant_id IS 'The tenant.';
COMMENT ON COLUMN meter.moderators_1h.count_seconds IS
'Moderators × seconds; NULL if nothing is known.';
COMMENT ON COLUMN meter.moderators_1h.known_seconds IS
'Seconds of sessions in which the number of moderators is known.';

ALTER TYPE meter.report_row ADD ATTRIBUTE moderator_minutes double precision;

COMMENT ON COLUMN meter.report_row.moderator_minutes IS
'Moderators × minutes; NULL unless their number is known for all sessions of the whole period.';
