"""Runs `bbbmeter` in a separate process; gives its output and its exit code."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from collector.database.upkeep import update_sessions
from tests.support.feed import Feed, Run

PATIENCE_S = 120.0  # ends a test that hangs
DAY = ("--from", "2026-03-02", "--to", "2026-03-03")


@dataclass(frozen=True, slots=True)
class Done:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Standard output and standard error together."""
        return self.out + self.err

    def require_refusal(self, *texts: str) -> None:
        """Check for exit code 2 and a message with `texts`, without a traceback."""
        assert (self.code, self.out) == (2, ""), self.said
        assert self.err.startswith("bbbmeter: "), self.err
        assert "Traceback" not in self.err
        for text in texts:
            assert text in self.err


class Shell:
    """Runs `bbbmeter` in a separate folder, with only the given variables of bbbmeter."""

    def __init__(self, folder: Path) -> None:
        """Run in `folder`."""
        self.folder = folder

    @property
    def config(self) -> Path:
        """The settings file that is found without `--config`."""
        return self.folder / "bbbmeter.toml"

    def configure(self, database: str, more: str = "") -> None:
        """Write settings with `database` and more lines."""
        self.config.touch(mode=0o600)
        self.config.write_text(
            f'database = "{database}"\nbilling_timezone = "Europe/Berlin"\n{more}', encoding="utf-8"
        )

    async def __call__(self, *arguments: str, stdin: str = "", **variables: str) -> Done:
        """Run `bbbmeter` with `arguments` until it ends."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("BBBMETER_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "collector", *arguments),
            cwd=self.folder,
            env=env | variables,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, err = await process.communicate(stdin.encode())
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())

    async def report(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the rows of a report over the metered day."""
        done = await self("report", *DAY, "--format", "json", *arguments)
        assert done.code == 0, done.said
        assert all(line.startswith("metered in ") for line in done.err.splitlines()), done.said
        rows: list[dict[str, Any]] = json.loads(done.out)
        return rows


async def meter_an_hour(feed: Feed) -> None:
    """Feed an hour of two servers and two tenants, with two failed polls."""
    start = datetime(2026, 3, 2, 10, tzinfo=UTC)

    def at(minute: int) -> datetime:
        return start + timedelta(minutes=minute)

    runs = [
        Run("bbb1", "acme", "=1+1", at(0), at(30), 10, voice=4, video=2, dialins=1),
        Run("bbb1", "acme", "=1+1", at(5), at(15), 4, breakout=True),
        Run("bbb2", "acme", "[/b] room", at(15), at(45), 20),
        Run("bbb1", "law", "seminar", at(20), at(50), 5),
    ]
    servers = ("bbb1", "bbb2")
    await feed.due(at(0), **dict.fromkeys(servers))
    failed = {("bbb2", at(50)), ("bbb2", at(51))}
    await feed.play(servers, feed.ticks(at(0), at(60)), runs, failed=failed)
    await feed.due(at(60))
    await update_sessions(feed.pool, close_after_s=120)
