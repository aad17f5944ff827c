"""Polls a fleet for one tick, with limited concurrency and a deadline. Each server has a result."""

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog

from collector.bbb import Reply
from collector.errors import PollError
from collector.model import NO_ANSWER, Answer, PollResult
from collector.outcomes import Outcome
from collector.sources.polling.turns import Queue, Turns

log = structlog.get_logger(__name__)

_NO_REPLY = Reply(NO_ANSWER, clock_skew_s=None, tls_expires_at=None)

# Seconds after which another request may begin besides a request, which then counts as slow.
PATIENCE_S = 1.0
# The part of a tick that a server must have had for its answer, if it counts as having had its
# turn. A server that was asked at the end of a tick too short for all goes first in the next tick.
_FAIR_PART = 0.5
# Maximum number of servers that one log line names.
_MAX_NAMED = 20


class Client(Protocol):
    """Asks one server for its meetings: a `BbbClient`, or a fake in tests."""

    @property
    def host(self) -> str:
        """Host and port to which requests are sent. Servers with the same one share its limit."""

    async def ask(self) -> Reply[Answer]:
        """Return the server's meetings. Raises PollError if there is no valid answer."""


class _Line:
    """Waits until the next server of a `Queue` may be asked. Slow requests step aside."""

    def __init__(self, queue: Queue) -> None:
        """Let the servers of `queue` wait."""
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        # When each running request began (loop time), without those that stepped aside.
        self._since_s: dict[str, float] = {}
        self._watching = False
        self._changed: asyncio.Future[None] | None = None

    async def next(self) -> str:
        """Return the server to be asked next, as soon as it may be asked."""
        while (name := self._queue.pick()) is None:
            self._changed = self._loop.create_future()
            await self._changed
        self._since_s[name] = self._loop.time()
        if not self._watching:
            self._watching = True
            self._loop.call_later(PATIENCE_S, self._watch)
        return name

    def release(self, name: str, _: object) -> None:
        """Note that the request to `name` has ended."""
        self._since_s.pop(name, None)
        self._queue.release(name)
        self._look_again()

    def _watch(self) -> None:
        """Let slow requests step aside; do so again when the next one is slow.

        One timer for all of them, because most requests are too fast to be worth one.
        """
        now_s = again_s = self._loop.time()
        for name, since_s in list(self._since_s.items()):  # the oldest first
            if since_s + PATIENCE_S > now_s:
                again_s = since_s
                break
            if not self._queue.step_aside(name):
                break
            del self._since_s[name]
            self._look_again()
        self._watching = bool(self._since_s)
        if self._watching:
            self._loop.call_at(again_s + PATIENCE_S, self._watch)

    def _look_again(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


class Poller:
    """Asks every server once per tick, in the order of `turns`: who waits longest goes first."""

    def __init__(
        self,
        clients: Mapping[str, Client],
        concurrency: int,
        connections_per_host: int = sys.maxsize,
    ) -> None:
        """Use `clients`, by server name, with `concurrency` requests at once plus slow ones.

        No host gets more than `connections_per_host` of them.
        """
        self._clients = clients
        hosts = {name: client.host for name, client in clients.items()}
        self.turns = Turns(hosts, concurrency, connections_per_host)
        self._timeout: asyncio.Timeout | None = None

    async def poll(
        self,
        ts: datetime,
        deadline_s: float,
        deliver: Callable[[PollResult], None],
        servers: Iterable[str] | None = None,
    ) -> None:
        """Poll `servers` (default: all) for the tick `ts`; call `deliver` with each result at once.

        After `deadline_s` seconds, the remaining servers are delivered as failed: with `deadline`
        if they were asked, else with `not_asked`.
        """
        now_s = asyncio.get_running_loop().time
        names = list(self._clients if servers is None else servers)
        queue = self.turns.begin(names)
        line = _Line(queue)
        waiting = set(names)
        asked_s: dict[str, float] = {}

        async def one(name: str) -> None:
            result = await self._ask(name, ts)
            waiting.discard(name)
            self.turns.had(name, ok=result.ok)
            deliver(result)

        try:
            async with asyncio.timeout(deadline_s) as self._timeout, asyncio.TaskGroup() as group:
                for _ in names:
                    name = await line.next()
                    asked_s[name] = now_s()
                    group.create_task(one(name)).add_done_callback(partial(line.release, name))
        except TimeoutError:
            pass
        finally:
            self._timeout = None
        if waiting:
            self._end(ts, deadline_s, queue.held_by, {n: asked_s.get(n) for n in waiting}, deliver)

    def _end(
        self,
        ts: datetime,
        deadline_s: float,
        held_by: str,
        waiting: Mapping[str, float | None],
        deliver: Callable[[PollResult], None],
    ) -> None:
        """Deliver a failed result for each server that has none when the tick ends.

        `waiting` has the loop's time at which each of them was asked, None if it was not.
        """
        end_s = asyncio.get_running_loop().time()
        had_s = {name: end_s - (end_s if at_s is None else at_s) for name, at_s in waiting.items()}
        fair = {name for name in waiting if had_s[name] >= _FAIR_PART * deadline_s}
        not_asked = sum(at_s is None for at_s in waiting.values())
        log.warning(
            "tick_deadline",
            tick=ts.isoformat(),
            without_answer=len(waiting) - not_asked,
            not_asked=not_asked,
            setting="timeout_s" if len(fair) == len(waiting) else held_by or "timeout_s",
            servers=sorted(waiting)[:_MAX_NAMED],
        )
        for name in sorted(waiting):
            if name in fair:
                self.turns.had(name, ok=False)
            outcome = Outcome.NOT_ASKED if waiting[name] is None else Outcome.DEADLINE
            latency_ms = round(had_s[name] * 1000)
            deliver(PollResult(name, ts, ok=False, latency_ms=latency_ms, outcome=outcome))

    def cut(self, grace_s: float) -> None:
        """End the running tick, if there is one, within `grace_s` seconds."""
        if self._timeout is not None:
            when = asyncio.get_running_loop().time() + grace_s
            self._timeout.reschedule(min(when, self._timeout.when() or when))

    async def _ask(self, name: str, ts: datetime) -> PollResult:
        now_s = asyncio.get_running_loop().time
        started_s = now_s()
        outcome: str = Outcome.OK
        reply = _NO_REPLY
        try:
            reply = await self._clients[name].ask()
        except PollError as failure:
            outcome = failure.full_outcome
            log.info("poll_failed", server=name, outcome=outcome)
        except Exception as failure:  # noqa: BLE001 - a failure must not stop other polls
            outcome = Outcome.INTERNAL
            # Log only the type, as the message could contain what the server sent.
            log.error("poll_crashed", server=name, error=type(failure).__name__)
        return PollResult(
            server=name,
            ts=ts,
            ok=reply is not _NO_REPLY,
            latency_ms=round((now_s() - started_s) * 1000),
            outcome=Outcome.PARTIAL if reply.value.partial else outcome,
            answer=reply.value,
            clock_skew_s=reply.clock_skew_s,
            tls_expires_at=reply.tls_expires_at,
        )
