-- Sessions of the whole fleet (no breakouts) by the hour in which they began, for charts of them.
-- Buckets are those of 0002_rollups.sql. ended_after is in buckets, -1 of a session that is on: a
-- rollup knows one time only, and no NULL among what tells its rows apart can be compared.
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
    count(*) FILTER (WHERE coalesce(max_participants, 0) < 2) AS sessions_of_1,
    count(*) FILTER (WHERE max_participants = 2) AS sessions_of_2,
    count(*) FILTER (WHERE max_participants BETWEEN 3 AND 5) AS sessions_of_3,
    count(*) FILTER (WHERE max_participants BETWEEN 6 AND 10) AS sessions_of_6,
    count(*) FILTER (WHERE max_participants BETWEEN 11 AND 20) AS sessions_of_11,
    count(*) FILTER (WHERE max_participants BETWEEN 21 AND 50) AS sessions_of_21,
    count(*) FILTER (WHERE max_participants BETWEEN 51 AND 100) AS sessions_of_51,
    count(*) FILTER (WHERE max_participants BETWEEN 101 AND 200) AS sessions_of_101,
    count(*) FILTER (WHERE max_participants > 200) AS sessions_of_201
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
