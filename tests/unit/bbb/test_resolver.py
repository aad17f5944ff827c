"""Names and brown-outs of the DNS: `getaddrinfo` is the test's, the threads are real."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from collector.bbb import resolver
from collector.bbb.resolver import Resolver

LONG_S = 60.0


@dataclass
class Dns:
    """What `getaddrinfo` says; names in `hanging` hang until `free` is set."""

    addresses: dict[str, str] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    free: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)

    def getaddrinfo(self, host: str, *_: object, **__: object) -> list[Any]:
        """Answer as the system's does."""
        self.asked.append(host)
        if host in self.hanging:
            self.free.wait()
        if host not in self.addresses:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.addresses[host], 0))]


@pytest.fixture
def dns(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    """The DNS of a test."""
    dns = Dns()
    monkeypatch.setattr(socket, "getaddrinfo", dns.getaddrinfo)
    yield dns
    dns.free.set()


async def address(names: Resolver, host: str) -> str:
    """Return the one address of `host`."""
    (found,) = await asyncio.wait_for(names.resolve(host, 443), LONG_S)
    assert (found["hostname"], found["port"], found["family"]) == (host, 443, socket.AF_INET)
    return found["host"]


async def test_an_address_is_kept_for_a_minute(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within that time nobody is asked; after it a name that has moved is found."""
    names = Resolver()
    dns.addresses["a"] = "127.0.0.1"
    assert [await address(names, "a") for _ in range(3)] == ["127.0.0.1"] * 3
    assert dns.asked == ["a"]
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)
    dns.addresses["a"] = "127.0.0.2"
    assert await address(names, "a") == "127.0.0.2"


async def test_a_name_that_fails(dns: Dns) -> None:
    """It is an error while no address is known, and asked for again the next time."""
    names = Resolver()
    for host in ("a", "a", "x" * 64):
        with pytest.raises((OSError, UnicodeError)):
            await address(names, host)
    dns.addresses["a"] = "127.0.0.1"
    assert await address(names, "a") == "127.0.0.1"


async def test_the_last_address_outlives_a_failure(
    dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that fails keeps its last address for a day, and the log says so."""
    names = Resolver()
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)
    dns.addresses["a"] = "127.0.0.1"
    await address(names, "a")
    del dns.addresses["a"]
    with capture_logs() as logs:
        assert await address(names, "a") == "127.0.0.1"
    assert [entry["host"] for entry in logs] == ["a"]
    monkeypatch.setattr(resolver, "STALE_S", 0.0)
    with pytest.raises(OSError, match="Temporary failure"):
        await address(names, "a")


async def test_the_last_address_outlives_a_lookup_that_hangs(
    dns: Dns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it, it is not asked a second time, and what it says in the end is used."""
    names = Resolver()
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)
    monkeypatch.setattr(resolver, "PATIENCE_S", 0.01)
    dns.addresses["a"] = "127.0.0.1"
    await address(names, "a")
    dns.hanging.add("a")
    assert [await address(names, "a") for _ in range(3)] == ["127.0.0.1"] * 3
    assert dns.asked == ["a"] * 2
    dns.addresses["a"] = "127.0.0.2"
    monkeypatch.setattr(resolver, "PATIENCE_S", LONG_S)
    dns.free.set()
    assert await address(names, "a") == "127.0.0.2"


async def test_names_that_hang_hold_up_no_other(dns: Dns) -> None:
    """Many more names hang than the event loop has threads, and others are resolved meanwhile."""
    names = Resolver()
    dns.addresses["a"] = "127.0.0.1"
    dns.hanging = {f"hung{n}" for n in range(100)}
    waiting = [asyncio.create_task(names.resolve(host)) for host in sorted(dns.hanging)]
    await asyncio.sleep(0)
    assert await address(names, "a") == "127.0.0.1"
    assert not any(task.done() for task in waiting)
    # A poll that was given up leaves its lookup to the next one.
    waiting[0].cancel()
    await asyncio.wait({waiting[0]})
    again = asyncio.create_task(names.resolve("hung0"))
    dns.addresses |= dict.fromkeys(dns.hanging, "127.0.0.3")
    dns.free.set()
    found = await asyncio.gather(again, *waiting[1:])
    assert [addresses[0]["host"] for addresses in found] == ["127.0.0.3"] * 100
    assert sorted(dns.asked) == sorted({"a", *dns.hanging})


async def test_threads_are_bounded(dns: Dns, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names hang, they take no more threads than that."""
    monkeypatch.setattr(resolver, "MAX_LOOKUPS", 5)
    names = Resolver()
    before = threading.active_count()
    dns.hanging = {f"hung{n}" for n in range(20)}
    waiting = [asyncio.create_task(names.resolve(host)) for host in dns.hanging]
    await asyncio.sleep(0.05)
    assert threading.active_count() - before <= 5
    dns.free.set()
    failures = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(failure) for failure in failures} == {socket.gaierror}


async def test_closing_waits_for_no_lookup(dns: Dns) -> None:
    """At the end of the program, names that hang are left behind."""
    names = Resolver()
    dns.hanging.add("a")
    task = asyncio.create_task(names.resolve("a"))
    await asyncio.sleep(0)
    await asyncio.wait_for(names.close(), LONG_S)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_systems_own_names() -> None:
    """With the system's `getaddrinfo`, localhost is the loopback."""
    found = await Resolver().resolve("localhost", 80)
    assert {entry["host"] for entry in found} <= {"127.0.0.1", "::1"}
