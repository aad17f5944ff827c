"""Polls a fleet for one tick, with limited concurrency and a deadline. Each server has a result."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Protocol

import structlog

from collector.bbb import Reply
from collector.errors import PollError
from collector.model import NO_ANSWER, Answer, PollResult
from collector.outcomes import Outcome

log = structlog.get_logger(__name__)

_NO_REPLY = Reply(NO_ANSWER, clock_skew_s=None, tls_expires_at=None)

# Seconds after which a request gives its slot to another one, and continues without a slot.
PATIENCE_S = 1.0
# Requests per slot that can continue without a slot. Each needs a socket and little else.
_SLOW_PER_SLOT = 2
# Maximum number of servers that one log line names.
_MAX_NAMED = 20


class Client(Protocol):
    """Asks one server for its meetings: a `BbbClient`, or a fake in tests."""

    async def ask(self) -> Reply[Answer]:
        """Return the server's meetings. Raises PollError if there is no valid answer."""


class _Slots:
    """Limits concurrent requests, so that healthy servers do not wait for servers that hang."""

    def __init__(self, count: int) -> None:
        """Start with `count` slots, and room for `_SLOW_PER_SLOT` slow requests per slot."""
        self.free = asyncio.Semaphore(count)
        self.room = _SLOW_PER_SLOT * count

    async def take(self) -> "_Slot":
        """Wait until a slot is free, and return it."""
        await self.free.acquire()
        return _Slot(self)


class _Slot:
    """A slot in use. After `PATIENCE_S` it is released, as soon as a slow request has room."""

    def __init__(self, slots: _Slots) -> None:
        """Use a slot of `slots` that was acquired."""
        self._slots = slots
        self._slow = False
        self._wait()

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PATIENCE_S, self._step_aside)

    def _step_aside(self) -> None:
        if self._slots.room:
            self._slots.room -= 1
            self._slow = True
            self._slots.free.release()
        else:
            self._wait()

    def release(self, _: object) -> None:
        """Release the slot, or the room of a slow request, as the request is done."""
        self._timer.cancel()
        if self._slow:
            self._slots.room += 1
        else:
            self._slots.free.release()


class Poller:
    """Asks every server once per tick. Servers whose last poll failed come last."""

    def __init__(self, clients: Mapping[str, Client], concurrency: int) -> None:
        """Use `clients`, by server name, with `concurrency` requests at once plus slow ones."""
        self._clients = clients
        self._slots = _Slots(concurrency)
        self._failing: set[str] = set()
        self._timeout: asyncio.Timeout | None = None

    async def poll(
        self,
        ts: datetime,
        deadline_s: float,
        deliver: Callable[[PollResult], None],
        servers: Iterable[str] | None = None,
    ) -> None:
        """Poll `servers` (default: all) for the tick `ts`; call `deliver` with each result at once.

        After `deadline_s` seconds, the remaining servers are delivered as failed (`deadline`).
        """
        started = time.monotonic()
        names = list(self._clients if servers is None else servers)
        waiting = set(names)
        asked = set[str]()

        async def one(name: str) -> None:
            asked.add(name)
            result = await self._ask(name, ts)
            waiting.discard(name)
            (self._failing.discard if result.ok else self._failing.add)(name)
            deliver(result)

        try:
            async with asyncio.timeout(deadline_s) as self._timeout, asyncio.TaskGroup() as group:
                for name in sorted(names, key=self._failing.__contains__):
                    slot = await self._slots.take()
                    group.create_task(one(name)).add_done_callback(slot.release)
        except TimeoutError:
            log.warning(
                "tick_deadline",
                tick=ts.isoformat(),
                without_answer=len(waiting),
                servers=sorted(waiting)[:_MAX_NAMED],
            )
        finally:
            self._timeout = None
        latency_ms = round((time.monotonic() - started) * 1000)
        for name in sorted(waiting):
            deliver(PollResult(name, ts, ok=False, latency_ms=latency_ms, outcome=Outcome.DEADLINE))
        # A server that got no slot has not failed, so it need not come last in the next tick.
        self._failing |= waiting & asked

    def cut(self, grace_s: float) -> None:
        """End the running tick, if there is one, within `grace_s` seconds."""
        if self._timeout is not None:
            when = asyncio.get_running_loop().time() + grace_s
            self._timeout.reschedule(min(when, self._timeout.when() or when))

    async def _ask(self, name: str, ts: datetime) -> PollResult:
        started = time.monotonic()
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
            latency_ms=round((time.monotonic() - started) * 1000),
            outcome=Outcome.PARTIAL if reply.value.partial else outcome,
            answer=reply.value,
            clock_skew_s=reply.clock_skew_s,
            tls_expires_at=reply.tls_expires_at,
        )
