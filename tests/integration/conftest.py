"""What these tests share: sessions as a script, fed through the writer, and daemons at work."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr

from collector.database.migrate import migrate
from collector.model import Batch, PollRow, Sample, SessionRow, session_id
from collector.rollups import ROLLUP_SOURCE
from collector.settings import RetentionSettings, ServerSettings, Settings
from collector.simulator import Fleet, FleetPlan
from collector.simulator.command import settings_toml
from collector.simulator.plan import sim_tenants
from collector.simulator.server import SimulatedFleet
from collector.storage.registry import sync_fleet
from collector.storage.writer import Stored, Writer

COLUMNSTORES = ("sample", "poll", "session", "usage_1m", "usage_1h", "session_1h", "poll_1h")
SECRET = "the-secret-of-the-simulated-fleet"
INTERVAL_S = 5
PATIENCE_S = 90.0  # only so that a test that hangs ends
FOR_EVER = dict.fromkeys(RetentionSettings.model_fields, 0)


@dataclass(frozen=True, slots=True)
class Run:
    """One session: on `server` in [begin, end), with the same counts at every tick."""

    server: str
    tenant: str
    room: str | None
    begin: datetime
    end: datetime
    participants: int = 1
    voice: int = 0
    video: int = 0
    listeners: int = 0
    dialins: int = 0
    breakout: bool = False
    created_at: datetime | None = None

    @property
    def internal_id(self) -> str:
        """An id like BBB's: of the room and the time of its making."""
        return f"{self.room}-{self.begin:%s}{'-b' if self.breakout else ''}"

    @property
    def session_id(self) -> int:
        """The number that the collector gives the session."""
        return session_id(self.server, self.internal_id)


class Feed:
    """Writes what polls would have brought, and does what the database's policies would do."""

    # Test modules cannot import this one: they get all of it with the feed.
    run: type[Run] = Run

    def __init__(
        self, pool: asyncpg.Pool, make_server: Callable[..., ServerSettings], interval_s: int = 30
    ) -> None:
        """Feed the migrated database of `pool`."""
        self.pool = pool
        self.writer = Writer(pool)
        self.interval_s = interval_s
        self._make_server = make_server

    async def due(self, tick: datetime, **servers: str | None) -> None:
        """Let polls of `servers` (name = its tenant or None), and of no others, be due from `tick`.

        With no servers: let polls be due until `tick`.
        """
        entries = tuple(self._make_server(n, tenant=tenant) for n, tenant in servers.items())
        async with self.pool.acquire() as connection:
            await sync_fleet(connection, entries, (), tick)

    def batch(
        self,
        servers: Iterable[str],
        ticks: Iterable[datetime],
        runs: Collection[Run] = (),
        *,
        failed: Collection[tuple[str, datetime]] = (),
        missed: Collection[tuple[str, datetime]] = (),
    ) -> Batch:
        """Return the batch of polls of `servers` at `ticks`, of which some failed or were missed.

        As the pipeline does, it announces a session that the last successful poll did not see.
        """
        batch = Batch()
        ticks = list(ticks)
        for server in servers:
            own = [run for run in runs if run.server == server]
            known: set[int] = set()
            for ts in ticks:
                if (server, ts) in missed:
                    continue
                if (server, ts) in failed:
                    batch.polls.append(
                        PollRow(ts, server, False, "timeout", 10_000, self.interval_s)  # noqa: FBT003
                    )
                    continue
                seen = [run for run in own if run.begin <= ts < run.end]
                main = [run for run in seen if not run.breakout]
                batch.polls.append(
                    PollRow(
                        ts,
                        server,
                        ok=True,
                        error=None,
                        latency_ms=50,
                        seconds=self.interval_s,
                        sessions=len(main),
                        participants=sum(run.participants for run in main),
                        voice=sum(run.voice for run in main),
                        video=sum(run.video for run in main),
                        listeners=sum(run.listeners for run in main),
                        dialins=sum(run.dialins for run in main),
                        breakouts=len(seen) - len(main),
                    )
                )
                batch.sessions += [
                    self.announce(run, ts) for run in seen if run.session_id not in known
                ]
                known = {run.session_id for run in seen}
                batch.samples += [self.sample(run, ts) for run in seen]
        return batch

    def announce(self, run: Run, ts: datetime) -> SessionRow:
        """Return the row that announces `run` at the poll `ts`."""
        return SessionRow(
            ts=ts,
            server=run.server,
            session_id=run.session_id,
            internal_id=run.internal_id,
            started_at=run.created_at or run.begin,
            tenant=run.tenant,
            room=run.room,
            room_name=None,
            parent_internal_id="its parent" if run.breakout else None,
            breakout=run.breakout,
            recording=False,
        )

    def sample(self, run: Run, ts: datetime, *, poll_ts: datetime | None = None) -> Sample:
        """Return the sample of `run` at `ts`; with `poll_ts` one filled in by that poll."""
        return Sample(
            poll_ts=poll_ts or ts,
            server=run.server,
            ts=ts,
            tenant=run.tenant,
            session_id=run.session_id,
            participants=run.participants,
            voice=run.voice,
            video=run.video,
            listeners=run.listeners,
            dialins=run.dialins,
            seconds=self.interval_s,
            breakout=run.breakout,
            filled=poll_ts is not None,
        )

    async def play(
        self,
        servers: Iterable[str],
        ticks: Iterable[datetime],
        runs: Collection[Run] = (),
        *,
        failed: Collection[tuple[str, datetime]] = (),
        missed: Collection[tuple[str, datetime]] = (),
    ) -> Stored:
        """Store that batch."""
        return await self.writer.write(
            self.batch(servers, ticks, runs, failed=failed, missed=missed)
        )

    def ticks(self, since: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the ticks of [since, until)."""
        while since < until:
            yield since
            since += timedelta(seconds=self.interval_s)

    async def refresh(self, until: datetime | None = None) -> None:
        """Bring all rollups up to date: whole, or the buckets that end at `until` at the latest."""
        for rollup in ROLLUP_SOURCE:
            await self.pool.execute(
                "CALL public.refresh_continuous_aggregate($1::regclass, NULL, $2::timestamptz)",
                f"meter.{rollup}",
                until,
            )

    async def columnize(self) -> int:
        """Turn every chunk there is into columns; return their number."""
        done = 0
        for relation in COLUMNSTORES:
            done += await self.pool.fetchval(
                "SELECT count(public.compress_chunk(c, if_not_compressed => TRUE)) "
                "FROM public.show_chunks($1::regclass) AS c",
                f"meter.{relation}",
            )
        return done

    async def session(self, run: Run) -> asyncpg.Record:
        """Return the session's only row."""
        rows = await self.pool.fetch(
            "SELECT * FROM meter.session WHERE session_id = $1", run.session_id
        )
        (row,) = rows
        return row


@pytest.fixture
async def make_feed(
    empty_dsn: str, make_server: Callable[..., ServerSettings]
) -> AsyncIterator[Callable[[Settings], Awaitable[Feed]]]:
    """A function that migrates the database to its settings and returns a feed into it.

    Policies are there, but do not run by themselves.
    """
    async with asyncpg.create_pool(empty_dsn, min_size=1, max_size=3) as pool:

        async def make(settings: Settings) -> Feed:
            async with pool.acquire() as connection, connection.transaction():
                await migrate(connection, settings)
                await connection.execute(
                    "SELECT public.alter_job(job_id, scheduled => FALSE) "
                    "FROM timescaledb_information.jobs WHERE job_id >= 1000"
                )
            return Feed(pool, make_server, settings.poll_interval_s)

        yield make


@pytest.fixture
async def feed(
    make_feed: Callable[[Settings], Awaitable[Feed]], make_settings: Callable[..., Settings]
) -> Feed:
    """A feed into a fresh database that keeps everything for ever; days are days in Berlin."""
    return await make_feed(make_settings(retention=FOR_EVER))


@dataclass
class Running:
    """A `bbbmeter run` in a process of its own, and what it logged."""

    process: asyncio.subprocess.Process
    log: list[dict[str, object]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        """Collect its log until it ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.raw.append(line.decode())
            if line.startswith(b"{"):
                self.log.append(json.loads(line))
            self.changed.set()
        self.changed.set()

    async def until(self, event: str, count: int = 1) -> dict[str, object]:
        """Wait until it has logged `event`, `count` times in all, and return the last one."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = [entry for entry in self.log if entry["event"] == event]
                if len(found) >= count:
                    return found[count - 1]
                assert self.process.returncode is None, "".join(self.raw)
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> None:
        """Ask it to end, and see that it ends well."""
        self.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(self.process.wait(), PATIENCE_S) == 0


@asynccontextmanager
async def collecting(config: Path) -> AsyncIterator[Running]:
    """Run the daemon on `config`; it is killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "collector", "run", "--config", str(config)),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "BBBMETER_LOG_FORMAT": "json"},
    )
    running = Running(process)
    reader = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


@pytest.fixture(name="collecting")
def _collecting() -> Callable[[Path], AbstractAsyncContextManager[Running]]:
    """The function `collecting`."""
    return collecting


@pytest.fixture
def server_count() -> int:
    """How many servers `fleet` has."""
    return 3


@pytest.fixture
async def fleet(server_count: int) -> AsyncIterator[SimulatedFleet]:
    """Simulated servers with lessons under way."""
    start = datetime.now(UTC)
    plan = FleetPlan(
        seed=5,
        start=start,
        end=start + timedelta(hours=1),
        tenants=sim_tenants(3),
        servers=server_count,
        concurrent_sessions=4 * server_count,
    )
    async with SimulatedFleet(Fleet(plan), secret=SecretStr(SECRET)) as simulated:
        yield simulated


@pytest.fixture
def write_config(tmp_path: Path, dsn: str, fleet: SimulatedFleet) -> Callable[..., Path]:
    """A function that writes settings for the fleet, with more lines if wished."""

    def write(more: str = "", database: str = dsn) -> Path:
        path = tmp_path / "bbbmeter.toml"
        head: dict[str, str | int] = {"database": database, "poll_interval_s": INTERVAL_S}
        text = settings_toml(fleet, {"secret": SECRET}, head)
        path.write_text(f"{text}\n[http]\nport = 0\n{more}", encoding="utf-8")
        return path

    return write


async def until_polled(dsn: str, polls: int, condition: str = "TRUE") -> None:
    """Wait until the database has so many polls."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(PATIENCE_S):
            query = f"SELECT count(*) FROM meter.poll WHERE {condition}"  # noqa: S608
            while await connection.fetchval(query) < polls:  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.2)
    finally:
        await connection.close()


@pytest.fixture(name="until_polled")
def _until_polled() -> Callable[..., Awaitable[None]]:
    """The function `until_polled`."""
    return until_polled


@pytest.fixture
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the machine's proxies out of the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
