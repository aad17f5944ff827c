"""Host names to addresses, through brown-outs of the DNS.

`getaddrinfo` blocks a thread until the system's resolver gives up, after half a minute or so, and
cannot be cancelled. In the event loop's own few threads a few names that hang would make every
server wait. Here each name has a thread of its own, and no more than one; and a name that was
resolved once goes on with the address that it had, as RFC 8767 has it.
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

# For so long an address is used without another look.
FRESH_S = 60.0
# For so long it is used while the name cannot be resolved.
STALE_S = 86_400.0
# A poll waits no longer than this for news of a name whose last address is known.
PATIENCE_S = 0.5
# A fleet has to have more names that hang than this before another one waits for them.
MAX_LOOKUPS = 256

_NUMERIC = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV


@dataclass(frozen=True, slots=True)
class _Found:
    """The addresses of a name, with the family of each, and when they were looked up."""

    addresses: tuple[tuple[str, socket.AddressFamily], ...]
    at_s: float


class Resolver(AbstractResolver):
    """Resolves names for aiohttp, whose own cache must be off; close it with the session."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._found: dict[str, _Found] = {}
        self._lookups: dict[str, asyncio.Task[_Found]] = {}
        self._slots = asyncio.Semaphore(MAX_LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`, in the system's order of preference.

        `family` is the connector's, the same in every call. Raises OSError or UnicodeError where
        the name cannot be resolved, and was not within a day.
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
        """Wait for no lookup any more."""
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    def _look_up(self, host: str, family: socket.AddressFamily) -> asyncio.Task[_Found]:
        """Begin a lookup; it goes on, and is remembered, when the poll that wanted it is over."""

        async def look_up() -> _Found:
            async with self._slots:
                found = await _in_thread(host, family)
            self._found[host] = found
            return found

        def done(task: asyncio.Task[_Found]) -> None:
            self._lookups.pop(host, None)
            if not task.cancelled():
                task.exception()  # nobody else may have looked

        task = self._lookups[host] = asyncio.create_task(look_up(), name=f"resolve {host}")
        task.add_done_callback(done)
        return task


async def _in_thread(host: str, family: socket.AddressFamily) -> _Found:
    """Call `getaddrinfo` in a thread of its own, which no end of the program waits for."""
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
        except Exception as error:  # noqa: BLE001 - raised where the lookup is waited for
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
    # As numbers; a link-local IPv6 address keeps its interface.
    return tuple((socket.getnameinfo(info[4], _NUMERIC)[0], info[0]) for info in infos)
