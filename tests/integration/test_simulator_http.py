"""The simulated fleet over HTTP, and the command that runs it."""

import asyncio
import gzip
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from lxml import etree
from pydantic import SecretStr
from yarl import URL

from collector.bbb.checksum import Algorithm, signed_url
from collector.errors import UsageError
from collector.settings.file import load_settings
from collector.simulator import Fleet, FleetPlan
from collector.simulator.command import SimulateOptions, simulate
from collector.simulator.faults import KINDS, FaultKind, parse_fault
from collector.simulator.plan import sim_tenants
from collector.simulator.render import NO_MEETINGS
from collector.simulator.server import SimulatedFleet
from tests.support.repository import ROOT

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
REAL = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = SecretStr("hush-hush")
PLAN = FleetPlan(
    seed=5, start=START, end=START + 24 * HOUR, tenants=sim_tenants(6), servers=2, old_servers=0
)


class HandClock:
    """A clock that stands until it is turned."""

    def __init__(self) -> None:
        """Begin at REAL."""
        self.present = REAL

    def now(self) -> datetime:
        """Return the present."""
        return self.present


@pytest.fixture
def clock() -> HandClock:
    """The clock of the simulated fleet."""
    return HandClock()


@pytest.fixture
async def fleet(clock: HandClock) -> AsyncIterator[SimulatedFleet]:
    """Two servers that listen, one hour into their plan."""
    async with SimulatedFleet(Fleet(PLAN), secret=SECRET, clock=clock, speed=60) as simulated:
        clock.present += timedelta(minutes=1)
        yield simulated


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that leaves bodies as they come."""
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:
        yield session


def call_url(fleet: SimulatedFleet, algorithm: Algorithm = "sha256", secret: str = "") -> URL:
    """Return the signed URL of getMeetings of sim01."""
    api = URL(fleet.urls["sim01"]) / "api/"
    used = SecretStr(secret) if secret else SECRET
    return signed_url(api, "getMeetings", used, algorithm)


async def body_of(client: aiohttp.ClientSession, url: URL | str, status: int = 200) -> bytes:
    """Return the body of an uncompressed answer with that status."""
    async with client.get(url, headers={"Accept-Encoding": "identity"}) as response:
        assert response.status == status
        assert "Content-Encoding" not in response.headers
        return await response.read()


def now_answer() -> bytes:
    """Return what sim01 says at the fixture's present."""
    return Fleet(PLAN).answer("sim01", START + HOUR)


def add_fault(fleet: SimulatedFleet, kind: FaultKind, server: str = "sim01") -> None:
    """Give a server a fault that began a minute ago and ends in a minute."""
    minute = timedelta(minutes=1)
    fleet.fault(server, kind, fleet.now() - minute, fleet.now() + minute)


class TestCalls:
    """What a sound server answers."""

    @pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512"])
    async def test_get_meetings(
        self, fleet: SimulatedFleet, client: aiohttp.ClientSession, algorithm: Algorithm
    ) -> None:
        """A signed call gets the fleet's answer of the simulated present, as text/xml."""
        url = call_url(fleet, algorithm)
        async with client.get(url, headers={"Accept-Encoding": "identity"}) as response:
            assert response.headers["Content-Type"] == "text/xml;charset=utf-8"
            body = await response.read()
        assert body == now_answer()
        assert body.count(b"<meeting>") > 3

    async def test_every_server_has_its_own_port(
        self, fleet: SimulatedFleet, client: aiohttp.ClientSession
    ) -> None:
        """`urls` names a port for each server, and each answers for itself."""
        assert list(fleet.urls) == ["sim01", "sim02"]
        api = URL(fleet.urls["sim02"]) / "api/"
        body = await body_of(client, signed_url(api, "getMeetings", SECRET, "sha256"))
        assert body == Fleet(PLAN).answer("sim02", START + HOUR) != now_answer()

    async def test_speed(
        self, fleet: SimulatedFleet, client: aiohttp.ClientSession, clock: HandClock
    ) -> None:
        """At speed 60 a minute of the clock is an hour of the fleet, anchored at its start."""
        assert fleet.now() == START + HOUR
        clock.present += timedelta(seconds=10)
        assert fleet.now() == START + HOUR + timedelta(minutes=10)
        expected = Fleet(PLAN).answer("sim01", START + HOUR + timedelta(minutes=10))
        assert await body_of(client, call_url(fleet)) == expected
        clock.present = REAL - HOUR
        assert fleet.now() == START

    async def test_gzip(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """The body is compressed for those who take gzip, whatever else they take."""
        headers = {"Accept-Encoding": "deflate, gzip"}
        async with client.get(call_url(fleet), headers=headers) as response:
            assert response.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(await response.read()) == now_answer()

    async def test_wrong_checksums(
        self, fleet: SimulatedFleet, client: aiohttp.ClientSession
    ) -> None:
        """Without the right checksum it is FAILED checksumError, with HTTP 200, and no meeting."""
        right = call_url(fleet)
        wrong = call_url(fleet, secret="other")
        for url in (right.with_query(None), wrong, URL(f"{right}&a=b", encoded=True)):
            answer = etree.fromstring(await body_of(client, url))
            assert answer.findtext("returncode") == "FAILED"
            assert answer.findtext("messageKey") == "checksumError"
            assert answer.find("meetings") is None

    async def test_other_calls(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """The API's root tells the version, other calls are unsupported, the rest is nginx's."""
        root = fleet.urls["sim01"]
        for path in ("api", "api/"):
            assert b"<version>2.0</version>" in await body_of(client, root + path)
        assert b"unsupportedRequest" in await body_of(client, f"{root}api/create?checksum=1")
        for path in ("", "apix", "../"):
            assert b"<center>nginx</center>" in await body_of(client, root + path, 404)


class TestFaults:
    """What a server with a fault answers."""

    @pytest.mark.parametrize("kind", ["refuse", "reset"])
    async def test_broken_connections(
        self, fleet: SimulatedFleet, client: aiohttp.ClientSession, kind: FaultKind
    ) -> None:
        """`refuse` closes the connection before, `reset` in the middle of the answer."""
        add_fault(fleet, kind)
        headers = {"Accept-Encoding": "identity"}
        if kind == "refuse":
            with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                await client.get(call_url(fleet), headers=headers)
            return
        async with client.get(call_url(fleet), headers=headers) as response:
            assert response.status == 200
            with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
                await response.read()

    async def test_hang(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """`hang` answers nothing, and does not keep the fleet from closing."""
        add_fault(fleet, "hang")
        waiting = asyncio.ensure_future(client.get(call_url(fleet)))
        await asyncio.wait([waiting], timeout=0.3)
        assert not waiting.done()
        await fleet.__aexit__()
        with pytest.raises(aiohttp.ClientError):
            await waiting

    async def test_http_502(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """`http_502` is nginx's page."""
        add_fault(fleet, "http_502")
        body = await body_of(client, call_url(fleet), 502)
        assert b"<title>502 Bad Gateway</title>" in body

    async def test_garbage(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """`garbage` is 200 and no XML."""
        add_fault(fleet, "garbage")
        with pytest.raises(etree.XMLSyntaxError):
            etree.fromstring(await body_of(client, call_url(fleet)))

    async def test_checksum(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """`checksum` refuses the right checksum."""
        add_fault(fleet, "checksum")
        assert b"checksumError" in await body_of(client, call_url(fleet))

    async def test_malformed(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """`malformed` adds one element with a space in its name, the rest is as ever."""
        add_fault(fleet, "malformed")
        body = await body_of(client, call_url(fleet))
        with pytest.raises(etree.XMLSyntaxError):
            etree.fromstring(body)
        broken = b"<1st attr>v</1st attr>\n"
        whole = body.replace(b"<customdata>\n" + broken + b"</customdata>\n", b"")
        assert whole.replace(broken, b"") == now_answer()

    async def test_empty(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """`empty` hides the running meetings."""
        add_fault(fleet, "empty")
        assert await body_of(client, call_url(fleet)) == NO_MEETINGS

    async def test_slow(self, fleet: SimulatedFleet, client: aiohttp.ClientSession) -> None:
        """`slow` takes its time and answers all the same."""
        add_fault(fleet, "slow")
        loop = asyncio.get_running_loop()
        asked_s = loop.time()
        assert await body_of(client, call_url(fleet)) == now_answer()
        assert loop.time() - asked_s > 2.9

    async def test_skew(
        self, fleet: SimulatedFleet, client: aiohttp.ClientSession, clock: HandClock
    ) -> None:
        """`skew` moves what is created meanwhile 5 minutes ahead, in ids too, and for good."""
        fleet.fault("sim01", "skew", START, START + HOUR)
        clock.present += timedelta(seconds=1)
        true = etree.fromstring(Fleet(PLAN).answer("sim01", fleet.now()))
        seen = etree.fromstring(await body_of(client, call_url(fleet)))
        moved = 0
        for one, two in zip(true.iter("meeting"), seen.iter("meeting"), strict=True):
            true_ms, seen_ms = (int(m.findtext("createTime", "")) for m in (one, two))
            created = datetime.fromtimestamp(true_ms / 1000, UTC)
            during = START <= created < START + HOUR
            assert seen_ms - true_ms == (300_000 if during else 0)
            assert two.findtext("internalMeetingID", "").endswith(f"-{seen_ms}")
            moved += during
        assert 0 < moved < len(true.findall("meetings/meeting"))

    async def test_faults_end_and_spare_the_others(
        self, fleet: SimulatedFleet, client: aiohttp.ClientSession, clock: HandClock
    ) -> None:
        """A fault is over at its end, touches only its server, and leaves the truth alone."""
        before = fleet.fleet.truth(START, START + HOUR)
        add_fault(fleet, "http_502")
        add_fault(fleet, "empty", "sim02")
        await body_of(client, call_url(fleet), 502)
        clock.present += timedelta(seconds=1)
        assert b"<meeting>" in await body_of(client, call_url(fleet))
        assert fleet.fleet.truth(START, START + HOUR) == before

    def test_parse_fault(self) -> None:
        """`sim02:http_502:20-40` is seconds of simulated time; nonsense is told in words."""
        fault = parse_fault("sim02:http_502:20-40.5", PLAN.server_names, START)
        assert (fault.server, fault.kind) == ("sim02", "http_502")
        assert fault.since == START + timedelta(seconds=20)
        assert not fault.active(START + timedelta(seconds=40.5))
        for nonsense, told in (
            ("sim02", "SERVER:KIND:FROM-UNTIL"),
            ("sim09:hang:1-2", "no server 'sim09'"),
            ("sim01:fire:1-2", f"no kind 'fire'; use one of {KINDS[0]}"),
            ("sim01:hang:2-2", "must end after"),
        ):
            with pytest.raises(UsageError, match=told):
                parse_fault(nonsense, PLAN.server_names, START)


class TestCommand:
    """`simulate`."""

    async def test_settings_and_truth(self, tmp_path: Path, client: aiohttp.ClientSession) -> None:
        """The collector can load the settings and poll with them; the truth is written at last."""
        config, truth = tmp_path / "bbbmeter.toml", tmp_path / "truth.json"
        statuses: list[str | None] = []

        async def poll() -> None:
            for server in load_settings(config).server:
                url = signed_url(server.api_url, "getMeetings", server.read_secret(), "sha256")
                answer = etree.fromstring(await body_of(client, url))
                statuses.append(answer.findtext("returncode"))
            os.kill(os.getpid(), signal.SIGTERM)

        polls: list[asyncio.Task[None]] = []
        options = SimulateOptions(
            servers=3,
            tenants=7,
            config=config,
            truth=truth,
            fault=("sim02:checksum:0-600",),
            duration_s=30,
        )
        await simulate(options, ready=lambda _: polls.append(asyncio.create_task(poll())))
        await asyncio.gather(*polls)
        assert statuses == ["SUCCESS", "FAILED", "SUCCESS"]
        settings = load_settings(config)
        assert [tenant.name for tenant in settings.tenant] == [t.name for t in sim_tenants(7)]
        assert {rule.type for rule in settings.attribution.rules} >= {"metadata", "parent"}
        assert stat.S_IMODE(config.stat().st_mode) == 0o600
        assert set(json.loads(truth.read_text())["tenants"]) == {t.name for t in sim_tenants(7)}

    @pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
    async def test_signals(self, tmp_path: Path, stop: signal.Signals) -> None:
        """As a process it ends well on either signal, and writes the truth first."""
        secret, truth = tmp_path / "secret", tmp_path / "truth.json"
        secret.write_text("hush-hush\n")
        code = (
            "import asyncio, sys; from pathlib import Path\n"
            "from collector.simulator.command import SimulateOptions, simulate\n"
            f"options = SimulateOptions(secret_file=Path({str(secret)!r}), lively=True, "
            f"truth=Path({str(truth)!r}))\n"
            "asyncio.run(simulate(options, ready=lambda f: print(*f.urls, flush=True)))\n"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code),
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"sim01 sim02 sim03 sim04\n"
        process.send_signal(stop)
        assert await process.wait() == 0
        assert json.loads(truth.read_text())["sessions"]

    async def test_secrets(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: aiohttp.ClientSession
    ) -> None:
        """A secret from a file or the environment is used, and named in the settings, not told."""
        file, config = tmp_path / "secret", tmp_path / "bbbmeter.toml"
        file.write_text(SECRET.get_secret_value() + "\n")
        monkeypatch.setenv("SIMULATED_SECRET", SECRET.get_secret_value())
        bodies: list[asyncio.Task[bytes]] = []
        for options in (
            SimulateOptions(secret_file=file, config=config, duration_s=0.5),
            SimulateOptions(secret_env="SIMULATED_SECRET", config=config, duration_s=0.5),
        ):
            await simulate(
                options,
                ready=lambda f: bodies.append(asyncio.create_task(body_of(client, call_url(f)))),
            )
            assert SECRET.get_secret_value() not in config.read_text()
            assert load_settings(config).server[0].read_secret() == SECRET
        assert all(b"SUCCESS" in body for body in await asyncio.gather(*bodies))

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"servers": 0}, "servers: must be 1 to 1000"),
            ({"tenants": 0}, "tenants: must be 1 to 500"),
            ({"sessions": 0}, "sessions: must be above 0"),
            ({"speed": 0}, "speed: must be above 0"),
            ({"latency_s": -1}, "latency: must be 0 seconds or more"),
            ({"duration_s": 0}, "duration: must be above 0"),
            ({"port": 65_534}, "port: must be 0, or"),
            ({"secret_file": Path("/x"), "secret_env": "X"}, "use only one of them"),
            ({"secret_file": Path("/nonexistent/x")}, r"/nonexistent/x \(secret-file\)"),
            ({"secret_env": "SIMULATED_NOTHING"}, r"\(secret-env\) is empty or not set"),
            ({"config": None}, "needs one of secret-file, secret-env and config"),
            ({"config": Path("/nonexistent/x")}, "/nonexistent/x cannot be written"),
            ({"fault": ("sim01:fire:1-2",)}, "no kind 'fire'"),
            ({"view": ("lb=sim01,sim09",)}, "'lb=sim01,sim09' is not NAME=SERVER"),
            ({"view": ("sim01=sim02",)}, "'sim01=sim02' is not NAME=SERVER"),
            ({"view": ("lb",)}, "'lb' is not NAME=SERVER"),
        ],
    )
    async def test_bad_options(self, tmp_path: Path, changes: dict[str, object], told: str) -> None:
        """Options that cannot be used are told in words."""
        given = {"config": tmp_path / "bbbmeter.toml", "duration_s": 5.0, **changes}
        options = SimulateOptions(**given)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=told):
            await simulate(options)

    async def test_a_real_configuration_is_not_overwritten(self, tmp_path: Path) -> None:
        """A settings file that the simulator did not write stays as it is."""
        config = tmp_path / "bbbmeter.toml"
        config.write_text("poll_interval_s = 30\n")
        with pytest.raises(UsageError, match="exists, but the simulator did not write it"):
            await simulate(SimulateOptions(config=config, duration_s=5))
        assert config.read_text() == "poll_interval_s = 30\n"

    async def test_a_taken_port(self, tmp_path: Path) -> None:
        """A port that is in use is told."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            options = SimulateOptions(config=tmp_path / "c.toml", port=port, duration_s=5)
            with pytest.raises(UsageError, match=f"port {port}: .*in use"):
                await simulate(options)
