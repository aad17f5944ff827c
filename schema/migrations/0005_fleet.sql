-- Rollups of the whole fleet, and of the polls by their outcome: what dashboards read.
-- Buckets and peaks are those of 0002_rollups.sql.

-- All tenants together. A fleet's peak is the highest minute of this sum, not a sum of peaks.
CREATE MATERIALIZED VIEW meter.fleet_1m
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('1 minute', bucket) AS bucket,
    sum(participant_seconds)::bigint AS participant_seconds,
    sum(voice_seconds)::bigint AS voice_seconds,
    sum(video_seconds)::bigint AS video_seconds,
    sum(dialin_seconds)::bigint AS dialin_seconds,
    sum(session_seconds)::bigint AS session_seconds,
    sum(filled_seconds)::bigint AS filled_seconds,
    sum(breakout_seconds)::bigint AS breakout_seconds,
    max(largest_session) AS largest_session
FROM meter.usage_1m
GROUP BY time_bucket('1 minute', bucket)
WITH NO DATA;

CREATE MATERIALIZED VIEW meter.fleet_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', bucket) AS bucket,
    sum(participant_seconds)::bigint AS participant_seconds,
    sum(voice_seconds)::bigint AS voice_seconds,
    sum(video_seconds)::bigint AS video_seconds,
    sum(dialin_seconds)::bigint AS dialin_seconds,
    sum(session_seconds)::bigint AS session_seconds,
    sum(filled_seconds)::bigint AS filled_seconds,
    sum(breakout_seconds)::bigint AS breakout_seconds,
    max(largest_session) AS largest_session,
    max(ARRAY[participant_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_participants,
    max(ARRAY[session_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_sessions
FROM meter.fleet_1m
GROUP BY time_bucket('${hour}', bucket)
WITH NO DATA;

-- How polls ended, and how fast: percentiles do not add up, counts by class do.
CREATE MATERIALIZED VIEW meter.poll_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', ts) AS bucket,
    server_id,
    ok,
    coalesce(error, '') AS error,
    width_bucket(latency_ms, ARRAY[10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000])
        AS latency_class,
    count(*) AS polls,
    sum(skipped) AS skipped
FROM meter.poll
GROUP BY
    time_bucket('${hour}', ts), server_id, ok, coalesce(error, ''),
    width_bucket(latency_ms, ARRAY[10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000])
WITH NO DATA;

-- Outages of the last days, and sessions by when they began.
CREATE INDEX poll_failed ON meter.poll (ts, server_id) WHERE NOT ok;
CREATE INDEX session_by_start ON meter.session (started_at);
