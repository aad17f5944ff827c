"""Several collectors on one database, and one whose database is away."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemons import INTERVAL_S, PATIENCE_S, Running, collecting, until_polled

INTERVAL = timedelta(seconds=INTERVAL_S)
SERVERS = 10


@pytest.fixture
def server_count() -> int:
    """Enough for each of two collectors to get some."""
    return SERVERS


class Gate:
    """A port that leads to the database while it is open."""

    def __init__(self, dsn: str) -> None:
        """Lead to the database of `dsn`."""
        self._parts = urlsplit(dsn)
        self._links: set[asyncio.StreamWriter] = set()
        self._port = 0
        self._server: asyncio.Server | None = None

    @property
    def dsn(self) -> str:
        """The way through the gate."""
        user, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{self._port}"))

    async def open(self) -> None:
        """Let connections through."""
        self._server = await asyncio.start_server(self._link, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut every connection, and take no other."""
        if self._server is not None:
            self._server.close()
            for link in self._links:
                link.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _link(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._links |= {back, forth}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.close()

        await asyncio.gather(pump(near, forth), pump(far, back))
        self._links -= {back, forth}


@pytest.fixture
async def gate(dsn: str) -> AsyncIterator[Gate]:
    """A gate before the database, open."""
    gate = Gate(dsn)
    await gate.open()
    yield gate
    await gate.close()


async def fetch(dsn: str, query: str, *values: object) -> list[asyncpg.Record]:
    """Return what a query gives."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *values)
    finally:
        await connection.close()


async def until_logged(daemon: Running, event: str, **values: Any) -> None:  # noqa: ANN401
    """Wait until a daemon has logged an event with these values."""
    count = 1
    while not values.items() <= (await daemon.until(event, count)).items():
        count += 1


async def missing(dsn: str) -> list[tuple[str, timedelta]]:
    """Return the holes in the polls up to the last one: why, and how long."""
    rows = await fetch(
        dsn,
        "SELECT reason, missing_until - missing_since AS hole FROM meter.missing_polls("
        "(SELECT min(since) FROM meter.server_due), (SELECT max(ts) FROM meter.poll))",
    )
    return [(row["reason"], row["hole"]) for row in rows]


async def test_a_collector_that_is_killed_is_replaced_within_three_intervals(
    write_config: Callable[..., Path], dsn: str
) -> None:
    """Two share the servers without being told; no tick comes twice, few are missing."""
    config = write_config()
    async with collecting(config) as first, collecting(config) as second:
        await until_logged(first, "servers_shared", collectors=2)
        await until_logged(second, "servers_shared", collectors=2)
        parts = [
            [e["mine"] for e in one.log if e["event"] == "servers_shared"][-1]
            for one in (first, second)
        ]
        assert sum(map(int, map(str, parts))) == SERVERS
        assert all(parts)
        together = datetime.now(UTC) + INTERVAL
        await until_polled(dsn, 3 * SERVERS, f"ts > '{together.isoformat()}'")
        second.process.kill()
        killed = datetime.now(UTC)
        await until_logged(first, "servers_shared", collectors=1, mine=SERVERS)
        again = killed + 3 * INTERVAL
        await until_polled(dsn, 2 * SERVERS, f"ts >= '{again.isoformat()}'")
        await first.end()
    ticks = await fetch(
        dsn,
        "SELECT ts, count(*) AS polls FROM meter.poll WHERE (ts > $1 AND ts < $2) OR ts >= $3 "
        "GROUP BY ts ORDER BY ts",
        together,
        killed - INTERVAL,
        again,
    )
    # All of them but for those of the takeover; the very last one can be cut by the end.
    assert [tick["polls"] for tick in ticks[:-1]] == [SERVERS] * (len(ticks) - 1)
    holes = await missing(dsn)
    assert {reason for reason, _ in holes} == {"handover"}
    assert max(hole for _, hole in holes) <= 3 * INTERVAL
    spans = await fetch(dsn, "SELECT stopped FROM meter.collector ORDER BY stopped")
    assert [span["stopped"] for span in spans] == [False, True]


async def test_one_that_ends_in_order_leaves_no_hole(
    write_config: Callable[..., Path], dsn: str
) -> None:
    """It signs off first, so that the other takes over with the next tick, or the one after."""
    config = write_config()
    async with collecting(config) as first, collecting(config) as second:
        await until_logged(first, "servers_shared", collectors=2)
        await until_logged(second, "servers_shared", collectors=2)
        await until_polled(dsn, 3 * SERVERS)
        await second.end()
        ended = datetime.now(UTC)
        await until_polled(dsn, 2 * SERVERS, f"ts > '{ended.isoformat()}'")
        await first.end()
    holes = await missing(dsn)
    assert {reason for reason, _ in holes} <= {"handover"}
    assert all(hole <= INTERVAL for _, hole in holes)


async def test_an_older_settings_file_ends_nobodys_servers(
    write_config: Callable[..., Path], tmp_path: Path, dsn: str
) -> None:
    """A second collector lacks servers of the first: both say so, and polls go on everywhere."""
    config = write_config()
    less = tmp_path / "less.toml"
    whole = config.read_text(encoding="utf-8")
    for name in ("sim01", "sim02", "sim03"):
        whole = whole.replace(f'name = "{name}"\n', f'name = "{name}"\nenabled = false\n')
    less.write_text(whole, encoding="utf-8")
    os.utime(less, (1, 1))
    only = "server_id IN (SELECT id FROM meter.server WHERE name IN ('sim01', 'sim02', 'sim03'))"
    async with collecting(config) as first:
        await until_polled(dsn, SERVERS)
        async with collecting(less) as second:
            for one, here in ((first, 3), (second, 0)):
                said = await one.until("fleets_differ")
                assert said["decides"] == (await first.until("collecting"))["collector"]
                assert str(said["only_here"]).count("sim") == here
                assert str(said["only_there"]).count("sim") == 3 - here
            await until_logged(first, "servers_shared", collectors=2)
            together = datetime.now(UTC) + INTERVAL
            await until_polled(dsn, 9, f"ok AND ts > '{together.isoformat()}' AND {only}")
            await until_polled(dsn, 2 * SERVERS, f"ok AND ts > '{together.isoformat()}'")
            # The file of the second becomes the same: they agree again without a restart.
            less.write_text(config.read_text(encoding="utf-8"), encoding="utf-8")
            await second.until("fleets_agree")
            await first.until("fleets_agree")
            await second.end()
        await first.end()
    spans = await fetch(dsn, "SELECT until FROM meter.server_due")
    assert [span["until"] for span in spans] == [None] * SERVERS
    assert {reason for reason, _ in await missing(dsn)} <= {"handover"}


async def until_metric(metrics: str, name: str, value: float) -> None:
    """Wait until the metric `name` at the URL `metrics` is at least `value`."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
        found = -1.0
        while found < value:
            await asyncio.sleep(0.5)
            async with session.get(metrics) as response:
                text = await response.text()
            for family in text_string_to_metric_families(text):
                if family.name == name:
                    found = family.samples[0].value


async def test_a_database_that_is_away_costs_no_tick(
    write_config: Callable[..., Path], dsn: str, gate: Gate
) -> None:
    """What is polled meanwhile waits on disk, also after a kill; the spool can be enlarged."""
    config = write_config(database=gate.dsn)
    async with collecting(config) as daemon:
        await until_polled(dsn, SERVERS)
        await gate.close()
        closed = datetime.now(UTC)
        await daemon.until("write_failed", count=3)
        await asyncio.sleep(INTERVAL.total_seconds())
        daemon.process.kill()
        killed = datetime.now(UTC)
    async with collecting(config) as daemon:
        await daemon.until("database_away")
        started = await daemon.until("collecting")
        began = datetime.now(UTC)
        metrics = f"http://127.0.0.1:{started['health_port']}/metrics"
        await until_metric(metrics, "bbbmeter_spool_polls", 4 * SERVERS)
        # A larger spool is needed now, so that setting alone does not wait for the database.
        write_config("\n[spool]\nmax_bytes = 2147483648\n", database=gate.dsn)
        await until_metric(metrics, "bbbmeter_spool_max_bytes", 2 * 1024**3)
        await gate.open()
        opened = datetime.now(UTC)
        await daemon.until("database_back")
        await until_polled(dsn, 2 * SERVERS, f"ts > '{opened.isoformat()}'")
        await daemon.end()
    rows = await fetch(
        dsn,
        "SELECT ts, count(*) AS polls FROM meter.poll "
        "WHERE (ts > $1 AND ts < $2) OR (ts > $3 AND ts < $4) GROUP BY ts",
        closed,
        killed - INTERVAL,
        began,
        opened,
    )
    assert len(rows) >= 3
    assert {row["polls"] for row in rows} == {SERVERS}
    assert {reason for reason, _ in await missing(dsn)} <= {"no collector", "handover"}
    # The time that came late is noted, to be seen to.
    assert await fetch(dsn, "SELECT * FROM meter.late")
