"""One tick over a fleet: every server has one result, whatever the others do."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from collector.bbb import Reply
from collector.errors import ApiError, DnsError
from collector.model import Answer, PollResult
from collector.sources.polling import poller as poller_module
from collector.sources.polling.poller import Poller

TICK = datetime(2026, 2, 2, 8, tzinfo=UTC)
LONG_S = 60.0


class FakeClient:
    """A client whose answer a test writes."""

    def __init__(
        self,
        work: Callable[[], Awaitable[Answer]],
        clock_skew_s: float | None = None,
        host: str = "bbb.example.org:443",
    ) -> None:
        """Answer with what `work` returns."""
        self.host = host
        self._work = work
        self._clock_skew_s = clock_skew_s

    async def ask(self) -> Reply[Answer]:
        """Answer."""
        return Reply(await self._work(), self._clock_skew_s, tls_expires_at=None)


async def answer(skipped: int = 0, *doubtful: str) -> Answer:
    """Answer at once, with no meetings."""
    return Answer((), skipped, doubtful=frozenset(doubtful))


async def fail(error: Exception) -> Answer:
    """Fail with `error`."""
    raise error


async def hang() -> Answer:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def poll(
    clients: dict[str, Callable[[], Awaitable[Answer]]],
    *,
    concurrency: int = 10,
    deadline_s: float = LONG_S,
) -> dict[str, PollResult]:
    """Poll once and return the results by server; a second result for a server fails."""
    results: dict[str, PollResult] = {}

    def deliver(result: PollResult) -> None:
        assert result.server not in results
        results[result.server] = result

    poller = Poller({name: FakeClient(work) for name, work in clients.items()}, concurrency)
    await poller.poll(TICK, deadline_s, deliver)
    return results


async def test_every_server_has_one_result() -> None:
    """Success, typed failure and a bug of ours all become a result of that server's tick."""
    results = await poll(
        {
            "good": answer,
            "partial": lambda: answer(skipped=2),
            "doubtful": lambda: answer(0, "id"),
            "dns": lambda: fail(DnsError()),
            "api": lambda: fail(ApiError("checksumError")),
            "bug": lambda: fail(ZeroDivisionError("a secret")),
        }
    )
    assert {name: (r.ok, r.outcome, r.answer.skipped) for name, r in results.items()} == {
        "good": (True, "ok", 0),
        "partial": (True, "partial", 2),
        "doubtful": (True, "partial", 0),
        "dns": (False, "dns", 0),
        "api": (False, "api_error:checksumError", 0),
        "bug": (False, "internal", 0),
    }
    assert {r.ts for r in results.values()} == {TICK}


async def test_an_unexpected_error_says_nothing_of_what_was_sent() -> None:
    """The log names server and class; a message could hold names or secrets."""
    with capture_logs() as logs:
        await poll({"bug": lambda: fail(ZeroDivisionError("a secret"))})
    assert [entry["error"] for entry in logs] == ["ZeroDivisionError"]
    assert "a secret" not in str(logs)


async def test_a_hung_server_is_cut_at_the_deadline_and_recorded() -> None:
    """At the deadline, what was asked fails with `deadline`; the others were delivered before."""
    results = await poll({"good": answer, "hung": hang}, deadline_s=0.05)
    assert results["good"].ok
    assert (results["hung"].ok, results["hung"].outcome) == (False, "deadline")


async def test_results_are_delivered_as_they_come() -> None:
    """A server that answers is delivered while another still hangs."""
    delivered: list[str] = []
    some = asyncio.Event()

    def deliver(result: PollResult) -> None:
        delivered.append(result.server)
        some.set()

    poller = Poller({"hung": FakeClient(hang), "good": FakeClient(answer)}, 10)
    task = asyncio.create_task(poller.poll(TICK, LONG_S, deliver))
    await asyncio.wait_for(some.wait(), LONG_S)
    assert delivered == ["good"]
    poller.cut(0)
    await task
    assert delivered == ["good", "hung"]


async def test_hung_servers_come_last_in_the_next_tick() -> None:
    """With fewer slots than hung servers, healthy ones are still polled from the second tick on."""
    clients = {"hung1": FakeClient(hang), "hung2": FakeClient(hang), "good": FakeClient(answer)}
    poller = Poller(clients, concurrency=2)
    first: list[PollResult] = []
    await poller.poll(TICK, 0.05, first.append)
    outcomes = {"hung1": "deadline", "hung2": "deadline", "good": "not_asked"}
    assert {r.server: r.outcome for r in first} == outcomes
    second: list[PollResult] = []
    await poller.poll(TICK, 0.05, second.append)
    assert {r.server: r.ok for r in second} == {"hung1": False, "hung2": False, "good": True}


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_concurrency_is_bounded(concurrency: int) -> None:
    """No more requests are under way than the settings allow."""
    running = highest = 0

    async def count() -> Answer:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        await asyncio.sleep(0)
        running -= 1
        return Answer()

    results = await poll({f"s{n}": count for n in range(20)}, concurrency=concurrency)
    assert len(results) == 20
    assert highest == concurrency


async def test_slow_requests_step_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first tick already, those that hang hold no slot that others wait for."""
    monkeypatch.setattr(poller_module, "PATIENCE_S", 0.001)
    clients = {"hung1": FakeClient(hang), "hung2": FakeClient(hang), "good": FakeClient(answer)}
    delivered: list[str] = []
    some = asyncio.Event()

    def deliver(result: PollResult) -> None:
        delivered.append(result.server)
        some.set()

    poller = Poller(clients, concurrency=1)
    task = asyncio.create_task(poller.poll(TICK, LONG_S, deliver))
    await asyncio.wait_for(some.wait(), LONG_S)
    assert delivered == ["good"]
    poller.cut(0)
    await task
    assert delivered == ["good", "hung1", "hung2"]


async def test_requests_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many hang, there are three requests a slot at most, two of them slow."""
    monkeypatch.setattr(poller_module, "PATIENCE_S", 0.001)
    running = highest = 0

    async def count() -> Answer:
        nonlocal running, highest
        running += 1
        highest = max(highest, running)
        if running == 6:
            full.set()
        try:
            return await hang()
        finally:
            running -= 1

    poller = Poller({f"s{n}": FakeClient(count) for n in range(20)}, concurrency=2)
    for _ in range(2):  # the first tick gives back all that it took
        full = asyncio.Event()
        task = asyncio.create_task(poller.poll(TICK, LONG_S, lambda _: None))
        await asyncio.wait_for(full.wait(), LONG_S)
        await asyncio.sleep(0.05)
        poller.cut(0)
        await task
        assert (highest, running) == (6, 0)


async def test_the_servers_clock_comes_with_the_result() -> None:
    """How far a server's clock is ahead goes from its answer to its result."""
    poller = Poller(
        {"skewed": FakeClient(answer, 3600.0), "dns": FakeClient(lambda: fail(DnsError()))}, 2
    )
    results: dict[str, PollResult] = {}
    await poller.poll(TICK, LONG_S, lambda result: results.update({result.server: result}))
    assert {name: r.clock_skew_s for name, r in results.items()} == {"skewed": 3600.0, "dns": None}


async def test_cancelling_a_tick_is_not_swallowed() -> None:
    """When the daemon is cancelled, the tick goes with it."""
    poller = Poller({"hung": FakeClient(hang)}, 1)
    task = asyncio.create_task(poller.poll(TICK, LONG_S, lambda _: None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
