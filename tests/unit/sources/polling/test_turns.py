"""Whose turn it is: who waits longest goes first, within limits that hung servers cannot use up."""

import heapq
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.sources.polling.turns import Queue, Turns

HOST = "lb.example.org:443"


def all_picks(queue: Queue) -> list[str]:
    """Return the servers that may be asked now, in their order."""
    return list(iter(queue.pick, None))


def turns(hosts: dict[str, str], requests: int = 200, per_host: int = 16) -> Turns:
    """Return the turns of servers with their hosts."""
    return Turns(hosts, requests, per_host)


class TestLimits:
    """How many are asked at once."""

    def test_servers_of_a_host_share_its_connections(self) -> None:
        """The others of that host wait, without a place among all requests; other hosts do not."""
        hosts = {**{f"t{n}": HOST for n in range(5)}, "bbb1": "bbb1.example.org:443"}
        queue = turns(hosts, requests=3, per_host=2).begin(hosts)
        assert all_picks(queue) == ["t0", "t1", "bbb1"]
        queue.release("bbb1")
        assert all_picks(queue) == []
        assert queue.held_by == "connections_per_host"
        queue.release("t1")
        assert all_picks(queue) == ["t2"]

    def test_all_requests_have_a_limit(self) -> None:
        """The setting is named for what waits."""
        hosts = {f"bbb{n}": f"bbb{n}.example.org:443" for n in range(3)}
        queue = turns(hosts, requests=2).begin(hosts)
        assert all_picks(queue) == ["bbb0", "bbb1"]
        assert queue.held_by == "concurrent_requests"
        queue.release("bbb0")
        assert all_picks(queue) == ["bbb2"]

    def test_slow_requests_step_aside_but_keep_their_connection(self) -> None:
        """Others begin meanwhile, but not on the same host. Three times the limit run at most."""
        hosts = {**{f"t{n}": HOST for n in range(2)}, **{f"b{n}": f"b{n}:443" for n in range(9)}}
        queue = turns(hosts, requests=1, per_host=1).begin(hosts)
        assert all_picks(queue) == ["t0"]
        assert queue.step_aside("t0")
        assert all_picks(queue) == ["b0"]
        assert queue.step_aside("b0")
        assert all_picks(queue) == ["b1"]
        assert not queue.step_aside("b1")
        queue.release("t0")
        assert all_picks(queue) == []
        assert queue.step_aside("b1")
        assert all_picks(queue) == ["t1"]


class TestFailing:
    """Servers whose last poll failed."""

    @pytest.mark.parametrize("per_host", [16, 200])
    def test_they_have_a_share_while_others_wait(self, per_host: int) -> None:
        """A quarter of all requests, and of a host's connections, also if they waited longer."""
        hosts = {f"t{n:02}": HOST for n in range(40)}
        turn = turns(hosts, requests=16, per_host=per_host)
        healthy, failing = set(list(hosts)[:20]), set(list(hosts)[20:])
        turn.begin(hosts)
        for name in failing:
            turn.had(name, ok=False)
        turn.begin(hosts)
        for name in healthy:
            turn.had(name, ok=True)
        queue = turn.begin(hosts)
        first = all_picks(queue)
        assert first[:4] == ["t20", "t21", "t22", "t23"]
        assert len(first) == 16
        assert failing & set(first) == set(first[:4])
        for name in first[4:]:
            queue.release(name)
        # The last eight healthy ones wait no longer, so the failing ones have the other places.
        second = all_picks(queue)
        assert set(second[:8]) == healthy - set(first)
        assert second[8:] == ["t24", "t25", "t26", "t27"]

    def test_they_come_after_others_that_waited_as_long(self) -> None:
        """One that hangs is asked last, if all had their turn in the last tick."""
        hosts = {"hung": HOST, "good": HOST}
        turn = turns(hosts, per_host=1)
        turn.begin(hosts)
        turn.had("hung", ok=False)
        turn.had("good", ok=True)
        assert all_picks(turn.begin(hosts)) == ["good"]
        turn.had("hung", ok=True)
        turn.had("good", ok=True)
        assert all_picks(turn.begin(hosts)) == ["hung"]


class TestAcrossTicks:
    """Who goes first in the next tick."""

    def test_who_had_no_turn_goes_first(self) -> None:
        """Also before new servers of the same age, and after a change of the settings."""
        hosts = dict.fromkeys("abcd", HOST)
        before = turns(hosts, per_host=2)
        for name in all_picks(before.begin(hosts)):
            before.had(name, ok=name != "b")
        after = turns({"a": HOST, "b": HOST, "c": HOST}, per_host=1)
        after.remember(before)
        queue = after.begin("abc")
        picked = []
        for name in iter(queue.pick, None):
            picked.append(name)
            queue.release(name)
        assert picked == ["c", "a", "b"]

    @given(
        servers=st.lists(
            st.tuples(st.sampled_from(["lb1", "lb2", "bbb"]), st.integers(1, 10), st.floats(0, 1)),
            min_size=1,
            max_size=12,
        ),
        requests=st.integers(1, 6),
        per_host=st.integers(1, 6),
        seed=st.randoms(use_true_random=False),
    )
    def test_nobody_starves(
        self,
        servers: list[tuple[str, int, float]],
        requests: int,
        per_host: int,
        seed: random.Random,
    ) -> None:
        """Ticks of 10 units that can be too short for all, however long who takes and fails.

        As the one that waits longest is always asked at the begin of a tick, each server has its
        turn within as many ticks as there are servers. The limits hold at each moment.
        """
        hosts = {f"s{n}": host for n, (host, _, _) in enumerate(servers)}
        turn = turns(hosts, requests, per_host)
        had: Counter[str] = Counter()
        for _ in range(2 * len(servers)):
            queue, now = turn.begin(hosts), 0
            running: list[tuple[int, str]] = []
            while True:
                for name in iter(queue.pick, None):
                    heapq.heappush(running, (now + servers[int(name[1:])][1], name))
                assert len(running) <= requests
                counts = Counter(hosts[name] for _, name in running)
                assert max(counts.values(), default=0) <= per_host
                if not running or running[0][0] > 10:
                    break
                now, name = heapq.heappop(running)
                had[name] += 1
                turn.had(name, ok=seed.random() >= servers[int(name[1:])][2])
                queue.release(name)
        assert min(had[name] for name in hosts) >= 2
