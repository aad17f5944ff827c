-- Rollups by the minute and the hour. Sums add up at every level; maxima are of the same series
-- at every level, so that a peak is a tenant's peak and never a sum or a maximum over servers.
-- A peak is an array {value, -minute}: its maximum is the highest minute, the earliest of equals.
-- ${hour} is 1 hour; but 30 or 15 minutes for a zone whose days do not begin on a full hour of UTC.

CREATE MATERIALIZED VIEW meter.usage_1m
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('1 minute', ts) AS bucket,
    tenant_id,
    coalesce(sum(participants::integer * seconds) FILTER (WHERE NOT breakout), 0)
        AS participant_seconds,
    coalesce(sum(voice::integer * seconds) FILTER (WHERE NOT breakout), 0) AS voice_seconds,
    coalesce(sum(video::integer * seconds) FILTER (WHERE NOT breakout), 0) AS video_seconds,
    coalesce(sum(listeners::integer * seconds) FILTER (WHERE NOT breakout), 0)
        AS listener_seconds,
    coalesce(sum(dialins::integer * seconds) FILTER (WHERE NOT breakout), 0) AS dialin_seconds,
    coalesce(sum(seconds) FILTER (WHERE NOT breakout), 0) AS session_seconds,
    coalesce(sum(seconds) FILTER (WHERE filled AND NOT breakout), 0) AS filled_seconds,
    coalesce(sum(participants::integer * seconds) FILTER (WHERE breakout), 0)
        AS breakout_seconds,
    coalesce(max(participants) FILTER (WHERE NOT breakout), 0) AS largest_session
FROM meter.sample
GROUP BY time_bucket('1 minute', ts), tenant_id
WITH NO DATA;

CREATE MATERIALIZED VIEW meter.usage_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', bucket) AS bucket,
    tenant_id,
    sum(participant_seconds)::bigint AS participant_seconds,
    sum(voice_seconds)::bigint AS voice_seconds,
    sum(video_seconds)::bigint AS video_seconds,
    sum(listener_seconds)::bigint AS listener_seconds,
    sum(dialin_seconds)::bigint AS dialin_seconds,
    sum(session_seconds)::bigint AS session_seconds,
    sum(filled_seconds)::bigint AS filled_seconds,
    sum(breakout_seconds)::bigint AS breakout_seconds,
    max(largest_session) AS largest_session,
    max(ARRAY[participant_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_participants,
    max(ARRAY[session_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_sessions
FROM meter.usage_1m
GROUP BY time_bucket('${hour}', bucket), tenant_id
WITH NO DATA;

CREATE MATERIALIZED VIEW meter.session_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', ts) AS bucket,
    tenant_id,
    server_id,
    session_id,
    breakout,
    sum(participants::integer * seconds) AS participant_seconds,
    sum(voice::integer * seconds) AS voice_seconds,
    sum(video::integer * seconds) AS video_seconds,
    sum(dialins::integer * seconds) AS dialin_seconds,
    sum(seconds) AS session_seconds,
    coalesce(sum(seconds) FILTER (WHERE filled), 0) AS filled_seconds,
    max(participants) AS max_participants
FROM meter.sample
GROUP BY
    time_bucket('${hour}', ts), tenant_id, server_id, session_id, breakout
WITH NO DATA;

CREATE MATERIALIZED VIEW meter.server_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', ts) AS bucket,
    server_id,
    count(*) AS polls,
    count(*) FILTER (WHERE ok) AS ok_polls,
    coalesce(sum(seconds) FILTER (WHERE ok), 0) AS covered_seconds,
    coalesce(sum(participants * seconds), 0) AS participant_seconds,
    coalesce(sum(sessions * seconds), 0) AS session_seconds,
    max(participants) AS max_participants,
    max(sessions) AS max_sessions,
    coalesce(sum(latency_ms) FILTER (WHERE ok), 0) AS latency_ms,
    max(latency_ms) FILTER (WHERE ok) AS max_latency_ms,
    sum(skipped) AS skipped
FROM meter.poll
GROUP BY time_bucket('${hour}', ts), server_id
WITH NO DATA;
