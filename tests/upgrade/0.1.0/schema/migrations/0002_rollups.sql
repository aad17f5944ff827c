-- Rollups by the minute and the hour, each after those that it is computed from.
--
-- Sums add up at every level. Maxima are taken of the same series at every level: a tenant's peak
-- is the peak of its minutes over all servers, and never a sum or a maximum of servers' peaks. A
-- peak is an array {value, -minute}. Its maximum is the highest minute, the earliest of equals.
-- ${hour} is 1 hour, or 30 or 15 minutes if the days of the billing time zone do not begin on a
-- full hour of UTC.

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
        AS breakout_participant_seconds,
    coalesce(max(participants) FILTER (WHERE NOT breakout), 0) AS max_session_size
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
    sum(breakout_participant_seconds)::bigint AS breakout_participant_seconds,
    max(max_session_size) AS max_session_size,
    max(ARRAY[participant_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_minute,
    max(ARRAY[session_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_sessions_minute
FROM meter.usage_1m
GROUP BY time_bucket('${hour}', bucket), tenant_id
WITH NO DATA;

-- All tenants together. The fleet's peak is the highest minute of this sum, not a sum of peaks.
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
    sum(breakout_participant_seconds)::bigint AS breakout_participant_seconds,
    max(max_session_size) AS max_session_size
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
    sum(breakout_participant_seconds)::bigint AS breakout_participant_seconds,
    max(max_session_size) AS max_session_size,
    max(ARRAY[participant_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_minute,
    max(ARRAY[session_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_sessions_minute
FROM meter.fleet_1m
GROUP BY time_bucket('${hour}', bucket)
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
    coalesce(sum(latency_ms) FILTER (WHERE ok), 0) AS latency_ms_sum,
    max(latency_ms) FILTER (WHERE ok) AS max_latency_ms,
    sum(skipped) AS skipped
FROM meter.poll
GROUP BY time_bucket('${hour}', ts), server_id
WITH NO DATA;

-- The functions below are run once, like the rollups that use them: the rows of these rollups hold
-- classes. Replacing a function would leave the old classes in old rows. Other bounds need a new
-- rollup.

-- The latencies in ms at which a class of poll_1h begins; the first class lies below all of them.
CREATE FUNCTION meter.latency_bounds() RETURNS integer[]
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN ARRAY[10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000];

-- Polls by outcome and latency: percentiles do not add up, but the counts of classes do.
CREATE MATERIALIZED VIEW meter.poll_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', ts) AS bucket,
    server_id,
    ok,
    outcome,
    width_bucket(latency_ms, meter.latency_bounds()) AS latency_class,
    count(*) AS polls,
    sum(skipped) AS skipped
FROM meter.poll
GROUP BY
    time_bucket('${hour}', ts), server_id, ok, outcome,
    width_bucket(latency_ms, meter.latency_bounds())
WITH NO DATA;

-- The smallest numbers of participants of the classes of size that sessions are counted in.
CREATE FUNCTION meter.size_bounds() RETURNS integer[]
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN ARRAY[1, 2, 3, 6, 11, 21, 51, 101, 201];

-- The class of size, from 1 on, of a session with at most `participants` at once. A session in
-- which nobody was seen yet is in the class of those with one participant.
CREATE FUNCTION meter.size_class(participants integer) RETURNS integer
LANGUAGE sql
IMMUTABLE PARALLEL SAFE
RETURN width_bucket(greatest(participants, 1), meter.size_bounds());

-- Sessions of the whole fleet (no breakouts) by the hour in which they began, for charts. A rollup
-- can have one time column only: ended_after gives the end as a number of buckets after the start.
-- It is -1, and not NULL, while a session is open, because it is part of what identifies a row, and
-- NULLs cannot be compared.
CREATE MATERIALIZED VIEW meter.start_1h
WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
SELECT
    time_bucket('${hour}', started_at) AS bucket,
    coalesce(origin, '') AS origin,
    coalesce(
        floor(extract(EPOCH FROM ended_at) / extract(EPOCH FROM interval '${hour}'))
        - floor(extract(EPOCH FROM started_at) / extract(EPOCH FROM interval '${hour}')),
        -1
    )::integer AS ended_after,
    count(*) AS sessions,
    coalesce(sum(participant_seconds), 0)::bigint AS participant_seconds,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 1) AS sessions_of_1,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 2) AS sessions_of_2,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 3) AS sessions_of_3,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 4) AS sessions_of_6,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 5) AS sessions_of_11,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 6) AS sessions_of_21,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 7) AS sessions_of_51,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 8) AS sessions_of_101,
    count(*) FILTER (WHERE meter.size_class(max_participants) = 9) AS sessions_of_201
FROM meter.session
WHERE NOT breakout
GROUP BY
    time_bucket('${hour}', started_at), coalesce(origin, ''),
    coalesce(
        floor(extract(EPOCH FROM ended_at) / extract(EPOCH FROM interval '${hour}'))
        - floor(extract(EPOCH FROM started_at) / extract(EPOCH FROM interval '${hour}')),
        -1
    )::integer
WITH NO DATA;
