"""The rollups of the database: their sources, widths of buckets, and refresh times.

Migration, policies, jobs, verification and the docs read this table, or are tested against it. The
SQL of a rollup is in `schema/migrations`. For verification, `collector/verify/recount.py` has other
queries with the same result.
"""

from dataclasses import dataclass
from datetime import timedelta

from collector.model import LATER_COUNTS


@dataclass(frozen=True, slots=True)
class Grain:
    """The width of a rollup's buckets, and the times of its refresh policy.

    `width` is the maximum width of a bucket. A bucket is refreshed once it has been over for
    `delay`. `every` is the interval between two runs of the policy.
    """

    width: timedelta
    delay: timedelta
    every: timedelta


MINUTE = Grain(timedelta(minutes=1), timedelta(minutes=1), timedelta(minutes=1))
HOUR = Grain(timedelta(hours=1), timedelta(hours=1), timedelta(minutes=10))
# When the clocks go back, a day has 25 hours.
DAY = Grain(timedelta(hours=25), timedelta(days=1), timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Rollup:
    """A continuous aggregate `meter.<name>`.

    `source` is the table or rollup that it is computed from. `min_source_days` is the minimum
    number of days that the source must be kept. A refresh can run late, as after an outage over a
    weekend, and a session changes until it has ended. A refresh of time that the source no longer
    holds would delete the rollup's rows. `kept_as` names the rollup whose settings
    hold for this one too; None if it has settings of its own.
    """

    name: str
    source: str
    grain: Grain
    min_source_days: int
    kept_as: str | None = None


# By name. Each rollup comes after its source, so they are refreshed in this order.
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
        Rollup("unseen_1h", "unseen", HOUR, 3, kept_as="server_1h"),
        Rollup("unseen_1d", "unseen_1h", DAY, 5, kept_as="server_1d"),
    )
}
# Tables that are kept as long as another one, each with that one. They have no settings.
TABLES_KEPT_AS = {"unseen": "poll"}


def setting_of(relation: str) -> str:
    """Return the key in the settings that says how long the table or rollup `relation` is kept."""
    rollup = ROLLUPS.get(relation)
    return (rollup and rollup.kept_as) or TABLES_KEPT_AS.get(relation, relation)
