"""A panel as it is shown, and words that the figures of several panels share."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from grafana.replay.board import Screen
from tests.grafana.truth import (
    Rows,
    Truth,
    ms,
    widened,
)
from tests.support.short_past import (
    Session,
)

BOUNDS = (1, 2, 3, 6, 11, 21, 51, 101, 201)
LATENCIES = (0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)


@dataclass
class View:
    """A panel as it is shown: the raw range, the widened one, the step and what is chosen."""

    truth: Truth
    screen: Screen
    step: timedelta
    title: str

    @property
    def since(self) -> float:
        """The beginning of the time range, as Grafana sends it."""
        return self.screen.shown.since.timestamp()

    @property
    def until(self) -> float:
        """Its end."""
        return self.screen.shown.until.timestamp()

    @property
    def edges(self) -> tuple[int, int]:
        """The range of the figures."""
        now = self.truth.now
        return widened(self.since, now), widened(self.until, now, is_end=True)

    def chosen(self, name: str) -> str:
        """Return the value of a variable that has one value."""
        value = self.screen.chosen[name].value
        assert isinstance(value, str)
        return value

    def hours(self) -> list[tuple[int, int]]:
        """Return the steps, of at least an hour each."""
        step = max(self.step, timedelta(hours=1))
        return list(self.truth.steps(self.since, self.until, step))

    def session(self) -> Session:
        """Return the chosen session."""
        number = int(self.chosen("session"))
        return next(s for s in self.truth.past.sessions if s.number == number)

    def sessions(self) -> list[Session]:
        """Return the sessions of the chosen room that were on, the newest first."""
        return on(self.truth, *self.edges, room=self.chosen("room"))


def on(
    truth: Truth, lo: float, hi: float, *, room: str | None = None, server: str | None = None
) -> list[Session]:
    """Return the sessions that were on in [lo, hi), the newest first."""
    found = [
        s
        for s in truth.past.sessions
        if s.begin < hi
        and (truth.past.open(s) or s.seen_until > lo)
        and truth.kept(s)
        and room in {None, s.room}
        and server in {None, s.server}
    ]
    return sorted(found, key=lambda s: -s.begin)


def wide(cells: Mapping[tuple[int, str], Any]) -> Rows:
    """Return the rows of series that a text names: None where a series has no value."""
    names = {name for _, name in cells}
    return [
        {"Time": ms(ts)} | {name: cells.get((ts, name)) for name in names}
        for ts in sorted({ts for ts, _ in cells})
    ]


def bound(value: int, bounds: tuple[int, ...]) -> str:
    """Return the lower bound of the class of a value, as a text."""
    return str(max(bound for bound in bounds if bound <= value))
