"""Resolves host names, and keeps working while the DNS fails for some time.

`getaddrinfo` cannot be cancelled. It blocks its thread until the system's resolver gives up, after
about half a minute. In the few threads of the event loop, a few such names would delay every
server. So each name gets its own thread here, and never more than one. If a name that was resolved
before cannot be resolved, its last address is used, as in RFC 8767.
"""

import asyncio
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

log = structlog.get_logger(__name__)

# Seconds for which an address is used without another lookup.
FRESH_S = 60.0
# Seconds for which the last address is used while the name cannot be resolved.
STALE_S = 86_400.0
# Seconds that a poll waits for a new lookup if it knows the name's last address.
PATIENCE_S = 0.5
# Maximum number of concurrent lookups, and so of threads. Further names wait.
MAX_LOOKUPS = 256

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


@dataclass(frozen=True, slots=True)
class _Found:
    """The addresses of a name with their families, and the monotonic time of the lookup (s)."""

    addresses: tuple[tuple[str, socket.AddressFamily], ...]
    at_s: float


class Resolver(AbstractResolver):
    """Resolves names for aiohttp, whose own cache must be off. Close it with the session."""

    def __init__(self) -> None:
        """Start with an empty cache."""
        self._found: dict[str, _Found] = {}
        self._lookups: dict[str, asyncio.Task[_Found]] = {}
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`, in the system's order of preference.

        `family` is the connector's, the same in every call. Raises OSError or UnicodeError if the
        name cannot be resolved, and was not resolved in the last day.
        """
        found = self._found.get(host)
        age_s = time.monotonic() - found.at_s if found else STALE_S
        if found is None or age_s > FRESH_S:
            lookup = self._lookups.get(host) or self._look_up(host, family)
            usable = found is not None and age_s < STALE_S
            await asyncio.wait({lookup}, timeout=PATIENCE_S if usable else None)
            if found is None or not usable or (lookup.done() and not lookup.exception()):
                found = lookup.result()
            else:
                log.warning("dns_stale_address", host=host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=address_family,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address, address_family in found.addresses
        ]

    async def close(self) -> None:
        """Cancel all lookups. Threads that still run end on their own."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    def _look_up(self, host: str, family: socket.AddressFamily) -> asyncio.Task[_Found]:
        """Start a lookup. It continues, and its result is cached, if the poll ends before it."""

        async def look_up() -> _Found:
            async with self._slots:
                found = await _in_thread(host, family)
            self._found[host] = found
            return found

        def done(task: asyncio.Task[_Found]) -> None:
            self._lookups.pop(host, None)
            if not task.cancelled():
                task.exception()  # marks the exception as seen, as no poll may wait for it

        task = self._lookups[host] = asyncio.create_task(look_up(), name=f"resolve {host}")
        task.add_done_callback(done)
        return task


async def _in_thread(host: str, family: socket.AddressFamily) -> _Found:
    """Call `getaddrinfo` in its own thread. The program does not wait for it when it exits."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Found] = loop.create_future()

    def tell(found: _Found | None, error: Exception | None) -> None:
        if future.done():
            return
        if found is None:
            future.set_exception(error or OSError("no address"))
        else:
            future.set_result(found)

    def call() -> None:
        found: _Found | None = None
        failure: Exception | None = None
        try:
            found = _Found(_addresses(host, family), time.monotonic())
        except Exception as error:  # noqa: BLE001 - raised in the task that waits for the lookup
            failure = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, found, failure)

    threading.Thread(target=call, name=f"resolve {host}", daemon=True).start()
    return await future


def _addresses(
    host: str, family: socket.AddressFamily
) -> tuple[tuple[str, socket.AddressFamily], ...]:
    infos = socket.getaddrinfo(
        host, None, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    # Numeric addresses. A link-local IPv6 address keeps its interface.
    return tuple((socket.getnameinfo(info[4], _NUMERIC)[0], info[0]) for info in infos)
