"""Decides which server is asked next. It does no I/O and reads no clock.

Servers with the same host share its connections: they can be tenants of one load balancer. The
server that has waited longest goes first, also across ticks. So no server starves if a tick is too
short for all of them.

Servers whose last poll failed may hang. They come after others that have waited equally long, and
while others wait, they get only a share of the connections and of all requests.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import NamedTuple

# While others wait, failing servers get one of this number of places, but at least one. They need
# some, as one that works again must be noticed also in a tick that is too short for all.
_FAILING_SHARE = 4
# Maximum number of slow requests for each request that counts. Each needs a socket and little else.
_SLOW_PER_REQUEST = 2


class Waiting(NamedTuple):
    """A server that waits to be asked. It is failing if its last poll failed."""

    name: str
    host: str
    failing: bool


class Queue:
    """The servers of one tick that wait to be asked, and those that are being asked.

    `held_by` is the setting that kept the next server waiting when one was last picked in vain.
    """

    def __init__(self, order: Iterable[Waiting], requests: int, per_host: int) -> None:
        """Begin with `order` waiting; the first one goes first.

        `requests` limits concurrent requests, and `per_host` those to one host.
        """
        self.held_by = ""
        # A server's place is its index here. Of two waiting servers, the lower place goes first.
        self._order = list(order)
        self._running: dict[str, Waiting] = {}
        # Heaps of places: servers whose host may have room, and by host, those that wait for room.
        # In each pair, the second heap has the failing servers.
        self._waiting: tuple[list[int], list[int]] = ([], [])
        self._parked: dict[str, tuple[list[int], list[int]]] = {}
        # Requests that are running: all but slow ones, and of these to failing servers.
        self._requests = requests
        self._taken = self._taken_by_failing = 0
        self._slow_room = _SLOW_PER_REQUEST * requests
        self._slow: set[str] = set()
        # Requests that are running, by host: all, and those to failing servers.
        self._per_host = per_host
        self._taken_of: dict[str, int] = defaultdict(int)
        self._taken_by_failing_of: dict[str, int] = defaultdict(int)
        # Healthy servers that wait, by host.
        self._healthy_of: dict[str, int] = defaultdict(int)
        healthy, failing = self._waiting
        for place, (_, host, is_failing) in enumerate(self._order):
            if is_failing:
                failing.append(place)  # in this order, a list is a heap
            else:
                healthy.append(place)
                self._healthy_of[host] += 1
        self._healthy = len(healthy)

    def pick(self) -> str | None:
        """Return the server to be asked now, None if no waiting server may be asked yet."""
        if self._taken >= self._requests:
            self.held_by = "concurrent_requests"
            return None
        place = self._first(failing=False)
        if not self._healthy or self._taken_by_failing < _share(self._requests):
            of_failing = self._first(failing=True)
            if place is None or (of_failing is not None and of_failing < place):
                place = of_failing
        if place is None:
            self.held_by = "connections_per_host"
            return None
        server = self._order[place]
        name, host, failing = server
        heappop(self._waiting[failing])
        self._running[name] = server
        self._taken += 1
        self._taken_of[host] += 1
        if failing:
            self._taken_by_failing += 1
            self._taken_by_failing_of[host] += 1
        else:
            self._healthy -= 1
            self._healthy_of[host] -= 1
        if host in self._parked:
            self._unpark(host)
        return name

    def step_aside(self, name: str) -> bool:
        """Let another request begin besides that of `name`, which is slow.

        It keeps its connection. Return False if too many slow requests are running.
        """
        if not self._slow_room:
            return False
        self._slow_room -= 1
        self._slow.add(name)
        self._taken -= 1
        self._taken_by_failing -= self._running[name].failing
        return True

    def release(self, name: str) -> None:
        """Note that the request to `name` has ended."""
        _, host, failing = self._running.pop(name)
        self._taken_of[host] -= 1
        if failing:
            self._taken_by_failing_of[host] -= 1
        if name in self._slow:
            self._slow.discard(name)
            self._slow_room += 1
        else:
            self._taken -= 1
            self._taken_by_failing -= failing
        if host in self._parked:
            self._unpark(host)

    def _first(self, *, failing: bool) -> int | None:
        """Return the lowest place of the servers that may be asked, and park those before it."""
        waiting = self._waiting[failing]
        while waiting:
            host = self._order[waiting[0]].host
            if self._has_room(host, failing=failing):
                return waiting[0]
            parked = self._parked.setdefault(host, ([], []))
            heappush(parked[failing], heappop(waiting))
        return None

    def _unpark(self, host: str) -> None:
        """Let the first parked servers of `host` wait again if it has room for them."""
        for failing, parked in enumerate(self._parked[host]):
            if parked and self._has_room(host, failing=bool(failing)):
                heappush(self._waiting[failing], heappop(parked))

    def _has_room(self, host: str, *, failing: bool) -> bool:
        """Say whether `host` has a connection for one of its healthy or failing servers."""
        if self._taken_of[host] >= self._per_host:
            return False
        if not failing or not self._healthy_of[host]:
            return True
        return self._taken_by_failing_of[host] < _share(self._per_host)


def _share(places: int) -> int:
    """Return how many of `places` failing servers get while others wait."""
    return max(1, places // _FAILING_SHARE)


class Turns:
    """The order of the servers, across ticks.

    `tick` is the number of the present tick. `last` is the tick in which a server had its last
    turn, and `failing` are the servers that failed then.
    """

    def __init__(self, hosts: Mapping[str, str], requests: int, per_host: int) -> None:
        """Begin with `hosts`, the host of each server by name; see `Queue` for the limits."""
        self._hosts = hosts
        self._requests = requests
        self._per_host = per_host
        self.tick = 0
        self.last: dict[str, int] = {}
        self.failing: set[str] = set()

    def begin(self, names: Iterable[str]) -> Queue:
        """Begin a tick in which `names` are to be asked; return them in their order."""
        self.tick += 1
        order = sorted(names, key=lambda name: (self.last.get(name, 0), name in self.failing))
        return Queue(
            (Waiting(name, self._hosts[name], name in self.failing) for name in order),
            self._requests,
            self._per_host,
        )

    def had(self, name: str, *, ok: bool) -> None:
        """Note that `name` had its turn in this tick."""
        self.last[name] = self.tick
        (self.failing.discard if ok else self.failing.add)(name)

    def remember(self, earlier: "Turns") -> None:
        """Continue where `earlier` stopped, for the servers that are still known."""
        self.tick = earlier.tick
        self.last = {n: at for n, at in earlier.last.items() if n in self._hosts}
        self.failing = earlier.failing & self._hosts.keys()
