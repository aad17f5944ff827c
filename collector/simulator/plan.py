"""The plan of a simulated fleet. It determines everything that the simulator does."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

Mark = Literal["bbblb", "scalelite", "b3scale", "greenlight", "moodle", "prefix"]
MARKS: tuple[Mark, ...] = get_args(Mark)
_TENANTS = ("acme", "law", "music", "physics", "medicine", "north", "arts", "history", "school")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_WEEKDAYS, _WEEK = 5, 7
_PEAK_HOUR = 13.0


def epoch_ms(instant: datetime) -> int:
    """Return whole milliseconds since 1970 of an aware `instant`, rounded down."""
    return (instant - EPOCH) // _MILLISECOND


def instant_of(instant_ms: int) -> datetime:
    """Return the aware UTC instant `instant_ms` milliseconds after 1970."""
    return EPOCH + timedelta(milliseconds=instant_ms)


@dataclass(frozen=True, slots=True)
class SimTenant:
    """A tenant, the mark of its meetings, and its share of the sessions relative to others."""

    name: str
    mark: Mark
    share: float = 1.0


def sim_tenants(number: int) -> tuple[SimTenant, ...]:
    """Return `number` tenants with decreasing shares. The marks are assigned in turn."""
    return tuple(
        SimTenant(
            name=_TENANTS[at] if at < len(_TENANTS) else f"tenant{at + 1}",
            mark=MARKS[at % len(MARKS)],
            share=1 / (at + 1),
        )
        for at in range(number)
    )


@dataclass(frozen=True, slots=True)
class Rhythm:
    """The rate of new sessions over the day and the week: a factor with the weekly mean 1.

    By default, the rate is constant. `amplitude`, 0 to 1, is the swing around the mean of a day,
    with its maximum at 13:00 in `time_zone`. `weekend` is the weight of a Saturday or Sunday; a
    weekday has the weight 1.
    """

    amplitude: float = 0.0
    time_zone: str = "UTC"
    weekend: float = 1.0

    @property
    def highest(self) -> float:
        """An upper bound of `at`."""
        return max(1.0, self.weekend) * (1 + self.amplitude) / self._mean

    def at(self, instant_ms: int) -> float:
        """Return the factor for the rate of new sessions at an instant (epoch ms)."""
        if not self.amplitude and self.weekend == 1:
            return 1.0
        local = instant_of(instant_ms).astimezone(ZoneInfo(self.time_zone))
        hour = local.hour + local.minute / 60
        day = self.weekend if local.weekday() >= _WEEKDAYS else 1.0
        swing = 1 + self.amplitude * math.cos((hour - _PEAK_HOUR) * math.pi / 12)
        return day * swing / self._mean

    @property
    def _mean(self) -> float:
        return (_WEEKDAYS + (_WEEK - _WEEKDAYS) * self.weekend) / _WEEK


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """A fleet and its users, from `start` until `end` (aware). After `end`, no session begins.

    `concurrent_sessions` is the mean number of concurrent main sessions. Shares are probabilities
    per session; those of voice, listeners and webcams are per person. `mean_length_s` and
    `mean_size` (persons that join at some time) are those of ordinary sessions. There are also
    sessions that nobody joins, very short sessions, large ones (> 100 persons) and huge ones
    (> 1000). The last `old_servers` servers, but never the first server, run BBB 2.x: they get the
    huge sessions, count listeners separately from voice, and write counts with a thousands
    separator. At `start`, sessions are already running.
    """

    seed: int
    start: datetime
    end: datetime
    tenants: tuple[SimTenant, ...]
    servers: int = 4
    old_servers: int = 1
    concurrent_sessions: float = 20.0
    mean_length_s: float = 3000.0
    min_length_s: float = 180.0
    max_length_s: float = 28_800.0
    empty_linger_s: float = 60.0
    unjoined_linger_s: float = 300.0
    mean_size: float = 10.0
    large_share: float = 0.005
    huge_share: float = 0.0005
    short_share: float = 0.02
    unjoined_share: float = 0.03
    ended_share: float = 0.3
    breakout_share: float = 0.05
    dialin_share: float = 0.06
    voice_share: float = 0.45
    listener_share: float = 0.4
    webcam_share: float = 0.3
    rhythm: Rhythm = Rhythm()

    def __post_init__(self) -> None:
        """Raise ValueError, with the field's name, if the plan is not valid."""
        problems = {
            "start must have a time zone": self.start.tzinfo is None,
            "end must have a time zone": self.end.tzinfo is None,
            "servers must be at least 1": self.servers < 1,
            "tenants must have at least one entry": not self.tenants,
            "tenants must differ in name": len({t.name for t in self.tenants}) < len(self.tenants),
            "tenants must have a share above 0": any(t.share <= 0 for t in self.tenants),
            "concurrent_sessions must be above 0": self.concurrent_sessions <= 0,
            "mean_size must be at least 1": self.mean_size < 1,
            "lengths must be: empty_linger_s * 2 < min_length_s < mean_length_s < max_length_s": (
                not self.empty_linger_s * 2
                < self.min_length_s
                < self.mean_length_s
                < self.max_length_s
            ),
        }
        for problem, found in problems.items():
            if found:
                raise ValueError(problem)
        if self.end <= self.start:
            msg = "end must be after start"
            raise ValueError(msg)

    @property
    def server_names(self) -> tuple[str, ...]:
        """The names of the servers: `sim01`, `sim02` and so on."""
        return tuple(f"sim{number:02}" for number in range(1, self.servers + 1))

    def is_old(self, server: int) -> bool:
        """Say whether the server with this index runs BBB 2.x."""
        return server >= max(1, self.servers - self.old_servers)

    @classmethod
    def lively(
        cls,
        *,
        seed: int,
        start: datetime,
        end: datetime,
        tenants: tuple[SimTenant, ...],
        servers: int = 4,
        concurrent_sessions: float = 24.0,
    ) -> "FleetPlan":
        """Return a plan with many short sessions, so that 80 seconds show many events."""
        return cls(
            seed=seed,
            start=start,
            end=end,
            tenants=tenants,
            servers=servers,
            concurrent_sessions=concurrent_sessions,
            mean_length_s=60,
            min_length_s=12,
            max_length_s=300,
            empty_linger_s=5,
            unjoined_linger_s=15,
            mean_size=8,
            large_share=0.02,
            huge_share=0,
            short_share=0.05,
            breakout_share=0.25,
            dialin_share=0.15,
        )
