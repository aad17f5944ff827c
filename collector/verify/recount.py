"""How to recompute every rollup, and compare it with what is stored."""

from collections.abc import Iterator
from dataclasses import dataclass

from collector.model import LATER_COUNTS
from collector.rollups import DAY, HOUR, MINUTE, ROLLUPS, Grain
from collector.verify import queries

# The end of a bucket.
_END = {
    MINUTE: "bucket + interval '1 minute'",
    HOUR: "bucket + interval '${hour}'",
    DAY: "(bucket AT TIME ZONE ${billing_timezone} + interval '1 day')"
    " AT TIME ZONE ${billing_timezone}",
}


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

    def query(self, rows: str) -> str:
        """Return the query that compares the rollup with the query `rows`, for `examine`."""
        wrong = ["e.bucket IS NULL OR f.bucket IS NULL"]
        for figure in self.figures:
            if figure in self.inexact:
                wrong.append(f"abs(e.{figure} - f.{figure}) > 1e-9 * (1 + abs(e.{figure}))")
            else:
                wrong.append(f"e.{figure} IS DISTINCT FROM f.{figure}")
        keys = ", ".join(("bucket", *self.keys))
        return f"""
            WITH e AS ({rows}), f AS ({queries.kept(self.name)}), pair AS (
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


def _later_counts() -> Iterator[Recount]:
    """Yield the rollups of the counts that came later."""
    keys, figures = ("tenant_id",), ("count_seconds", "known_seconds")
    for count in LATER_COUNTS:
        yield Recount(
            f"{count}_1h", keys, figures, (("sample", queries.later_count(queries.HOUR, count)),)
        )
        hours = (f"{count}_1h", queries.later_count_hours(f"{count}_1h"))
        yield Recount(
            f"{count}_1d",
            keys,
            figures,
            (("sample", queries.later_count(queries.DAY, count)), hours),
        )


RECOUNTS = (
    Recount(
        "usage_1m",
        ("tenant_id",),
        (*queries.USAGE_SUMS, "max_session_size"),
        (("sample", queries.MINUTES),),
    ),
    Recount(
        "usage_1h",
        ("tenant_id",),
        (*queries.USAGE_SUMS, *queries.USAGE_PEAKS),
        (
            ("sample", queries.usage(queries.HOUR, queries.MINUTES, queries.PEAKS_OF_MINUTES)),
            (
                "usage_1m",
                queries.usage(queries.HOUR, queries.kept("usage_1m"), queries.PEAKS_OF_MINUTES),
            ),
        ),
    ),
    Recount(
        "usage_1d",
        ("tenant_id",),
        (*queries.USAGE_SUMS, *queries.USAGE_PEAKS),
        (
            ("sample", queries.usage(queries.DAY, queries.MINUTES, queries.PEAKS_OF_MINUTES)),
            (
                "usage_1h",
                queries.usage(queries.DAY, queries.kept("usage_1h"), queries.PEAKS_OF_HOURS),
            ),
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
        (("sample", queries.SESSION_HOURS),),
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
        (("session", queries.SESSION_DAYS),),
        frozenset({"duration_seconds", "mean_participants_sum"}),
    ),
    Recount(
        "start_1h",
        ("origin", "ended_after"),
        ("sessions", "participant_seconds", *queries.SIZE_COUNTS),
        (("session", queries.STARTS),),
    ),
    Recount(
        "server_1h",
        ("server_id",),
        (*queries.SERVER_SUMS, *queries.SERVER_PEAKS),
        (("poll", queries.polls(queries.HOUR)),),
    ),
    Recount(
        "server_1d",
        ("server_id",),
        (*queries.SERVER_SUMS, *queries.SERVER_PEAKS),
        (("poll", queries.polls(queries.DAY)), ("server_1h", queries.poll_hours())),
    ),
    Recount(
        "poll_1h",
        ("server_id", "ok", "outcome", "latency_class"),
        ("polls", "skipped"),
        (("poll", queries.POLL_OUTCOMES),),
    ),
    Recount(
        "fleet_1m",
        (),
        (*queries.FLEET_SUMS, "max_session_size"),
        (
            ("sample", queries.fleet("%s", queries.MINUTES, "")),
            ("usage_1m", queries.fleet("%s", queries.kept("usage_1m"), "")),
        ),
    ),
    Recount(
        "fleet_1h",
        (),
        (*queries.FLEET_SUMS, *queries.USAGE_PEAKS),
        (
            ("sample", queries.fleet(queries.HOUR, queries.MINUTES, queries.PEAKS_OF_MINUTES)),
            (
                "fleet_1m",
                queries.fleet(queries.HOUR, queries.kept("fleet_1m"), queries.PEAKS_OF_MINUTES),
            ),
        ),
    ),
    *_later_counts(),
    Recount(
        "unseen_1h",
        ("server_id", "tenant_id"),
        ("session_seconds",),
        (("unseen", queries.unseen(queries.HOUR)),),
    ),
    Recount(
        "unseen_1d",
        ("server_id", "tenant_id"),
        ("session_seconds",),
        (("unseen", queries.unseen(queries.DAY)),),
    ),
)
