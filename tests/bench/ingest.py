"""Measures the CPU time of ingest: the real daemon compared with a minimal collector.

Both poll the same fleet in turn, at the same interval, over TLS, with one connection per server.
Only the CPU time of the collector's process counts, not that of servers and database. If a Python
with BBBLB is given, BBBLB's poller is measured too.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from collector.simulator.marks import attribution_rules
from tests.bench.database import empty
from tests.bench.fleet import TENANTS, certificate, urls

_WARM_UP_TICKS = 2
_WHO = ("floor", "bbbmeter", "bbblb")
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Size:
    """The size of a fleet: servers, meetings per server, attendees per meeting."""

    servers: int
    meetings: int
    attendees: int = 10

    def __str__(self) -> str:
        """Return the text for tables."""
        return f"{self.servers}x{self.meetings}x{self.attendees}"


@contextlib.contextmanager
def fleet(folder: Path, size: Size) -> Iterator[None]:
    """Serve a fleet in a separate process."""
    certificate(folder)
    command = [sys.executable, "-m", "tests.bench.fleet", str(folder)]
    sizes = (str(size.servers), str(size.meetings), str(size.attendees))
    with subprocess.Popen([*command, *sizes], stdin=subprocess.PIPE) as process:
        try:
            _wait_for(folder / "fleet.json", process)
            yield
        finally:
            process.kill()


def _wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            message = f"{path.name} does not appear"
            raise RuntimeError(message)
        time.sleep(0.1)


def settings_file(folder: Path, dsn: str, interval_s: int, port: int) -> Path:
    """Write the daemon's settings, and return their path."""
    rules = [
        "{ " + ", ".join(f"{key} = {json.dumps(value)}" for key, value in rule.items()) + " }"
        for rule in attribution_rules(TENANTS)
    ]
    lines = [
        f'database = "{dsn}"',
        f"poll_interval_s = {interval_s}",
        'log_level = "warning"',
        *(f'[spool]\ndirectory = "{folder / "spool"}"', f"[http]\nport = {port}"),
        "[attribution]",
        f"rules = [{', '.join(rules)}]",
        *(f'[[tenant]]\nname = "{tenant.name}"' for tenant in TENANTS),
        *(
            f'[[server]]\nname = "{name}"\nurl = "{url}"\nsecret = "none"\n'
            f'ca_file = "{folder / "cert.pem"}"'
            for name, url in urls(folder)
        ),
    ]
    path = folder / "bbbmeter.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mib(pid: int) -> float:
    """Return the maximum resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def daemon(folder: Path, dsn: str, ticks: int, interval_s: int) -> dict[str, float]:
    """Run the real daemon for some ticks; return its costs and the stored rows."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = settings_file(folder, dsn, interval_s, port)
    bbbmeter = Path(sys.executable).with_name("bbbmeter")
    migrating = await asyncio.create_subprocess_exec(
        *(bbbmeter, "migrate", "--config", path), stdout=asyncio.subprocess.DEVNULL
    )
    if await migrating.wait():
        message = "the database cannot be migrated"
        raise RuntimeError(message)
    process = await asyncio.create_subprocess_exec(bbbmeter, "run", "--config", path)
    connection = await asyncpg.connect(dsn)
    try:
        await _stored(connection, 1)
        await asyncio.sleep(_WARM_UP_TICKS * interval_s)
        before, cpu_s = await _stored(connection, 1), _cpu_s(process.pid)
        await asyncio.sleep(ticks * interval_s)
        after, cpu_s = await _stored(connection, 1), _cpu_s(process.pid) - cpu_s
        missed = await connection.fetchval("SELECT count(*) FROM meter.poll WHERE NOT ok")
        return {
            "cpu_s": cpu_s,
            "samples": after - before,
            "failed_polls": missed,
            "memory_mib": round(_memory_mib(process.pid), 1),
            "tick_s": await _tick_s(port),
        }
    finally:
        process.terminate()
        await process.wait()
        await connection.close()


async def _tick_s(port: int) -> float:
    """Return the mean time from a tick to the answer of its last server."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        metrics = {
            sample.name: sample.value
            for family in text_string_to_metric_families(await answer.text())
            for sample in family.samples
        }
    return round(metrics["bbbmeter_tick_seconds_sum"] / metrics["bbbmeter_tick_seconds_count"], 2)


async def _stored(connection: asyncpg.Connection, least: int) -> int:
    """Wait until the database has at least `least` samples; return their number."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            found: int = await connection.fetchval("SELECT count(*) FROM meter.sample")
            if found >= least:
                return found
            await asyncio.sleep(0.5)


async def script(folder: Path, *command: object) -> Any:  # noqa: ANN401 - what the script prints
    """Run another script of this folder, and return the JSON that it prints, if any."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        stdout=asyncio.subprocess.PIPE,
        # These are read when the modules are loaded.
        env=os.environ | {"SSL_CERT_FILE": str(folder / "cert.pem")},
    )
    output, _ = await process.communicate()
    if process.returncode:
        message = f"{command[2]} fails"
        raise RuntimeError(message)
    return json.loads(output or "null")


async def floor(folder: Path, dsn: str, ticks: int, interval_s: int) -> dict[str, float]:
    """Run the minimal collector, and return its costs."""
    result: dict[str, float] = await script(
        folder, sys.executable, "-m", "tests.bench.floor", folder, dsn, ticks, interval_s
    )
    return result


async def bbblb(python: str, folder: Path, ticks: int, interval_s: int) -> dict[str, float]:
    """Run BBBLB's poller in a separate database, and return its costs."""
    async with empty() as (dsn, _):
        for what in ("prepare", "poll"):
            result: dict[str, float] = await script(
                *(folder, python, "-m", "tests.bench.bbblb", what, folder, dsn, ticks, interval_s)
            )
    return result


async def measure(
    size: Size, ticks: int, interval_s: int, repeats: int, python: str | None
) -> dict[str, Any]:
    """Return the medians of both in microseconds of CPU per sample, and their ratio."""
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bbbmeter-bench-") as name:
        folder = Path(name)
        with fleet(folder, size):
            for _ in range(repeats):
                async with empty() as (dsn, engine):
                    least = await floor(folder, dsn, ticks, interval_s)
                    ours = await daemon(folder, dsn, ticks, interval_s)
                one: dict[str, Any] = {"floor": least, "bbbmeter": ours, "engine": engine}
                if python:
                    one["bbblb"] = await bbblb(python, folder, ticks, interval_s)
                rounds.append(one)
                print(
                    size, *(f"{n} {_micros(one[n]):.1f} µs" for n in _WHO if n in one), flush=True
                )
    pairs = [(_micros(one["bbbmeter"]), _micros(one["floor"])) for one in rounds]
    return {
        "fleet": str(size),
        "engine": rounds[0]["engine"],
        "bbbmeter_us": round(statistics.median(ours for ours, _ in pairs), 1),
        "floor_us": round(statistics.median(least for _, least in pairs), 1),
        "ratio": round(statistics.median(ours / least for ours, least in pairs), 2),
        "memory_mib": max(one["bbbmeter"]["memory_mib"] for one in rounds),
        "tick_s": statistics.median(one["bbbmeter"]["tick_s"] for one in rounds),
        "cpu_s_a_tick": round(
            statistics.median(one["bbbmeter"]["cpu_s"] for one in rounds) / ticks, 2
        ),
        "failed_polls": sum(one["bbbmeter"]["failed_polls"] for one in rounds),
        "rounds": rounds,
    } | _beside_bbblb(rounds)


def _beside_bbblb(rounds: list[dict[str, Any]]) -> dict[str, float]:
    pairs = [(_micros(one["bbblb"]), _micros(one["bbbmeter"])) for one in rounds if "bbblb" in one]
    if not pairs:
        return {}
    return {
        "bbblb_us": round(statistics.median(theirs for theirs, _ in pairs), 1),
        "bbblb_ratio": round(statistics.median(theirs / ours for theirs, ours in pairs), 1),
    }


def _micros(result: dict[str, float]) -> float:
    return result["cpu_s"] / result["samples"] * 1e6


async def main(arguments: argparse.Namespace) -> int:
    """Measure each size, print a table, and write all figures as JSON."""
    found = [
        await measure(
            Size(*map(int, size.split("x"))),
            arguments.ticks,
            arguments.interval,
            arguments.repeats,
            arguments.bbblb,
        )
        for size in arguments.fleets
    ]
    for one in found:
        print(
            f"{one['fleet']:>18}: {one['bbbmeter_us']:6.1f} µs a sample, floor "
            f"{one['floor_us']:6.1f} µs, ratio {one['ratio']:.2f}, {one['memory_mib']:.0f} MiB, "
            f"{one['cpu_s_a_tick']:.2f} s of CPU and {one['tick_s']:.2f} s a tick"
            + (f", BBBLB {one['bbblb_us']:.1f} µs" if "bbblb_us" in one else "")
        )
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--fleets",
        nargs="+",
        default=["100x50x10", "1000x10x10", "10x500x10"],
        help="servers x meetings x attendees",
    )
    parser.add_argument("--ticks", type=int, default=8)
    parser.add_argument("--interval", type=int, default=5, help="seconds between ticks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bbblb", metavar="PYTHON", help="a Python that has bbblb and greenlet")
    parser.add_argument("--out", type=Path, help="write all figures to this file, as JSON")
    sys.exit(asyncio.run(main(parser.parse_args())))
