-- Rollups by the day of the billing time zone. They depend on the settings: after a change of
-- these, `bbbmeter migrate --rebuild-days` drops the rollups and runs this file again.

CREATE MATERIALIZED VIEW meter.usage_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('1 day', bucket, ${billing_timezone}) AS bucket,
    tenant_id,
    sum(participant_seconds)::bigint AS participant_seconds,
    sum(voice_seconds)::bigint AS voice_seconds,
    sum(video_seconds)::bigint AS video_seconds,
    sum(listener_seconds)::bigint AS listener_seconds,
    sum(dialin_seconds)::bigint AS dialin_seconds,
    sum(session_seconds)::bigint AS session_seconds,
    sum(filled_seconds)::bigint AS filled_seconds,
    sum(breakout_participant_seconds)::bigint AS breakout_participant_seconds,
    max(max_session_size) AS max_session_size,
    max(peak_minute) AS peak_minute,
    max(peak_sessions_minute) AS peak_sessions_minute
FROM meter.usage_1h
GROUP BY time_bucket('1 day', bucket, ${billing_timezone}), tenant_id
WITH NO DATA;

CREATE MATERIALIZED VIEW meter.server_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('1 day', bucket, ${billing_timezone}) AS bucket,
    server_id,
    sum(polls)::bigint AS polls,
    sum(ok_polls)::bigint AS ok_polls,
    sum(covered_seconds)::bigint AS covered_seconds,
    sum(participant_seconds)::bigint AS participant_seconds,
    sum(session_seconds)::bigint AS session_seconds,
    max(max_participants) AS max_participants,
    max(max_sessions) AS max_sessions,
    sum(latency_ms_sum)::bigint AS latency_ms_sum,
    max(max_latency_ms) AS max_latency_ms,
    sum(skipped)::bigint AS skipped
FROM meter.server_1h
GROUP BY time_bucket('1 day', bucket, ${billing_timezone}), server_id
WITH NO DATA;

CREATE MATERIALIZED VIEW meter.session_1d
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('1 day', started_at, ${billing_timezone}) AS bucket,
    tenant_id,
    count(*) AS sessions,
    coalesce(sum(duration_seconds), 0) AS duration_seconds,
    coalesce(max(duration_seconds), 0) AS max_duration_seconds,
    coalesce(sum(mean_participants), 0) AS mean_participants_sum,
    coalesce(max(max_participants), 0) AS max_participants,
    count(*) FILTER (WHERE max_participants > ${large_session_participants}) AS large_sessions
FROM meter.session
WHERE NOT breakout
GROUP BY time_bucket('1 day', started_at, ${billing_timezone}), tenant_id
WITH NO DATA;
