"""The SQL that recomputes every rollup, from the raw rows or from another rollup."""

from collections.abc import Iterator
from dataclasses import dataclass

from collector.model import LATER_COUNTS
from collector.rollups import DAY, HOUR, MINUTE, ROLLUPS, Grain

# The end of a bucket.
_END = {
    MINUTE: "bucket + interval '1 minute'",
    HOUR: "bucket + interval '${hour}'",
    DAY: "(bucket AT TIME ZONE ${billing_timezone} + interval '1 day')"
    " AT TIME ZONE ${billing_timezone}",
}

_HOUR = "public.time_bucket('${hour}', %s)"
_DAY = "public.time_bucket('1 day', %s, ${billing_timezone})"

_USAGE_SUMS = (
    "participant_seconds",
    "voice_seconds",
    "video_seconds",
    "listener_seconds",
    "dialin_seconds",
    "session_seconds",
    "filled_seconds",
    "breakout_participant_seconds",
)
_USAGE_PEAKS = ("max_session_size", "peak_minute", "peak_sessions_minute")
_SERVER_SUMS = (
    "polls",
    "ok_polls",
    "covered_seconds",
    "participant_seconds",
    "session_seconds",
    "latency_ms_sum",
    "skipped",
)
_SERVER_PEAKS = ("max_participants", "max_sessions", "max_latency_ms")

# Each query computes the rows of a rollup in [$1, $2). On purpose it is written differently from
# the rollup itself.
_MINUTES = """
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
_PEAKS_OF_MINUTES = """,
    max(ARRAY[participant_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_minute,
    max(ARRAY[session_seconds, -extract(EPOCH FROM bucket)::bigint]) AS peak_sessions_minute"""
_PEAKS_OF_HOURS = """,
    max(peak_minute) AS peak_minute,
    max(peak_sessions_minute) AS peak_sessions_minute"""
_SESSION_HOURS = f"""
    SELECT
        {_HOUR % "ts"} AS bucket,
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
_SESSION_DAYS = f"""
    SELECT
        {_DAY % "started_at"} AS bucket,
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


def _usage(bucket: str, rows: str, peaks: str) -> str:
    sums = ", ".join(f"sum({column})::bigint AS {column}" for column in _USAGE_SUMS)
    return f"""
        SELECT {bucket % "bucket"} AS bucket, tenant_id, {sums},
            max(max_session_size) AS max_session_size {peaks}
        FROM ({rows}) AS part
        GROUP BY 1, 2
    """  # noqa: S608


def _kept(rollup: str) -> str:
    return f"SELECT * FROM meter.{rollup} WHERE bucket >= $1 AND bucket < $2"  # noqa: S608


def _polls(bucket: str) -> str:
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


def _poll_hours() -> str:
    sums = ", ".join(f"sum({column})::bigint AS {column}" for column in _SERVER_SUMS)
    peaks = ", ".join(f"max({column}) AS {column}" for column in _SERVER_PEAKS)
    return f"""
        SELECT {_DAY % "bucket"} AS bucket, server_id, {sums}, {peaks}
        FROM ({_kept("server_1h")}) AS part
        GROUP BY 1, 2
    """  # noqa: S608


_FLEET_SUMS = tuple(column for column in _USAGE_SUMS if column != "listener_seconds")


def _fleet(bucket: str, rows: str, peaks: str) -> str:
    """Return a query that adds up all tenants first, and then finds the highest minute."""
    sums = ", ".join(f"sum({column})::bigint AS {column}" for column in _FLEET_SUMS)
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
_SIZES = (1, 2, 3, 6, 11, 21, 51, 101, 201)
_SIZE_COUNTS = tuple(f"sessions_of_{size}" for size in _SIZES)
_COUNTS = ", ".join(
    f"count(CASE WHEN size = {n} THEN 1 END) AS {column}"
    for n, column in enumerate(_SIZE_COUNTS, 1)
)
_STARTS = f"""
    SELECT
        {_HOUR % "started_at"} AS bucket,
        coalesce(origin, '') AS origin,
        coalesce(
            (extract(EPOCH FROM {_HOUR % "ended_at"} - {_HOUR % "started_at"})
            / extract(EPOCH FROM interval '${{hour}}'))::integer,
            -1
        ) AS ended_after,
        count(*) AS sessions,
        coalesce(sum(participant_seconds), 0)::bigint AS participant_seconds,
        {_COUNTS}
    FROM (
        SELECT *, (
            SELECT count(*) FROM unnest(ARRAY{list(_SIZES)}) AS bound
            WHERE greatest(max_participants, 1) >= bound
        ) AS size
        FROM meter.session
    ) AS sized
    WHERE NOT breakout AND started_at >= $1 AND started_at < $2
    GROUP BY 1, 2, 3
"""  # noqa: S608
_POLL_OUTCOMES = f"""
    SELECT
        {_HOUR % "ts"} AS bucket,
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


@dataclass(frozen=True, slots=True)
class Recount:
    """A rollup, and how to recompute it.

    `keys` identify a row within a bucket, and `figures` are compared. `anew` has a pair of relation
    and query for each relation that the rollup can be computed from. The nearest to the raw rows
    is first; the next one is used for time that the first no longer holds.
    The last digits of `inexact` figures depend on the order of summing.
    """

    name: str
    keys: tuple[str, ...]
    figures: tuple[str, ...]
    anew: tuple[tuple[str, str], ...]
    inexact: frozenset[str] = frozenset()

    @property
    def grain(self) -> Grain:
        """The rollup's grain: the width of its buckets, and when its policy refreshes them."""
        return ROLLUPS[self.name].grain

    def query(self, anew: str) -> str:
        """Return the query that compares the rollup with the query `anew`, for `examine`."""
        wrong = ["e.bucket IS NULL OR f.bucket IS NULL"]
        for figure in self.figures:
            if figure in self.inexact:
                wrong.append(f"abs(e.{figure} - f.{figure}) > 1e-9 * (1 + abs(e.{figure}))")
            else:
                wrong.append(f"e.{figure} IS DISTINCT FROM f.{figure}")
        keys = ", ".join(("bucket", *self.keys))
        return f"""
            WITH e AS ({anew}), f AS ({_kept(self.name)}), pair AS (
                SELECT
                    {keys}, {" OR ".join(wrong)} AS differs,
                    CASE WHEN e.bucket IS NOT NULL THEN to_jsonb(e) END AS expected,
                    CASE WHEN f.bucket IS NOT NULL THEN to_jsonb(f) END AS found
                FROM e FULL JOIN f USING ({keys})
            )
            SELECT
                bucket AS at,
                CASE
                    WHEN NOT differs THEN NULL
                    WHEN EXISTS (
                        SELECT FROM unnest($3::timestamptz[], $4::timestamptz[]) AS l (lo, hi)
                        WHERE l.lo < {_END[self.grain]} AND l.hi > bucket
                    ) THEN 'explained'
                    ELSE 'differs'
                END AS kind,
                CASE WHEN differs THEN
                    jsonb_build_object('expected', expected, 'found', found)
                END AS detail
            FROM pair
        """  # noqa: S608


def _count(bucket: str, count: str) -> str:
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


def _count_hours(rollup: str) -> str:
    return f"""
        SELECT
            {_DAY % "bucket"} AS bucket, tenant_id,
            sum(count_seconds)::bigint AS count_seconds,
            sum(known_seconds)::bigint AS known_seconds
        FROM ({_kept(rollup)}) AS hours
        GROUP BY 1, 2
    """  # noqa: S608


def _later_counts() -> Iterator[Recount]:
    """Yield the rollups of the counts that came later."""
    keys, figures = ("tenant_id",), ("count_seconds", "known_seconds")
    for count in LATER_COUNTS:
        yield Recount(f"{count}_1h", keys, figures, (("sample", _count(_HOUR, count)),))
        hours = (f"{count}_1h", _count_hours(f"{count}_1h"))
        yield Recount(f"{count}_1d", keys, figures, (("sample", _count(_DAY, count)), hours))


def _unseen(bucket: str) -> str:
    return f"""
        SELECT
            {bucket % "ts"} AS bucket, server_id, coalesce(tenant_id, 0) AS tenant_id,
            sum(sessions::bigint * seconds)::bigint AS session_seconds
        FROM meter.unseen
        WHERE ts >= $1 AND ts < $2
        GROUP BY 1, 2, 3
    """  # noqa: S608


RECOUNTS = (
    Recount(
        "usage_1m",
        ("tenant_id",),
        (*_USAGE_SUMS, "max_session_size"),
        (("sample", _MINUTES),),
    ),
    Recount(
        "usage_1h",
        ("tenant_id",),
        (*_USAGE_SUMS, *_USAGE_PEAKS),
        (
            ("sample", _usage(_HOUR, _MINUTES, _PEAKS_OF_MINUTES)),
            ("usage_1m", _usage(_HOUR, _kept("usage_1m"), _PEAKS_OF_MINUTES)),
        ),
    ),
    Recount(
        "usage_1d",
        ("tenant_id",),
        (*_USAGE_SUMS, *_USAGE_PEAKS),
        (
            ("sample", _usage(_DAY, _MINUTES, _PEAKS_OF_MINUTES)),
            ("usage_1h", _usage(_DAY, _kept("usage_1h"), _PEAKS_OF_HOURS)),
        ),
    ),
    Recount(
        "session_1h",
        ("tenant_id", "server_id", "session_id", "breakout"),
        (
            "participant_seconds",
            "voice_seconds",
            "video_seconds",
            "dialin_seconds",
            "session_seconds",
            "filled_seconds",
            "max_participants",
        ),
        (("sample", _SESSION_HOURS),),
    ),
    Recount(
        "session_1d",
        ("tenant_id",),
        (
            "sessions",
            "duration_seconds",
            "max_duration_seconds",
            "mean_participants_sum",
            "max_participants",
            "large_sessions",
        ),
        (("session", _SESSION_DAYS),),
        frozenset({"duration_seconds", "mean_participants_sum"}),
    ),
    Recount(
        "start_1h",
        ("origin", "ended_after"),
        ("sessions", "participant_seconds", *_SIZE_COUNTS),
        (("session", _STARTS),),
    ),
    Recount(
        "server_1h",
        ("server_id",),
        (*_SERVER_SUMS, *_SERVER_PEAKS),
        (("poll", _polls(_HOUR)),),
    ),
    Recount(
        "server_1d",
        ("server_id",),
        (*_SERVER_SUMS, *_SERVER_PEAKS),
        (("poll", _polls(_DAY)), ("server_1h", _poll_hours())),
    ),
    Recount(
        "poll_1h",
        ("server_id", "ok", "outcome", "latency_class"),
        ("polls", "skipped"),
        (("poll", _POLL_OUTCOMES),),
    ),
    Recount(
        "fleet_1m",
        (),
        (*_FLEET_SUMS, "max_session_size"),
        (
            ("sample", _fleet("%s", _MINUTES, "")),
            ("usage_1m", _fleet("%s", _kept("usage_1m"), "")),
        ),
    ),
    Recount(
        "fleet_1h",
        (),
        (*_FLEET_SUMS, *_USAGE_PEAKS),
        (
            ("sample", _fleet(_HOUR, _MINUTES, _PEAKS_OF_MINUTES)),
            ("fleet_1m", _fleet(_HOUR, _kept("fleet_1m"), _PEAKS_OF_MINUTES)),
        ),
    ),
    *_later_counts(),
    Recount(
        "unseen_1h",
        ("server_id", "tenant_id"),
        ("session_seconds",),
        (("unseen", _unseen(_HOUR)),),
    ),
    Recount(
        "unseen_1d",
        ("server_id", "tenant_id"),
        ("session_seconds",),
        (("unseen", _unseen(_DAY)),),
    ),
)
