"""Tenants of one load balancer that answers slowly, in virtual time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from collector.bbb import Reply
from collector.errors import RequestTimeoutError
from collector.model import Answer, PollResult
from collector.sources.polling.poller import Poller
from tests.support.settings import make_settings
from tests.support.virtual_time import VirtualLoop

START = datetime(2026, 2, 2, 8, tzinfo=UTC)
INTERVAL_S = 30
# As in the daemon: an interval minus one second.
DEADLINE_S = INTERVAL_S - 1.0
TIMEOUT_S = 10.0
HANGS = 3600.0
SETTINGS = make_settings()
PER_HOST = SETTINGS.connections_per_host


class FakeBalancer:
    """Counts the requests that it has at once."""

    def __init__(self, host: str = "lb.example.org:443") -> None:
        """Begin without requests."""
        self.host = host
        self.running = self.most = 0


class FakeTenant:
    """A client of a tenant, which answers after `latency_s`."""

    def __init__(self, balancer: FakeBalancer, latency_s: float) -> None:
        """Be a tenant of `balancer`."""
        self.host = balancer.host
        self.latency_s = latency_s
        self._balancer = balancer

    async def ask(self) -> Reply[Answer]:
        """Answer, or time out."""
        self._balancer.running += 1
        self._balancer.most = max(self._balancer.most, self._balancer.running)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.sleep(self.latency_s)
        except TimeoutError as error:
            raise RequestTimeoutError from error
        finally:
            self._balancer.running -= 1
        return Reply(Answer(), clock_skew_s=None, tls_expires_at=None)


class Ticks:
    """Polls clients with the default settings, tick by tick."""

    def __init__(self, clients: Mapping[str, FakeTenant]) -> None:
        """Poll `clients`."""
        self._poller = Poller(clients, SETTINGS.concurrent_requests, PER_HOST)
        self._number = 0
        # Of the last tick: the outcomes by server, and when each result was there (s).
        self.outcomes: dict[str, str] = {}
        self.after_s: dict[str, float] = {}

    async def run(self) -> Counter[str]:
        """Run one tick; return how many servers had which outcome."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()

        def deliver(result: PollResult) -> None:
            self.outcomes[result.server] = result.outcome
            self.after_s[result.server] = loop.time() - begin_s

        self.outcomes.clear()
        self._number += 1
        ts = START + self._number * timedelta(seconds=INTERVAL_S)
        await self._poller.poll(ts, DEADLINE_S, deliver)
        assert loop.time() - begin_s <= DEADLINE_S + 0.001
        await asyncio.sleep(begin_s + INTERVAL_S - loop.time())
        return Counter(self.outcomes.values())


def tenants(number: int, latency_s: float) -> tuple[FakeBalancer, dict[str, FakeTenant]]:
    """Return a balancer, and its tenants by name."""
    balancer = FakeBalancer()
    return balancer, {f"t{n:04}": FakeTenant(balancer, latency_s) for n in range(number)}


def virtually(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `work` in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(work())


@pytest.mark.parametrize(("number", "latency_s"), [(100, 2.0), (1000, 0.2)])
def test_all_tenants_are_polled_in_each_tick(number: int, latency_s: float) -> None:
    """With the default settings: who waits for a connection longer than `timeout_s` does not fail.

    The balancer never has more requests than the settings allow.
    """
    balancer, clients = tenants(number, latency_s)

    async def work() -> None:
        ticks = Ticks(clients)
        for _ in range(3):
            assert await ticks.run() == {"ok": number}
        assert max(ticks.after_s.values()) > TIMEOUT_S

    virtually(work)
    assert balancer.most == PER_HOST


def test_nobody_starves_if_ticks_are_too_short_for_all() -> None:
    """1,000 tenants at 2 s need 125 s: each one is polled in every fifth tick at the latest.

    None of them has a `timeout`. The log says how many were not asked, and which setting helps.
    """
    _, clients = tenants(1000, 2.0)
    polled: dict[str, list[int]] = {name: [0] for name in clients}

    async def work() -> None:
        ticks = Ticks(clients)
        for tick in range(1, 31):
            outcomes = await ticks.run()
            # 14 times 16 are done; 16 were asked one second before the end.
            assert outcomes == {"ok": 224, "deadline": 16, "not_asked": 760}
            for name, outcome in ticks.outcomes.items():
                if outcome == "ok":
                    polled[name].append(tick)

    with capture_logs() as logs:
        virtually(work)
    gaps = {b - a for at in polled.values() for a, b in zip(at, [*at[1:], 31], strict=True)}
    assert max(gaps) == 5
    said = {key: logs[0][key] for key in ("event", "without_answer", "not_asked", "setting")}
    assert said == {
        "event": "tick_deadline",
        "without_answer": 16,
        "not_asked": 760,
        "setting": "connections_per_host",
    }


def test_other_servers_do_not_wait_for_the_balancer() -> None:
    """Its tenants that wait take no place among all requests."""
    _, clients = tenants(1000, 2.0)
    others = {
        f"bbb{n}": FakeTenant(FakeBalancer(f"bbb{n}.example.org:443"), 0.1) for n in range(300)
    }

    async def work() -> None:
        ticks = Ticks({**clients, **others})
        for _ in range(3):
            await ticks.run()
            assert {ticks.outcomes[name] for name in others} == {"ok"}
            assert max(ticks.after_s[name] for name in others) < 1

    virtually(work)


@pytest.mark.parametrize(("number", "ticks_to_notice"), [(30, 1), (300, 10)])
def test_tenants_that_hang_do_not_harm_the_others(number: int, ticks_to_notice: int) -> None:
    """When each one has had its turn and timed out, all others are polled in every tick.

    In the worst case, the hung ones are asked first. Later they have their turns too, so they are
    polled again soon after they work again.
    """
    _, clients = tenants(1000, 0.2)
    hung = list(clients)[:number]
    for name in hung:
        clients[name].latency_s = HANGS

    async def work() -> None:
        ticks = Ticks(clients)
        for _ in range(ticks_to_notice):
            await ticks.run()
        asked: set[str] = set()
        for _ in range(20):
            outcomes = await ticks.run()
            assert outcomes["ok"] == 1000 - number
            asked |= {name for name in hung if ticks.outcomes[name] == "timeout"}
        assert asked == set(hung)
        for name in hung:
            clients[name].latency_s = 0.2
        assert await ticks.run() == {"ok": 1000}

    virtually(work)


def test_a_balancer_that_hangs_and_comes_back() -> None:
    """Then all of its tenants are failing, and none of them waits for the others."""
    _, clients = tenants(200, HANGS)

    async def work() -> None:
        ticks = Ticks(clients)
        for _ in range(5):
            outcomes = await ticks.run()
            assert outcomes["timeout"] == 2 * PER_HOST
            assert outcomes["ok"] == 0
        for client in clients.values():
            client.latency_s = 2.0
        assert await ticks.run() == {"ok": 200}

    virtually(work)


def test_the_setting_to_change_is_named() -> None:
    """It is the one that made servers wait. If none waited, it is `timeout_s`."""
    logs: list[Any] = []

    async def work() -> None:
        for number, requests, per_host in ((9, 2, 16), (9, 16, 2), (2, 16, 16)):
            _, clients = tenants(number, TIMEOUT_S - 1)
            with capture_logs() as seen:
                await Poller(clients, requests, per_host).poll(START, 5, lambda _: None)
            logs.extend(seen)

    virtually(work)
    settings = [(entry["setting"], entry["not_asked"]) for entry in logs]
    assert settings == [("concurrent_requests", 3), ("connections_per_host", 7), ("timeout_s", 0)]
