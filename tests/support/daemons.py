"""`bbbmeter run` in separate processes, with the servers of the fixture `fleet`."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

SECRET = "the-secret-of-the-simulated-fleet"
INTERVAL_S = 5
PATIENCE_S = 90.0  # ends a test that hangs


@dataclass
class Running:
    """A `bbbmeter run` in a separate process, and its log."""

    process: asyncio.subprocess.Process
    log: list[dict[str, object]] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def read(self) -> None:
        """Read its log until the process ends."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.raw.append(line.decode())
            if line.startswith(b"{"):
                self.log.append(json.loads(line))
            self.changed.set()
        self.changed.set()

    async def until(self, event: str, count: int = 1) -> dict[str, object]:
        """Wait until `event` was logged `count` times in total; return the last entry."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = [entry for entry in self.log if entry["event"] == event]
                if len(found) >= count:
                    return found[count - 1]
                assert self.process.returncode is None, "".join(self.raw)
                self.changed.clear()
                await self.changed.wait()

    async def end(self) -> None:
        """Stop it, and check that it ends with code 0."""
        self.process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        assert code == 0, "".join(self.raw)


@asynccontextmanager
async def collecting(config: Path) -> AsyncIterator[Running]:
    """Run the daemon with `config`; kill it at the end if it still runs."""
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


async def until_polled(dsn: str, polls: int, condition: str = "TRUE") -> None:
    """Wait until the database has `polls` polls for which `condition` is true."""
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(PATIENCE_S):
            query = f"SELECT count(*) FROM meter.poll WHERE {condition}"  # noqa: S608
            while await connection.fetchval(query) < polls:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.2)
    finally:
        await connection.close()
