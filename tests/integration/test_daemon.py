"""The daemon at work: a simulated fleet over HTTP, a real database, signals, reloads, kills."""

import asyncio
import random
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector.clock import tick_at
from collector.daemon import Daemon
from collector.daemon import daemon as daemon_module
from collector.settings.file import load_settings
from collector.simulator.server import SimulatedFleet
from tests.support.daemons import INTERVAL_S, PATIENCE_S, SECRET, collecting, until_polled


async def require_whole_polls(dsn: str) -> None:
    """Every poll has its samples, every sample its poll, no sample is there twice."""
    connection = await asyncpg.connect(dsn)
    broken = await connection.fetch(
        """
        SELECT p.ts, p.server_id FROM meter.poll AS p
        LEFT JOIN meter.sample AS a ON a.ts = p.ts AND a.server_id = p.server_id AND NOT a.filled
        GROUP BY p.ts, p.server_id, p.sessions, p.breakouts
        HAVING count(a.ts) <> coalesce(p.sessions + p.breakouts, 0)
        """
    )
    assert broken == []
    doubled = await connection.fetch(
        "SELECT session_id, ts FROM meter.sample GROUP BY session_id, ts HAVING count(*) > 1"
    )
    assert doubled == []
    strays = await connection.fetchval(
        """
        SELECT count(*) FROM meter.sample AS a
        WHERE NOT EXISTS (SELECT FROM meter.session AS s WHERE s.session_id = a.session_id)
            OR (a.filled = EXISTS (
                SELECT FROM meter.poll AS p
                WHERE p.ts = a.ts AND p.server_id = a.server_id AND p.ok
            ))
        """
    )
    assert strays == 0
    await connection.close()


async def until_bounded(dsn: str, max_bytes: int) -> None:
    """Wait until the collector's heartbeat shows a spool of up to `max_bytes`."""
    connection = await asyncpg.connect(dsn)
    query = "SELECT spool_max_bytes FROM meter.collector ORDER BY until DESC LIMIT 1"
    while await connection.fetchval(query) != max_bytes:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.2)
    await connection.close()


async def test_a_fleet_is_metered_and_the_last_batch_is_stored_at_the_end(
    write_config: Callable[..., Path], dsn: str
) -> None:
    """Every server has a poll for every tick; SIGTERM ends in order, with nothing half-stored."""
    async with collecting(write_config()) as daemon:
        await daemon.until("collecting")
        await until_polled(dsn, 9)
        await daemon.end()
        await daemon.until("stopped")
    await require_whole_polls(dsn)
    connection = await asyncpg.connect(dsn)
    ticks = await connection.fetch(
        "SELECT ts, count(*) AS polls, bool_and(ok) AS ok FROM meter.poll GROUP BY ts ORDER BY ts"
    )
    assert all(tick["polls"] == 3 and tick["ok"] for tick in ticks)
    assert {tick["ts"].timestamp() % INTERVAL_S for tick in ticks} == {0}
    assert await connection.fetchval("SELECT bool_and(last_seen_at IS NOT NULL) FROM meter.session")
    due = await connection.fetch("SELECT since, until FROM meter.server_due")
    assert [(row["since"], row["until"]) for row in due] == [(ticks[0]["ts"], None)] * 3
    await connection.close()
    assert SECRET not in "".join(daemon.raw)
    assert "checksum=" not in "".join(daemon.raw)


async def test_a_server_that_fails_is_recorded_and_hurts_no_other(
    write_config: Callable[..., Path], dsn: str, fleet: SimulatedFleet
) -> None:
    """Each kind of failure is a poll row of that server; the others go on; holes are filled."""
    now = fleet.now()
    fleet.fault("sim01", "http_502", now, now + timedelta(seconds=12))
    fleet.fault("sim02", "checksum", now, now + timedelta(seconds=12))
    async with collecting(write_config()) as daemon:
        await until_polled(dsn, 2, "NOT ok")
        await until_polled(dsn, 6, "ok AND server_id IN (SELECT id FROM meter.server)")
        await daemon.end()
    connection = await asyncpg.connect(dsn)
    errors = await connection.fetch(
        "SELECT DISTINCT s.name, p.outcome, p.participants FROM meter.poll AS p "
        "INNER JOIN meter.server AS s ON p.server_id = s.id WHERE NOT p.ok ORDER BY 1"
    )
    assert [tuple(row) for row in errors] == [
        ("sim01", "http_status:502", None),
        ("sim02", "api_error:checksumError", None),
    ]
    await connection.close()
    await require_whole_polls(dsn)


async def test_settings_change_while_running(write_config: Callable[..., Path], dsn: str) -> None:
    """A change is taken up by itself and on SIGHUP; a broken file is refused, the old one kept."""
    path = write_config("\n[retention]\nsample = 30\n")
    whole = path.read_text(encoding="utf-8")
    only_two = whole.replace('name = "sim03"\n', 'name = "sim03"\nenabled = false\n')
    path.write_text(only_two, encoding="utf-8")
    async with collecting(path) as daemon:
        assert (await daemon.until("collecting"))["servers"] == 2
        await until_polled(dsn, 2)

        path.write_text(only_two + "\nbroken", encoding="utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.until("settings_refused")
        seen = datetime.now(UTC)
        await until_polled(dsn, 2, f"ts > '{seen.isoformat()}'")

        larger = whole + "\n[spool]\nmax_bytes = 2097152\n"
        path.write_text(larger, encoding="utf-8")  # noticed without a signal
        assert (await daemon.until("settings_applied"))["servers"] == 3
        sim03 = "server_id = (SELECT id FROM meter.server WHERE name = 'sim03')"
        await until_polled(dsn, 1, sim03)
        await until_bounded(dsn, 2 * 1024**2)

        path.write_text(only_two, encoding="utf-8")
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.until("settings_applied", count=2)
        await daemon.end()
    connection = await asyncpg.connect(dsn)
    spans = await connection.fetch(
        "SELECT d.since, d.until, count(p.ts) AS polls FROM meter.server_due AS d "
        "INNER JOIN meter.server AS s ON d.server_id = s.id AND s.name = 'sim03' "
        "INNER JOIN meter.poll AS p ON d.server_id = p.server_id GROUP BY d.since, d.until"
    )
    assert len(spans) == 1
    # Polls were due, and made, for exactly the time that the server was enabled.
    due_s = (spans[0]["until"] - spans[0]["since"]).total_seconds()
    assert due_s == spans[0]["polls"] * INTERVAL_S
    await connection.close()


async def test_the_daemons_own_port(write_config: Callable[..., Path], dsn: str) -> None:
    """/healthz, /readyz and /metrics say how it is, and hold no secret."""
    async with collecting(write_config()) as daemon, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{(await daemon.until('collecting'))['health_port']}"
        await until_polled(dsn, 3)
        for path in ("/healthz", "/readyz"):
            async with session.get(base + path) as response:
                assert (response.status, await response.text()) == (200, "ok")
        async with session.get(base + "/metrics") as response:
            text = await response.text()
    assert SECRET not in text
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["bbbmeter_polls_total", "ok"] >= 3
    assert samples["bbbmeter_rows_total", "poll"] >= 3
    assert samples["bbbmeter_rows_total", "sample"] > 0
    assert samples["bbbmeter_server_up", "sim01"] == 1
    assert samples["bbbmeter_queue_polls",] == 0
    assert 0 <= samples["bbbmeter_lag_seconds",] < PATIENCE_S


async def test_it_verifies_by_itself(
    write_config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every day; what was found is on /metrics."""
    monkeypatch.setattr(daemon_module, "VERIFY_EVERY_S", 2)
    path = write_config()
    daemon = Daemon(load_settings(path), path)
    run = asyncio.create_task(daemon.run())

    def metric(name: str, **labels: str) -> float | None:
        return daemon.metrics.registry.get_sample_value(f"bbbmeter_verify_{name}", labels)

    async with asyncio.timeout(PATIENCE_S):
        while not metric("timestamp_seconds"):  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.1)
    daemon.stop()
    await run
    assert metric("findings", check="sessions") == 0
    assert metric("findings", check="rollup usage_1m") == 0


async def test_bad_settings_end_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    """All problems are named, each with its key; nothing is started."""
    path = tmp_path / "bbbmeter.toml"
    path.write_text('poll_interval_s = 7\nbogus = 1\n[[server]]\nname = "b"\n', encoding="utf-8")
    async with collecting(path) as daemon:
        assert await asyncio.wait_for(daemon.process.wait(), PATIENCE_S) == 2
    said = "".join(daemon.raw)
    for key in ("poll_interval_s", "bogus", "server[b].url"):
        assert f"{key}:" in said
    assert "Traceback" not in said


async def test_kill_9_at_random_instants(write_config: Callable[..., Path], dsn: str) -> None:
    """Killed 20 times: no tick is stored twice, none is lost but those it was down for."""
    config = write_config()
    chance = random.Random(20)
    lives: list[tuple[datetime, datetime]] = []
    for _ in range(20):
        async with collecting(config) as daemon:
            await daemon.until("collecting")
            began = datetime.now(UTC)
            await asyncio.sleep(chance.uniform(0, 1.6 * INTERVAL_S))
            daemon.process.kill()
            lives.append((began, datetime.now(UTC)))
            await daemon.process.wait()
    await require_whole_polls(dsn)
    connection = await asyncpg.connect(dsn)
    polls = await connection.fetch("SELECT ts, count(*) AS polls FROM meter.poll GROUP BY ts")
    stored = {row["ts"]: row["polls"] for row in polls}
    interval = timedelta(seconds=INTERVAL_S)
    whole = [
        tick
        for began, ended in lives
        # Ticks whose whole interval, in which they are to be stored, the collector lived through.
        for tick in _ticks(began, ended - interval)
    ]
    assert whole, "the seed must give lives of a whole interval"
    assert {tick: stored.get(tick, 0) for tick in whole} == dict.fromkeys(whole, 3)
    # Ticks that it was down for are absent, and missing from the coverage: a hole, not a zero.
    until = tick_at(lives[-1][1], INTERVAL_S) + interval
    await connection.execute("UPDATE meter.server_due SET until = $1", until)
    rows = await connection.fetch(
        """
        SELECT c.coverage, count(p.ts) AS polls, extract(EPOCH FROM $3 - d.since) AS due_s
        FROM meter.server_coverage($1, $2) AS c
        INNER JOIN meter.server_due AS d ON c.server_id = d.server_id
        LEFT JOIN meter.poll AS p ON c.server_id = p.server_id AND p.ts < $3
        GROUP BY c.server_id, c.coverage, d.since
        """,
        tick_at(lives[0][0], 60),
        tick_at(until, 60) + timedelta(minutes=1),
        until,
    )
    assert len(rows) == 3
    for row in rows:
        assert row["coverage"] == pytest.approx(row["polls"] * INTERVAL_S / float(row["due_s"]))
    await connection.close()


def _ticks(since: datetime, until: datetime) -> list[datetime]:
    """Return the ticks in (since, until)."""
    first = tick_at(since, INTERVAL_S) + timedelta(seconds=INTERVAL_S)
    count = int((until - first).total_seconds() // INTERVAL_S) + 1
    return [first + timedelta(seconds=INTERVAL_S * n) for n in range(max(count, 0))]
