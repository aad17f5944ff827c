"""The plan of a run: which fault happens when. One seed decides all of it before the run."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# The length of an outage of the database: twelve polls of each server.
_LONG_AWAY_S = 62.0
_AWAY_SHARE = 0.26
# The share of the run in which faults can begin; in the rest, none begins.
_LAST_SHARE = 0.92


class Kind(NamedTuple):
    """A kind of fault: its minimum and maximum duration in seconds, and what it is."""

    least_s: float
    most_s: float
    what: str


NETWORK = {
    "reset": Kind(0, 0, "every connection to the database is reset"),
    "close": Kind(0, 0, "every connection to the database is closed normally"),
    "cut_up": Kind(0, 0, "each connection is cut in the middle of a message to the database"),
    "cut_down": Kind(0, 0, "each connection is cut in the middle of a message from the database"),
    "slow": Kind(3, 12, "each chunk to and from the database takes 0.3 s longer"),
    "narrow": Kind(3, 12, "only 20 kB/s to and from the database"),
    "refuse": Kind(2, 10, "the database's port is closed"),
    "lose": Kind(3, 12, "bytes to and from the database vanish, connections are half-open"),
    "lose_up": Kind(3, 12, "bytes to the database vanish"),
    "lose_down": Kind(3, 12, "the database works, but its answers vanish"),
    "isolated": Kind(16, 25, "only one collector is cut off from the database"),
}
PROCESS = {
    "kill": Kind(0.3, 9, "a collector is killed (kill -9) and started again after a while"),
    "terminate": Kind(0.3, 4, "a collector is stopped (SIGTERM) and started again"),
    "suspend": Kind(3, 18, "a collector is frozen (SIGSTOP, SIGCONT), like a suspended machine"),
}
ENGINE = {
    "engine_kill": Kind(0.5, 5, "the engine is killed (kill -9) and started again on its data"),
    "away": Kind(_LONG_AWAY_S, _LONG_AWAY_S, "the database is away for a long stretch"),
}
DISK = {"disk_full": Kind(0, 0, "the disk of one collector's spool is full")}
SERVERS = {
    "refuse": Kind(4, 20, "closes each connection at once"),
    "hang": Kind(4, 20, "never answers"),
    "http_502": Kind(4, 20, "answers with nginx's error page"),
    "reset": Kind(4, 20, "cuts the answer in the middle"),
    "garbage": Kind(4, 20, "answers with something that is not XML"),
    "checksum": Kind(4, 20, "says that the checksum is wrong"),
    "slow": Kind(4, 20, "takes 3 s longer"),
    "hidden": Kind(4, 20, "does not list one meeting"),
    "unread": Kind(4, 20, "lists one meeting whose number of participants cannot be read"),
    "twice": Kind(4, 20, "lists one meeting again, with one participant more"),
    "repeated": Kind(4, 20, "lists one meeting again, the same"),
    "unjoined": Kind(4, 20, "leaves out whether somebody has joined"),
    "huge": Kind(4, 20, "lists 40 more meetings of 32,767 participants each"),
}
EVERY = {
    **PROCESS,
    **ENGINE,
    **DISK,
    **NETWORK,
    **{f"server_{kind}": fault for kind, fault in SERVERS.items()},
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that begins `at_s` seconds after the start and lasts `for_s` seconds."""

    at_s: float
    for_s: float
    kind: str
    target: str

    @property
    def until_s(self) -> float:
        """The end of the fault, in seconds after the start."""
        return self.at_s + self.for_s


@dataclass(frozen=True, slots=True)
class Plan:
    """Tracks of faults: within a track they follow each other, and all tracks run in parallel."""

    engine: list[Fault]
    disk: list[Fault]
    network: dict[str, list[Fault]]
    process: dict[str, list[Fault]]
    servers: list[Fault]


def make_plan(seed: int, seconds: float, collectors: Sequence[str], servers: Sequence[str]) -> Plan:
    """Return the faults of a run: the same arguments give the same faults.

    The database is away for a quarter of the time, in one stretch. During a part of it, the last
    collector's disk is full. That collector is not killed then, so that its dropped polls are
    recorded.
    """
    rng = random.Random(f"chaos/{seed}")
    last_s = seconds * _LAST_SHARE
    away_s = max(_AWAY_SHARE * seconds, _LONG_AWAY_S if seconds >= 4 * _LONG_AWAY_S else 0)
    away = Fault(rng.uniform(0.3, 0.5) * seconds, away_s, "away", "database")
    disk = Fault(away.at_s + 0.2 * away_s, 0.5 * away_s, "disk_full", collectors[-1])
    # A short run also has several faults.
    pause_s = min(25.0, seconds / 4)
    engine_kill = {"engine_kill": ENGINE["engine_kill"]}
    kills = [
        fault
        for fault in _track(rng, last_s, engine_kill, ["database"], pause_s)
        if fault.until_s + 2 < away.at_s or fault.at_s > away.until_s + 6
    ]
    return Plan(
        engine=sorted([*kills, away], key=lambda fault: fault.at_s),
        disk=[disk],
        network={
            name: list(_track(rng, last_s, NETWORK, [name], pause_s / 3)) for name in collectors
        },
        process={
            name: [
                fault
                for fault in _track(rng, last_s, PROCESS, [name], pause_s)
                # A collector that starts without disk and database cannot know its database.
                if name != disk.target or fault.until_s + 5 < disk.at_s or fault.at_s > disk.until_s
            ]
            for name in collectors
        },
        servers=list(_track(rng, last_s, SERVERS, servers, 3, overlap=True)),
    )


def _track(
    rng: random.Random,
    last_s: float,
    kinds: dict[str, Kind],
    targets: Sequence[str],
    pause_s: float,
    *,
    overlap: bool = False,
) -> Iterator[Fault]:
    """Yield faults with a mean pause of `pause_s` seconds; the kinds take turns."""
    at_s = 0.0
    deck: list[str] = []
    while True:
        at_s += rng.uniform(0.3, 1.7) * pause_s
        if not deck:
            deck = rng.sample(sorted(kinds), len(kinds))
        kind = deck.pop()
        for_s = rng.uniform(kinds[kind].least_s, kinds[kind].most_s)
        if at_s + (0 if overlap else for_s) > last_s:
            return
        yield Fault(at_s, min(for_s, last_s - at_s), kind, rng.choice(targets))
        if not overlap:
            at_s += for_s
