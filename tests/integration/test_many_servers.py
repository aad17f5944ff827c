"""A thousand servers, a tenth of which hang: the others are polled in their tick, in every tick."""

import asyncio
import gc
import resource
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from collector.bbb import BbbClients, Reply
from collector.errors import RequestTimeoutError
from collector.metering.pipeline import Pipeline
from collector.model import Answer, Meeting, PollResult
from collector.settings import Settings
from collector.simulator.plan import epoch_ms
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller
from tests.support.fake_servers import SECRET, serving, signed
from tests.support.settings import make_server, make_settings
from tests.support.virtual_time import VirtualLoop

START = datetime(2026, 2, 2, 8, tzinfo=UTC)
INTERVAL_S = 30
# As the daemon has it: an interval less a second.
DEADLINE_S = INTERVAL_S - 1.0
TIMEOUT_S = 10.0
SERVERS = 1_000
NAMES = [f"bbb{n:03}" for n in range(SERVERS)]
# The first ones asked in the first tick, when nobody knows yet that they hang: the worst case.
HUNG = set(NAMES[: SERVERS // 10])
LONG_S = 60.0
MANY_FILES = 4 * SERVERS
ANSWER = (
    b"<response><returncode>SUCCESS</returncode><meetings><meeting><meetingID>r</meetingID>"
    b"<internalMeetingID>i-1770000000000</internalMeetingID><createTime>1770000000000</createTime>"
    b"<participantCount>3</participantCount></meeting></meetings></response>"
)
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER)


class Sink:
    """Counts what would be stored, and tells when all healthy servers have been."""

    def __init__(self, settings: Settings) -> None:
        """Take results through a pipeline."""
        self.pipeline = Pipeline(settings)
        self.rows: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.complete = asyncio.Event()

    def begin(self) -> None:
        """Count from zero, for a new tick."""
        self.rows.clear()
        self.outcomes.clear()
        self.complete.clear()

    def put(self, result: PollResult) -> None:
        """Count one result's rows."""
        batch = self.pipeline.process(result)
        self.rows.update(
            polls=len(batch.polls), sessions=len(batch.sessions), samples=len(batch.samples)
        )
        self.outcomes[result.outcome] += 1
        if self.outcomes["ok"] == SERVERS - len(HUNG):
            self.complete.set()


# -- real HTTP ---------------------------------------------------------------------------------


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Let the process have as many sockets as the test needs, on both sides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MANY_FILES:
        if hard != resource.RLIM_INFINITY and hard < MANY_FILES:
            pytest.skip(f"needs {MANY_FILES} open files, the machine allows {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (MANY_FILES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class FakeFleet(asyncio.Protocol):
    """A connection to one of the servers, told by the Host header; those that hang say nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request, which comes in one piece."""
        host = data.partition(b"Host: ")[2].partition(b".")[0].decode()
        if host not in HUNG:
            self._transport.write(RESPONSE)


@pytest.mark.usefixtures("_many_files")
@pytest.mark.parametrize("concurrency", [200, 50])
async def test_those_that_hang_hold_up_no_other(
    monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """In the first tick as in later ones, 900 are done while the 100 still hang.

    That holds for fewer slots than servers that hang, too. As no clock may fail a test, the 100
    hang for as long as the test lasts, and their timeout is a minute.
    """
    for variable in ("http_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)

    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(FakeFleet, "127.0.0.1", 0, backlog=SERVERS)
    port = listener.sockets[0].getsockname()[1]
    servers = [
        make_server(name, url=f"http://{name}.test:{port}/bigbluebutton", timeout_s=LONG_S)
        for name in NAMES
    ]
    async with listener, BbbClients() as clients:
        made = clients.make(servers, "getMeetings", parse_meetings, max_body_bytes=1 << 20)
        poller = Poller(made, concurrency)
        sink = Sink(make_settings(server=servers))
        for tick in range(3):
            sink.begin()
            ts = START + timedelta(seconds=tick * INTERVAL_S)
            task = asyncio.create_task(poller.poll(ts, 2 * LONG_S, sink.put))
            await asyncio.wait_for(sink.complete.wait(), LONG_S)
            assert sink.outcomes == {"ok": 900}
            poller.cut(0)
            await task
            assert sink.outcomes == {"ok": 900, "deadline": 100}
            assert sink.rows == {
                "polls": 1000,
                "samples": 900,
                "sessions": 900 if tick == 0 else 0,
            }


@pytest.mark.usefixtures("_no_proxy")
async def test_tenants_of_a_load_balancer_share_its_connections() -> None:
    """All are polled in each tick, over as many connections as the setting allows."""
    settings = make_settings(connections_per_host=4)
    outcomes: Counter[str] = Counter()
    async with serving(signed) as balancer, BbbClients() as clients:
        url = f"http://127.0.0.1:{balancer.port}/bigbluebutton"
        tenants = [make_server(f"t{n}", url=url, secret=SecretStr(SECRET)) for n in range(50)]
        poller = Poller(
            clients.make(tenants, "getMeetings", parse_meetings, max_body_bytes=1 << 20),
            settings.concurrent_requests,
            settings.connections_per_host,
        )
        for _ in range(2):
            await poller.poll(START, LONG_S, lambda result: outcomes.update([result.outcome]))
    assert outcomes == {"ok": 100}
    assert balancer.connections == 4


# -- an hour -----------------------------------------------------------------------------------


class FakeServer:
    """A server in this process: three meetings, each for ten ticks; or it hangs."""

    def __init__(self, name: str, number: int) -> None:
        """Be the server `name`."""
        self.host = self._name = name
        self._latency_s = 0.05 + number % 10 / 20
        self._asked = number

    async def ask(self) -> Reply[Answer]:
        """Answer, or hang until the timeout."""
        if self._name in HUNG:
            await asyncio.sleep(TIMEOUT_S)
            raise RequestTimeoutError
        await asyncio.sleep(self._latency_s)
        self._asked += 1
        answer = Answer(tuple(self._meeting(room) for room in range(3)))
        return Reply(answer, clock_skew_s=0.2, tls_expires_at=None)

    def _meeting(self, room: int) -> Meeting:
        run = (self._asked + 3 * room) // 10
        return Meeting(
            internal_id=f"{self._name}-{room}-{run}",
            external_id=f"{self._name}-{room}",
            created_ms=epoch_ms(START),
            participants=self._asked % 30,
            voice=1,
            video=1,
            listeners=0,
            dialins=0,
            breakout=False,
            parent_internal_id=None,
            recording=False,
            metadata={},
        )


def resident() -> int:
    """Return the bytes that this process has in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def test_an_hour_leaves_the_memory_as_it_was() -> None:
    """120 ticks on a virtual clock: each has all its results, and memory does not grow."""
    settings = make_settings(server=[make_server(name) for name in NAMES])
    clients: Mapping[str, FakeServer] = {
        name: FakeServer(name, number) for number, name in enumerate(NAMES)
    }
    held_blocks: dict[int, int] = {}
    resident_bytes: dict[int, int] = {}

    async def hour() -> None:
        loop = asyncio.get_running_loop()
        poller = Poller(clients, settings.concurrent_requests)
        sink = Sink(settings)
        for tick in range(1, 121):
            sink.begin()
            begin_s = loop.time()
            ts = START + timedelta(seconds=tick * INTERVAL_S)
            task = asyncio.create_task(poller.poll(ts, DEADLINE_S, sink.put))
            await sink.complete.wait()
            # Nobody waited for a server that hangs, nor for one in front of it.
            assert loop.time() - begin_s < TIMEOUT_S / 2
            await task
            assert sink.outcomes == {"ok": 900, "timeout": 100}
            assert (sink.rows["polls"], sink.rows["samples"]) == (1000, 2700)
            assert loop.time() - begin_s < DEADLINE_S
            if tick in {20, 120}:
                gc.collect()
                held_blocks[tick] = sys.getallocatedblocks()
                resident_bytes[tick] = resident()
            await asyncio.sleep(begin_s + INTERVAL_S - loop.time())
        assert loop.time() == pytest.approx(120 * INTERVAL_S)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(hour())
    assert held_blocks[120] < held_blocks[20] * 1.02
    assert resident_bytes[120] < resident_bytes[20] * 1.1
