"""A process of the run: it has a separate process group, is watched, and is ended in any case."""

import asyncio
import contextlib
import os
import re
import resource
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT

_END_DEADLINE_S = 90.0
_MIB = 1024


class Process:
    """One program that is started repeatedly; the output of all starts goes to `log`.

    `peak_mib` is the maximum resident memory of any start. `exits` are the exit codes of starts
    that ended without being killed, in order. `unexpected` are those that ended by themselves.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        """Prepare the process; it is not started yet."""
        self.name = name
        self.log = log
        self.peak_mib = 0.0
        self.starts = 0
        self.exits: list[int] = []
        self.unexpected: list[tuple[float, int]] = []
        self.lines: list[str] = []
        self.command = list(command)
        self._env = {**os.environ, **(env or {})}
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._asked = False
        self.said = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The process id while the process runs, else None."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if alive and self._process else None

    async def start(self) -> None:
        """Start the process."""
        self._asked = False
        self.lines = []
        self.starts += 1
        self._process = await asyncio.create_subprocess_exec(
            *self.command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=self._env,
            start_new_session=True,
            # The default limit is too small for long lines of a log.
            limit=2**24,
        )
        self._reader = asyncio.create_task(self._read(self._process))

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; return whether there was a process to receive it."""
        pid = self.pid
        if pid is None:
            return False
        self.measure()
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._asked = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    async def kill(self) -> bool:
        """Kill the process (`kill -9`); return whether there was one."""
        hit = self.send(signal.SIGKILL)
        await self._gone()
        return hit

    async def kill_if_there(self) -> None:
        """Kill the process if it runs; it may be frozen."""
        if self.pid is not None:
            await self.kill()

    async def end(self) -> int | None:
        """End it with SIGTERM; return its exit code, None if it did not run or end in time.

        A process that does not end in time is killed.
        """
        if not self.send(signal.SIGTERM):
            return None
        try:
            return await asyncio.wait_for(self._gone(), _END_DEADLINE_S)
        except TimeoutError:
            await self.kill()
            return None

    def limit_files(self, largest_bytes: int | None) -> None:
        """Limit the size of its files to `largest_bytes`, as on a full disk; None: no limit."""
        if self.pid is not None:
            _, hard = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
            soft = hard if largest_bytes is None else largest_bytes
            resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (soft, hard))

    def measure(self) -> None:
        """Record the maximum memory that it has used so far."""
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
            if found := re.search(r"VmHWM:\s+(\d+) kB", text):
                self.peak_mib = max(self.peak_mib, int(found[1]) / _MIB)

    def find(self, pattern: str) -> str | None:
        """Return the first group of the last line of this start that matches `pattern`."""
        for line in reversed(self.lines):
            if found := re.search(pattern, line):
                return found[1]
        return None

    async def _gone(self) -> int:
        assert self._process is not None
        assert self._reader is not None
        code = await self._process.wait()
        await asyncio.shield(self._reader)
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with self.log.open("ab") as log:
            async for line in process.stdout:
                log.write(line)
                self.lines.append(line.decode(errors="replace"))
                self.said.set()
        code = await process.wait()
        self.said.set()
        if code != -signal.SIGKILL:
            self.exits.append(code)
            if not self._asked:
                self.unexpected.append((time.time(), code))
