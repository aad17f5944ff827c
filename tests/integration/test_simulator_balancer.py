"""The simulated fleet on one port, like the tenants of a load balancer."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from pydantic import SecretStr
from yarl import URL

from collector.bbb.checksum import signed_url
from collector.errors import UsageError
from collector.settings.file import load_settings
from collector.simulator import Fleet, FleetPlan
from collector.simulator.command import SimulateOptions, simulate
from collector.simulator.plan import sim_tenants
from collector.simulator.server import SimulatedFleet
from collector.sources.polling.parser import parse_meetings

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
SECRET = SecretStr("hush-hush")
PLAN = FleetPlan(seed=5, start=START, end=START + HOUR, tenants=sim_tenants(6), servers=2)


class StillClock:
    """A clock that stands still."""

    def now(self) -> datetime:
        """Return the begin of the plan."""
        return START


async def test_tenants() -> None:
    """Each tenant has a path and answers for itself, with its own faults."""
    async with (
        SimulatedFleet(Fleet(PLAN), secret=SECRET, clock=StillClock(), balancer=True) as simulated,
        aiohttp.ClientSession() as client,
    ):

        async def ask(url: URL) -> tuple[int, bytes]:
            async with client.get(url) as response:
                return response.status, await response.read()

        urls = [URL(url) for url in simulated.urls.values()]
        signed = [signed_url(url / "api/", "getMeetings", SECRET, "sha256") for url in urls]
        assert urls[0].origin() == urls[1].origin()
        assert [url.path for url in urls] == ["/sim01/bigbluebutton/", "/sim02/bigbluebutton/"]
        for name, url in zip(simulated.urls, signed, strict=True):
            assert await ask(url) == (200, Fleet(PLAN).answer(name, START))
        simulated.fault("sim02", "checksum", START, START + HOUR)
        assert b"SUCCESS" in (await ask(signed[0]))[1]
        assert b"checksumError" in (await ask(signed[1]))[1]
        for path in ("/", "/sim03/bigbluebutton/api", "/bigbluebutton/api", "/sim01/api"):
            assert (await ask(urls[0].with_path(path)))[0] == 404


async def test_command(tmp_path: Path) -> None:
    """The settings that are written have an entry for each tenant, all with one host."""
    config = tmp_path / "bbbmeter.toml"
    await simulate(SimulateOptions(servers=3, config=config, balancer=True, duration_s=0.1))
    servers = load_settings(config).server
    assert len({server.host for server in servers}) == 1
    assert len({server.url for server in servers}) == 3


async def test_a_view_of_other_servers(tmp_path: Path) -> None:
    """One more server lists the meetings of all, with the faults of its own."""
    views = {"lb": ("sim01", "sim02")}
    async with (
        SimulatedFleet(Fleet(PLAN), secret=SECRET, clock=StillClock(), views=views) as simulated,
        aiohttp.ClientSession() as client,
    ):
        assert [*simulated.urls] == ["sim01", "sim02", "lb"]
        listed = {}
        for name, url in simulated.urls.items():
            signed = signed_url(URL(url) / "api/", "getMeetings", SECRET, "sha256")
            async with client.get(signed) as response:
                listed[name] = {
                    m.internal_id for m in parse_meetings(await response.read()).meetings
                }
        assert listed["lb"] == listed["sim01"] | listed["sim02"]
        assert listed["sim01"]
        assert listed["sim02"]
    config = tmp_path / "bbbmeter.toml"
    fault = ("lb:hang:0-1",)
    await simulate(
        SimulateOptions(config=config, view=("lb=sim01,sim02",), fault=fault, duration_s=0.1)
    )
    assert [server.name for server in load_settings(config).server][-1] == "lb"


@pytest.mark.parametrize(
    "view", [("lb=sim01,sim01",), ("sim01=sim02",), ("lb=sim09",), ("lb",), ("lb=sim01",) * 2]
)
async def test_views_that_cannot_be(view: tuple[str, ...], tmp_path: Path) -> None:
    """A view has a name of its own, and lists known servers once."""
    with pytest.raises(UsageError, match=r"NAME=SERVER|same name"):
        await simulate(SimulateOptions(view=view, config=tmp_path / "c.toml", duration_s=0.1))
