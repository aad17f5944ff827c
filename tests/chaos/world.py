"""The world of a run: fleet, database, collectors with a proxy each, and the faults."""

import asyncio
import contextlib
import json
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from collector.clock import SystemClock, tick_at
from collector.database.migrate import migrate
from collector.settings.file import load_settings
from collector.simulator import Fleet, FleetPlan, SimTenant
from collector.simulator.command import settings_toml
from collector.simulator.faults import KINDS
from collector.simulator.server import SimulatedFleet
from tests.chaos.database import Database
from tests.chaos.plan import Fault, Plan
from tests.chaos.process import Process
from tests.chaos.proxy import FAIR, Proxy, Weather

INTERVAL_S = 5
SPOOL_BYTES = 1024**2
TENANTS = (
    SimTenant("acme", "bbblb", 1.0),
    SimTenant("law", "scalelite", 1.0),
    SimTenant("music", "greenlight", 0.8),
    SimTenant("physics", "prefix", 0.8),
)
_WEATHERS = {
    "slow": Weather(latency_s=0.3),
    "narrow": Weather(bytes_per_s=20_000),
    "refuse": Weather(refuse=True),
    "lose": Weather(lose=frozenset({"up", "down"})),
    "lose_up": Weather(lose=frozenset({"up"})),
    "lose_down": Weather(lose=frozenset({"down"})),
    "isolated": Weather(lose=frozenset({"up", "down"})),
}
_BEGIN_DEADLINE_S = 90.0
_CALM_DEADLINE_S = 150.0
_LOOK_S = 0.5
_REST_S = 1.0
_HERE = Path(__file__).parent


def fleet_plan(seed: int, servers: int, start: datetime) -> FleetPlan:
    """Return a plan of running lessons, some of which begin or end within the run."""
    return FleetPlan(
        seed=seed,
        start=start,
        end=start + timedelta(hours=2),
        tenants=TENANTS,
        servers=servers,
        concurrent_sessions=8.0 * servers,
        mean_length_s=3600,
        min_length_s=60,
        max_length_s=14_400,
        empty_linger_s=5,
        unjoined_linger_s=15,
        mean_size=12,
        large_share=0,
        huge_share=0,
        breakout_share=0.25,
        dialin_share=0.15,
    )


@dataclass(frozen=True, slots=True)
class Hit:
    """A fault that had an effect, and its time (epoch seconds)."""

    kind: str
    target: str
    began: float
    ended: float


@dataclass
class Collector:
    """A collector: its process, its proxy to the database, its settings."""

    process: Process
    proxy: Proxy
    config: Path
    weather: Weather = FAIR
    wanted: bool = True

    @property
    def health_port(self) -> int | None:
        """The port of its probes; None until the log has it."""
        port = self.process.find(r'"health_port": (\d+)')
        return int(port) if port and self.process.pid else None


class World:
    """Everything that runs; call `begin`, `suffer`, `calm_down`, `end` in this order."""

    def __init__(
        self, fleet: SimulatedFleet, database: Database, collectors: Mapping[str, Collector]
    ) -> None:
        """Use the given parts; fleet and database are started already."""
        self.fleet = fleet
        self.database = database
        self.collectors = collectors
        self.hits: list[Hit] = []
        self.defects: list[str] = []
        self._away = False
        self._disk_full: str | None = None

    def processes(self) -> list[Process]:
        """Return the processes that this run started."""
        return [
            *(collector.process for collector in self.collectors.values()),
            *self.database.processes(),
        ]

    async def begin(self) -> None:
        """Start the collectors; return when both collect."""
        for collector in self.collectors.values():
            await collector.process.start()
        async with asyncio.timeout(_BEGIN_DEADLINE_S):
            while not all(c.health_port for c in self.collectors.values()):
                for collector in self.collectors.values():
                    if collector.process.pid is None:
                        raise RuntimeError("".join(collector.process.lines))
                await asyncio.sleep(_LOOK_S)
        await asyncio.sleep(2 * INTERVAL_S)

    # -- faults ------------------------------------------------------------------------------

    async def suffer(self, plan: Plan, seconds: float) -> None:
        """Apply all faults of `plan`, and return after `seconds` seconds."""
        for fault in plan.servers:
            self._spoil_server(fault)
        began = time.monotonic()
        tracks: list[tuple[list[Fault], Callable[[Fault], Awaitable[bool]]]] = [
            (plan.engine, self._engine),
            (plan.disk, self._disk),
            *((faults, self._network) for faults in plan.network.values()),
            *((faults, self._process) for faults in plan.process.values()),
        ]
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._supervise())
            tasks = [
                group.create_task(self._follow(faults, befall, began)) for faults, befall in tracks
            ]
            await asyncio.wait(tasks)
            await asyncio.sleep(max(0, began + seconds - time.monotonic()))
            watch.cancel()

    async def _follow(
        self, faults: list[Fault], befall: Callable[[Fault], Awaitable[bool]], began: float
    ) -> None:
        for fault in faults:
            await asyncio.sleep(max(0, began + fault.at_s - time.monotonic()))
            since = time.time()
            if await befall(fault):
                self.hits.append(Hit(fault.kind, fault.target, since, time.time()))

    async def _supervise(self) -> None:
        """Restart collectors that ended by themselves, as systemd would."""
        while True:
            for collector in self.collectors.values():
                collector.process.measure()
                if collector.wanted and collector.process.pid is None:
                    await asyncio.sleep(_REST_S)
                    await collector.process.start()
            for process in self.database.processes():
                process.measure()
            await asyncio.sleep(_LOOK_S)

    def _spoil_server(self, fault: Fault) -> None:
        now = self.fleet.now()
        since, until = (now + timedelta(seconds=at_s) for at_s in (fault.at_s, fault.until_s))
        kind = next(known for known in KINDS if known == fault.kind)
        self.fleet.fault(fault.target, kind, since, until)
        began, ended = (time.time() + at_s for at_s in (fault.at_s, fault.until_s))
        self.hits.append(Hit(f"server_{fault.kind}", fault.target, began, ended))

    async def _engine(self, fault: Fault) -> bool:
        self._away = True
        await self._set_weather()
        await self.database.kill()
        await asyncio.sleep(fault.for_s)
        await self.database.revive()
        if fault.kind == "away":
            # The rollups of that time are computed before its data are replayed from the spools.
            await self.database.run_policies()
        self._away = False
        await self._set_weather()
        return True

    async def _disk(self, fault: Fault) -> bool:
        """Limit the process repeatedly, because it may have been restarted."""
        process = self.collectors[fault.target].process
        until = time.monotonic() + fault.for_s
        self._disk_full = fault.target
        while (left_s := until - time.monotonic()) > 0:
            process.limit_files(0)
            await asyncio.sleep(min(_LOOK_S, left_s))
        process.limit_files(None)
        self._disk_full = None
        return True

    async def _network(self, fault: Fault) -> bool:
        collector = self.collectors[fault.target]
        proxy = collector.proxy
        if fault.kind in ("reset", "close"):
            return proxy.cut(reset=fault.kind == "reset") > 0
        if fault.kind in ("cut_up", "cut_down"):
            proxy.cut_midway(fault.kind.removeprefix("cut_"))
            return True
        collector.weather = _WEATHERS[fault.kind]
        await self._set_weather()
        await asyncio.sleep(fault.for_s)
        collector.weather = FAIR
        await self._set_weather()
        return True

    async def _set_weather(self) -> None:
        for collector in self.collectors.values():
            weather = collector.weather
            await collector.proxy.set(replace(weather, refuse=True) if self._away else weather)
            if self._away:
                collector.proxy.cut(reset=True)

    async def _process(self, fault: Fault) -> bool:
        collector = self.collectors[fault.target]
        process = collector.process
        if fault.target == self._disk_full:
            # The plan avoids this, but an earlier fault took longer: see make_plan.
            return False
        if fault.kind == "suspend":
            hit = process.send(signal.SIGSTOP)
            await asyncio.sleep(fault.for_s)
            process.send(signal.SIGCONT)
            return hit
        collector.wanted = False
        if fault.kind == "kill":
            hit = await process.kill()
        else:
            hit = await self._terminate(fault.target)
        await asyncio.sleep(fault.for_s)
        if process.pid is None:
            await process.start()
        collector.wanted = True
        return hit

    async def _terminate(self, name: str) -> bool:
        process = self.collectors[name].process
        # A process without output has not installed its signal handler yet.
        young = not process.lines
        if process.pid is None:
            return False
        code = await process.end()
        if code is None:
            self.defects.append(f"collector {name} did not end on SIGTERM in time")
        elif code and not (young and code == -signal.SIGTERM):
            self.defects.append(f"collector {name} ended with code {code} on SIGTERM")
        return True

    # -- the end -----------------------------------------------------------------------------

    async def calm_down(self) -> float:
        """Wait until both collectors have stored everything; return how many seconds it took."""
        began = time.monotonic()
        waiting: dict[str, str] = {}
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(_CALM_DEADLINE_S),
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session,
                asyncio.TaskGroup() as group,
            ):
                watch = group.create_task(self._supervise())
                # Wait for at least one tick without a fault.
                await asyncio.sleep(2 * INTERVAL_S)
                while True:
                    waiting = {
                        name: reason
                        for name, collector in self.collectors.items()
                        if (reason := await _busy(session, collector))
                    }
                    if not waiting:
                        break
                    await asyncio.sleep(_LOOK_S)
                watch.cancel()
        for name, reason in waiting.items():
            self.defects.append(f"collector {name} did not come to rest: {reason}")
        return time.monotonic() - began

    async def end(self) -> datetime:
        """Stop both collectors cleanly; return the tick until which polls were due."""
        until = tick_at(datetime.now(UTC), INTERVAL_S)
        for process in self.processes():
            process.measure()
        for collector in self.collectors.values():
            collector.wanted = False
        await asyncio.gather(*(self._terminate(name) for name in self.collectors))
        for process in self.processes():
            for at, code in process.unexpected:
                when = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
                self.defects.append(f"{process.name} ended by itself with code {code} at {when}")
            if "Traceback" in process.log.read_text(encoding="utf-8", errors="replace"):
                self.defects.append(f"there is a traceback in the log of {process.name}")
        return until


async def _busy(session: aiohttp.ClientSession, collector: Collector) -> str:
    """Return why a collector is not at rest; an empty text if it is."""
    port = collector.health_port
    if port is None:
        return "it does not run"
    try:
        async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
            text = await response.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"its port does not answer: {type(error).__name__}"
    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    if values["bbbmeter_spool_polls"]:
        return f"{values['bbbmeter_spool_polls']:.0f} polls in its spool"
    if values["bbbmeter_lag_seconds"] > 2 * INTERVAL_S:
        return f"it lags by {values['bbbmeter_lag_seconds']:.0f} s"
    return ""


@asynccontextmanager
async def world(
    folder: Path,
    database: Database,
    make_plan: Callable[[datetime], FleetPlan],
    names: Sequence[str],
) -> AsyncIterator[World]:
    """Yield a fleet, a migrated database, proxies, and collectors that are not started yet.

    The fleet's plan begins now and uses the real clock. At the end all processes are ended in any
    case.
    """
    secret = SecretStr(secrets.token_urlsafe(24))
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(database.end)
        await database.start()
        now = SystemClock().now()
        simulated = SimulatedFleet(Fleet(make_plan(now)), secret=secret)
        fleet = await stack.enter_async_context(simulated)
        direct = write_settings(folder / "direct.toml", fleet, secret, database.dsn(), folder)
        connection = await asyncpg.connect(database.dsn())
        await migrate(connection, load_settings(direct))
        await connection.close()
        collectors = {}
        for name in names:
            proxy = await stack.enter_async_context(Proxy(lambda: database.address))
            dsn = database.dsn(proxy.port)
            config = write_settings(folder / f"{name}.toml", fleet, secret, dsn, folder)
            # The last collector has little memory for polls.
            program = [str(_HERE / "small_collector.py")] if name == names[-1] else []
            process = Process(
                name,
                [sys.executable, *(program or ["-m", "collector"]), "run", "-c", str(config)],
                folder / f"{name}.log",
                {"BBBMETER_LOG_FORMAT": "json"},
            )
            stack.push_async_callback(process.kill_if_there)
            collectors[name] = Collector(process, proxy, config)
        yield World(fleet, database, collectors)


def write_settings(
    path: Path, fleet: SimulatedFleet, secret: SecretStr, dsn: str, folder: Path
) -> Path:
    """Write the settings of one collector; return their path."""
    head: dict[str, str | int] = {"database": dsn, "poll_interval_s": INTERVAL_S}
    text = settings_toml(fleet, {"secret": secret.get_secret_value()}, head)
    spool = f"[spool]\ndirectory = {json.dumps(str(folder / 'spool'))}\nmax_bytes = {SPOOL_BYTES}"
    path.touch(mode=0o600)
    path.write_text(f"{text}\n{spool}\n\n[http]\nport = 0\n", encoding="utf-8")
    return path
