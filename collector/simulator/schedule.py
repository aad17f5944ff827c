"""When and where sessions run: their starts, rooms and servers, in a compact form.

A session here is only a few numbers. `meeting` computes the people in it when they are needed.
"""

import heapq
import math
import random
from collections.abc import Iterator
from typing import NamedTuple

from collector.simulator.plan import FleetPlan, epoch_ms

_SPREAD = 0.9  # sigma of the lognormal lengths: the longest tenth takes 2.5 times the mean
_SIZE_SPREAD = 0.7
_SHORT_S = (3.0, 20.0)  # shorter than a poll interval of 30 s
_LARGE = (120, 450)
_HUGE = (1150, 1500)
_BREAKOUT_MS = 15 * 60 * 1000
_BREAKOUT_SIZE = 4  # smaller sessions have no breakouts
_ROOMS_A_SESSION = 4  # rooms of a tenant per concurrent session


class Breakouts(NamedTuple):
    """The breakout rooms of a session: their number, begin and end (epoch ms)."""

    rooms: int
    start_ms: int
    end_ms: int


class Session(NamedTuple):
    """A main session. It is listed while start_ms <= t < end_ms; times are in epoch ms.

    The last person leaves at `last_left_ms`. `size` is the number of persons, 0 if nobody joins.
    `tenant` and `server` are indices into the plan. `room` is the number of the tenant's room.
    """

    number: int
    tenant: int
    server: int
    room: int
    start_ms: int
    last_left_ms: int
    end_ms: int
    size: int
    breakouts: Breakouts | None


class Schedule:
    """The sessions of a plan. They are made when they are needed, in the order of their start."""

    def __init__(self, plan: FleetPlan) -> None:
        """Start without sessions."""
        self.by_server: list[list[Session]] = [[] for _ in range(plan.servers)]
        self._plan = plan
        self._rng = random.Random(f"schedule/{plan.seed}")
        self._coming = self._sessions()
        self._running: list[tuple[int, int, int]] = []  # (end_ms, server, load), a heap
        self._load = [0] * plan.servers
        total = sum(tenant.share for tenant in plan.tenants)
        rooms = plan.concurrent_sessions * _ROOMS_A_SESSION / total
        # For each tenant, when each of its rooms becomes free (epoch ms).
        self._free_ms = [[0] * (1 + int(rooms * tenant.share)) for tenant in plan.tenants]
        self._next = next(self._coming, None)

    def extend(self, until_ms: int) -> None:
        """Make all sessions that start at or before `until_ms`."""
        while self._next is not None and self._next.start_ms <= until_ms:
            self.by_server[self._next.server].append(self._next)
            self._next = next(self._coming, None)

    def _sessions(self) -> Iterator[Session]:
        plan, rng = self._plan, self._rng
        shares = [tenant.share for tenant in plan.tenants]
        for number, start_ms in enumerate(self._arrivals()):
            tenant = rng.choices(range(len(shares)), shares)[0]
            length_ms, lingers, size = self._kind()
            end_ms = start_ms + length_ms
            last_left_ms = end_ms - (int(plan.empty_linger_s * 1000) if lingers else 0)
            yield Session(
                number=number,
                tenant=tenant,
                server=self._place(start_ms, end_ms, size),
                room=self._room(tenant, start_ms, end_ms),
                start_ms=start_ms,
                last_left_ms=last_left_ms,
                end_ms=end_ms,
                size=size,
                breakouts=self._breakouts(start_ms, length_ms, size),
            )

    def _arrivals(self) -> Iterator[int]:
        """Yield the starts of sessions in epoch ms: a Poisson process, thinned to the rhythm.

        It begins `max_length_s` before the plan's start, so that the fleet has its usual number of
        sessions at the start.
        """
        plan, rng = self._plan, self._rng
        ordinary = 1 - plan.short_share - plan.unjoined_share
        mean_s = (
            ordinary * plan.mean_length_s
            + plan.short_share * sum(_SHORT_S) / 2
            + plan.unjoined_share * plan.unjoined_linger_s
        )
        highest = plan.rhythm.highest
        gap_ms = 1000 * mean_s / (plan.concurrent_sessions * highest)
        at_ms = epoch_ms(plan.start) - 1000 * plan.max_length_s
        end_ms = epoch_ms(plan.end)
        while (at_ms := at_ms + rng.expovariate(1 / gap_ms)) < end_ms:
            if rng.random() * highest < plan.rhythm.at(int(at_ms)):
                yield int(at_ms)

    def _kind(self) -> tuple[int, bool, int]:
        """Return a session's length (ms), whether it stays listed while empty, and its size."""
        plan, rng = self._plan, self._rng
        kind = rng.random()
        if kind < plan.unjoined_share:
            return int(plan.unjoined_linger_s * 1000), False, 0
        if kind < plan.unjoined_share + plan.short_share:
            return int(rng.uniform(*_SHORT_S) * 1000), False, rng.randint(1, 3)
        spread_s = plan.mean_length_s - plan.min_length_s
        length_s = plan.min_length_s + rng.lognormvariate(
            math.log(spread_s) - _SPREAD**2 / 2, _SPREAD
        )
        length_ms = int(min(length_s, plan.max_length_s) * 1000)
        return length_ms, rng.random() >= plan.ended_share, self._size()

    def _size(self) -> int:
        plan, rng = self._plan, self._rng
        kind = rng.random()
        if kind < plan.huge_share:
            return rng.randint(*_HUGE)
        if kind < plan.huge_share + plan.large_share:
            return rng.randint(*_LARGE)
        mean = math.log(plan.mean_size) - _SIZE_SPREAD**2 / 2
        return max(1, round(rng.lognormvariate(mean, _SIZE_SPREAD)))

    def _breakouts(self, start_ms: int, length_ms: int, size: int) -> Breakouts | None:
        plan, rng = self._plan, self._rng
        if rng.random() >= plan.breakout_share:
            return None
        if size < _BREAKOUT_SIZE or length_ms < 3000 * plan.min_length_s:
            return None
        first_ms = start_ms + int(rng.uniform(0.25, 0.4) * length_ms)
        duration_ms = min(int(rng.uniform(0.2, 0.35) * length_ms), _BREAKOUT_MS)
        return Breakouts(rng.randint(2, min(6, size // 2)), first_ms, first_ms + duration_ms)

    def _place(self, start_ms: int, end_ms: int, size: int) -> int:
        """Return the server with the smallest load: 1 per person, plus 3 per session."""
        plan, load = self._plan, self._load
        while self._running and self._running[0][0] <= start_ms:
            _, server, weight = heapq.heappop(self._running)
            load[server] -= weight
        choice = list(range(plan.servers))
        if size >= _HUGE[0]:
            choice = [server for server in choice if plan.is_old(server)] or choice
        least = min(load[server] for server in choice)
        server = self._rng.choice([server for server in choice if load[server] == least])
        weight = size + 3
        load[server] += weight
        heapq.heappush(self._running, (end_ms, server, weight))
        return server

    def _room(self, tenant: int, start_ms: int, end_ms: int) -> int:
        """Return a free room of the tenant, or a new room if four random tries find none."""
        free_ms = self._free_ms[tenant]
        for _ in range(4):
            room = self._rng.randrange(len(free_ms))
            if free_ms[room] <= start_ms:
                free_ms[room] = end_ms
                return room
        free_ms.append(end_ms)
        return len(free_ms) - 1
