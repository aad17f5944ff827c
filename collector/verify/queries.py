"""The queries that compute rollups again: from the raw rows, or from another rollup."""

HOUR = "public.time_bucket('${hour}', %s)"
DAY = "public.time_bucket('1 day', %s, ${billing_timezone})"

USAGE_SUMS = (
    "participant_seconds",
    "voice_seconds",
    "video_seconds",
    "listener_seconds",
    "dialin_seconds",
    "session_seconds",
    "filled_seconds",
    "breakout_participant_seconds",
)
USAGE_PEAKS = ("max_session_size", "peak_minute", "peak_sessions_minute")
SERVER_SUMS = (
    "polls",
    "ok_polls",
    "covered_seconds",
    "participant_seconds",
    "session_seconds",
    "latency_ms_sum",
    "skipped",
)
SERVER_PEAKS = ("max_participants", "max_sessions", "max_latency_ms")

# Each query computes the rows of a rollup in [$1, $2). On purpose it is written differently from
# the rollup itself.
MINUTES = """
    SELECT
        public.time_bucket('1 minute', ts) AS bucket,
        tenant_id,
        sum(CASE WHEN breakout THEN 0 ELSE participants::integer * seconds END)
            AS participant_seconds,
        sum(CASE WHEN breakout THEN 0 ELSE voice::integer * seconds END) AS voice_seconds,
        sum(CASE WHEN breakout THEN 0 ELSE video::integer * seconds END) AS video_seconds,
        sum(CASE WHEN breakout THEN 0 ELSE listeners::integer * seconds END) AS listener_seconds,
        sum(CASE WHEN breakout THEN 0 ELSE dialins::integer * seconds END) AS dialin_seconds,
        sum(CASE WHEN breakout THEN 0 ELSE seconds END) AS session_seconds,
        sum(CASE WHEN filled AND NOT breakout THEN seconds ELSE 0 END) AS filled_seconds,
        sum(CASE WHEN breakout THEN participants::integer * seconds ELSE 0 END)
            AS breakout_participant_seconds,
        max(CASE WHEN breakout THEN 0 ELSE participants END) AS max_session_size
    FROM meter.sample
    WHERE ts >= $1 AND ts < $2
    GROUP BY 1, 2
"""
PEAKS_OF_MINUTES = """,
    max(ARRAY[participant_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_minute,
    max(ARRAY[session_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_sessions_minute"""
PEAKS_OF_HOURS = """,
    max(peak_minute) AS peak_minute,
    max(peak_sessions_minute) AS peak_sessions_minute"""
SESSION_HOURS = f"""
    SELECT
        {HOUR % "ts"} AS bucket,
        tenant_id, server_id, session_id, breakout,
        sum(participants::integer * seconds) AS participant_seconds,
        sum(voice::integer * seconds) AS voice_seconds,
        sum(video::integer * seconds) AS video_seconds,
        sum(dialins::integer * seconds) AS dialin_seconds,
        sum(seconds) AS session_seconds,
        sum(CASE WHEN filled THEN seconds ELSE 0 END) AS filled_seconds,
        max(participants) AS max_participants
    FROM meter.sample
    WHERE ts >= $1 AND ts < $2
    GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608 - from the constants above, here and below
SESSION_DAYS = f"""
    SELECT
        {DAY % "started_at"} AS bucket,
        tenant_id,
        count(*) AS sessions,
        coalesce(sum(duration_seconds), 0) AS duration_seconds,
        coalesce(max(duration_seconds), 0) AS max_duration_seconds,
        coalesce(sum(mean_participants), 0) AS mean_participants_sum,
        coalesce(max(max_participants), 0) AS max_participants,
        count(CASE WHEN max_participants > ${{large_session_participants}} THEN 1 END)
            AS large_sessions
    FROM meter.session
    WHERE started_at >= $1 AND started_at < $2 AND NOT breakout
    GROUP BY 1, 2
"""  # noqa: S608


def usage(bucket: str, rows: str, peaks: str) -> str:
    """Return the sums of usage by `bucket` and tenant, from `rows` of a finer grain."""
    sums = ", ".join(f"sum({column})::bigint AS {column}" for column in USAGE_SUMS)
    return f"""
        SELECT {bucket % "bucket"} AS bucket, tenant_id, {sums},
            max(max_session_size) AS max_session_size {peaks}
        FROM ({rows}) AS part
        GROUP BY 1, 2
    """  # noqa: S608


def kept(rollup: str) -> str:
    """Return the stored rows of a rollup."""
    return f"SELECT * FROM meter.{rollup} WHERE bucket >= $1 AND bucket < $2"  # noqa: S608


def polls(bucket: str) -> str:
    """Return the sums of polls by `bucket` and server."""
    return f"""
        SELECT
            {bucket % "ts"} AS bucket,
            server_id,
            count(*) AS polls,
            count(CASE WHEN ok THEN 1 END) AS ok_polls,
            sum(CASE WHEN ok THEN seconds ELSE 0 END) AS covered_seconds,
            coalesce(sum(participants::bigint * seconds), 0) AS participant_seconds,
            coalesce(sum(sessions::bigint * seconds), 0) AS session_seconds,
            sum(CASE WHEN ok THEN latency_ms ELSE 0 END) AS latency_ms_sum,
            sum(skipped) AS skipped,
            max(participants) AS max_participants,
            max(sessions) AS max_sessions,
            max(CASE WHEN ok THEN latency_ms END) AS max_latency_ms
        FROM meter.poll
        WHERE ts >= $1 AND ts < $2
        GROUP BY 1, 2
    """  # noqa: S608


def poll_hours() -> str:
    """Return the sums of server_1h by day."""
    sums = ", ".join(f"sum({column})::bigint AS {column}" for column in SERVER_SUMS)
    peaks = ", ".join(f"max({column}) AS {column}" for column in SERVER_PEAKS)
    return f"""
        SELECT {DAY % "bucket"} AS bucket, server_id, {sums}, {peaks}
        FROM ({kept("server_1h")}) AS part
        GROUP BY 1, 2
    """  # noqa: S608


FLEET_SUMS = tuple(column for column in USAGE_SUMS if column != "listener_seconds")


def fleet(bucket: str, rows: str, peaks: str) -> str:
    """Return a query that adds up all tenants first, and then finds the highest minute."""
    sums = ", ".join(f"sum({column})::bigint AS {column}" for column in FLEET_SUMS)
    minutes = f"""
        SELECT bucket, {sums}, max(max_session_size) AS max_session_size
        FROM ({rows}) AS part
        GROUP BY 1
    """  # noqa: S608
    return f"""
        SELECT {bucket % "bucket"} AS bucket, {sums},
            max(max_session_size) AS max_session_size {peaks}
        FROM ({minutes}) AS minute
        GROUP BY 1
    """  # noqa: S608


# The size classes of start_1h, each from this number of participants to just below the next one.
SIZES = (1, 2, 3, 6, 11, 21, 51, 101, 201)
SIZE_COUNTS = tuple(f"sessions_of_{size}" for size in SIZES)
COUNTS = ", ".join(
    f"count(CASE WHEN size = {n} THEN 1 END) AS {column}" for n, column in enumerate(SIZE_COUNTS, 1)
)
STARTS = f"""
    SELECT
        {HOUR % "started_at"} AS bucket,
        coalesce(origin, '') AS origin,
        coalesce(
            (extract(EPOCH FROM {HOUR % "ended_at"} - {HOUR % "started_at"})
            / extract(EPOCH FROM interval '${{hour}}'))::integer,
            -1
        ) AS ended_after,
        count(*) AS sessions,
        coalesce(sum(participant_seconds), 0)::bigint AS participant_seconds,
        {COUNTS}
    FROM (
        SELECT *, (
            SELECT count(*) FROM unnest(ARRAY{list(SIZES)}) AS bound
            WHERE greatest(max_participants, 1) >= bound
        ) AS size
        FROM meter.session
    ) AS sized
    WHERE NOT breakout AND started_at >= $1 AND started_at < $2
    GROUP BY 1, 2, 3
"""  # noqa: S608
POLL_OUTCOMES = f"""
    SELECT
        {HOUR % "ts"} AS bucket,
        server_id,
        ok,
        outcome,
        (
            SELECT count(*) FROM unnest(
                ARRAY[10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
            ) AS bound WHERE latency_ms >= bound
        ) AS latency_class,
        count(*) AS polls,
        sum(skipped) AS skipped
    FROM meter.poll
    WHERE ts >= $1 AND ts < $2
    GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608


def later_count(bucket: str, count: str) -> str:
    """Return the sums of a later count by tenant, from samples."""
    return f"""
        SELECT
            {bucket % "ts"} AS bucket, tenant_id,
            sum(CASE WHEN {count} IS NOT NULL THEN {count}::integer * seconds END)
                AS count_seconds,
            sum(CASE WHEN {count} IS NOT NULL THEN seconds ELSE 0 END) AS known_seconds
        FROM meter.sample
        WHERE ts >= $1 AND ts < $2 AND NOT breakout
        GROUP BY 1, 2
    """  # noqa: S608


def later_count_hours(rollup: str) -> str:
    """Return the sums of the hours of a later count by day."""
    return f"""
        SELECT
            {DAY % "bucket"} AS bucket, tenant_id,
            sum(count_seconds)::bigint AS count_seconds,
            sum(known_seconds)::bigint AS known_seconds
        FROM ({kept(rollup)}) AS hours
        GROUP BY 1, 2
    """  # noqa: S608


def unseen(bucket: str) -> str:
    """Return the sums of what polls did not show, by `bucket`, server and tenant."""
    return f"""
        SELECT
            {bucket % "ts"} AS bucket, server_id, coalesce(tenant_id, 0) AS tenant_id,
            sum(sessions::bigint * seconds)::bigint AS session_seconds
        FROM meter.unseen
        WHERE ts >= $1 AND ts < $2
        GROUP BY 1, 2, 3
    """  # noqa: S608
