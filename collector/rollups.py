"""The rollups of the database: what each is made from, how wide, when refreshed.

Migration, policies, jobs, verification and the docs read this table, or are tested against it. What
a rollup computes stands in `schema/migrations`, and once more, by other queries, in
`collector/verify/recount.py`.
"""

from dataclasses import dataclass
from datetime import timedelta

from collector.model import LATER_COUNTS


@dataclass(frozen=True, slots=True)
class Grain:
    """The width of a rollup's buckets, and what its refresh policy follows from that.

    `width` is the longest that a bucket can be. A bucket is refreshed when it has been over for
    `delay`; the policy runs `every` so often.
    """

    width: timedelta
    delay: timedelta
    every: timedelta


MINUTE = Grain(timedelta(minutes=1), timedelta(minutes=1), timedelta(minutes=1))
HOUR = Grain(timedelta(hours=1), timedelta(hours=1), timedelta(minutes=10))
# A day has 25 hours when the clocks go back.
DAY = Grain(timedelta(hours=25), timedelta(days=1), timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Rollup:
    """A continuous aggregate `meter.<name>`.

    `source` is the table or rollup that it is made from. `min_source_days` is for how many days
    that must be kept at least: the refresh runs late when everything stood still for a weekend, a
    session changes until it has ended, and a refresh that reaches behind what is kept would delete
    the rollup's rows. `kept_as` names the rollup whose settings hold for this one too; None where
    it has settings of its own.
    """

    name: str
    source: str
    grain: Grain
    min_source_days: int
    kept_as: str | None = None


# By name, each after its source: in this order they are refreshed.
ROLLUPS = {
    rollup.name: rollup
    for rollup in (
        Rollup("usage_1m", "sample", MINUTE, 3),
        Rollup("session_1h", "sample", HOUR, 3),
        Rollup("server_1h", "poll", HOUR, 3),
        Rollup("poll_1h", "poll", HOUR, 3),
        Rollup("usage_1h", "usage_1m", HOUR, 4),
        Rollup("fleet_1m", "usage_1m", MINUTE, 4),
        Rollup("fleet_1h", "fleet_1m", HOUR, 4),
        Rollup("usage_1d", "usage_1h", DAY, 5),
        Rollup("server_1d", "server_1h", DAY, 5),
        Rollup("session_1d", "session", DAY, 9),
        Rollup("start_1h", "session", HOUR, 9),
        *(Rollup(f"{count}_1h", "sample", HOUR, 3, kept_as="usage_1h") for count in LATER_COUNTS),
        *(
            Rollup(f"{count}_1d", f"{count}_1h", DAY, 5, kept_as="usage_1d")
            for count in LATER_COUNTS
        ),
    )
}
