"""The embedded TimescaleDB: one Node process per data directory, shared by its users.

The engine itself is `embedded/server.mjs`. The first process that needs it starts it. The others
find it through the file `bbbmeter-engine.json` in the data directory, and connect. If it ends, a
process that still needs it starts it again on the same port. So a `dsn` stays valid as long as its
`EmbeddedEngine` exists.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import quote

import asyncpg
import structlog

from collector.database.node import find_node
from collector.database.packages import engine_folder, install, is_installed
from collector.errors import EngineError

LOCK_NAME = "bbbmeter-engine.json"
MEMORY = Path(":memory:")

# A new data directory takes 5 s, an existing one 1 s, and recovery after a crash longer.
START_TIMEOUT_S = 120.0
# A running engine accepts no connection while it computes.
ANSWER_TIMEOUT_S = 10.0
# Time to finish the running statement and to write a checkpoint; then the process is killed.
STOP_TIMEOUT_S = 30.0
# After this time without an answer, other processes try to start a server too.
STARTING_S = 15.0
# Pause between two attempts to join an engine that another process is starting.
JOIN_INTERVAL_S = 0.2
# Pause between two checks of an engine that another process has started.
GUARD_INTERVAL_S = 1.0
# Pause after a failed restart, doubled each time up to RESTART_PAUSE_MAX_S.
RESTART_PAUSE_S = 1.0
RESTART_PAUSE_MAX_S = 30.0

_SERVED_BY_ANOTHER = 3  # the server's exit code when another server uses the directory
_LAST_WORDS = 20  # lines of the engine's stderr that are kept for an error message

log = structlog.get_logger(__name__)


class _Address(NamedTuple):
    """Where an engine listens, and its process."""

    host: str
    port: int
    pid: int


def parse_embedded(database: str) -> Path | None:
    """Return the data directory of an `embedded:DIR` setting; None for any other database.

    `embedded::memory:` gives `MEMORY`: a separate engine, whose data are lost when it stops.
    """
    scheme, colon, rest = database.partition(":")
    return Path(rest) if scheme == "embedded" and colon and rest else None


def _lives(pid: int) -> bool:
    """Return whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # the process exists, and belongs to another user
    return True


class EmbeddedEngine:
    """An embedded TimescaleDB on `data_dir`, started or joined; use it with `async with`."""

    def __init__(self, data_dir: Path | str, *, port: int = 0) -> None:
        """Set the data directory (created if missing; `MEMORY` for none) and the port.

        The port has an effect only if this object starts the server. 0 means the last port if it
        is free, else any free port.
        """
        self.data_dir = Path(data_dir)
        self._port = port
        self._address: _Address | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._guard: asyncio.Task[None] | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)

    @property
    def dsn(self) -> str:
        """The address for asyncpg, psql and Grafana. Raises `EngineError` before `start`."""
        if self._address is None:
            msg = "the embedded engine has not been started yet"
            raise EngineError(msg)
        password = os.environ.get("BBBMETER_EMBEDDED_PASSWORD", "")
        login = f"postgres:{quote(password, safe='')}" if password else "postgres"
        host, port, _ = self._address
        return f"postgresql://{login}@{host}:{port}/postgres?sslmode=disable"

    @property
    def pid(self) -> int | None:
        """The process id of the server, None before `start`."""
        return self._address.pid if self._address else None

    async def __aenter__(self) -> Self:
        """Start or join the engine."""
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the engine if it was started here."""
        await self.stop()

    async def start(self) -> None:
        """Join the server of this data directory, or start it; return when it answers.

        Raises `EngineError`, with the last lines of the engine's stderr, if it does not start.
        """
        if self._guard is not None:
            return
        folder = engine_folder()
        if not is_installed(folder) and await self._running() is None:
            await asyncio.to_thread(lambda: install(folder, find_node()))
        await self._join_or_launch()
        self._guard = asyncio.create_task(self._keep_alive(), name="embedded-engine-guard")

    async def stop(self) -> None:
        """Stop the server if it was started here; it finishes its statement first."""
        if self._guard is not None:
            self._guard.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._guard
            self._guard = None
        await self._end_process()
        self._address = None

    async def _join_or_launch(self) -> None:
        """Find a server that answers, or start one.

        If several processes try at once, one starts the server and the others join it.
        """
        found = None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while True:
                    found = await self._running()
                    if not found and not await asyncio.to_thread(self._starting):
                        found = await self._launch()
                    if found:
                        break
                    await asyncio.sleep(JOIN_INTERVAL_S)
        except TimeoutError as error:
            msg = (
                f"the embedded engine in {self.data_dir} did not answer within "
                f"{START_TIMEOUT_S:.0f} s"
            )
            raise EngineError(msg) from error
        finally:
            if found is None:
                await self._end_process()
        self._address = found
        self._port = found.port

    async def _running(self) -> _Address | None:
        """Return the address of this directory's server if it answers, else None."""
        address = await asyncio.to_thread(self._read_lock)
        if address is None:
            return None
        try:
            connection = await asyncpg.connect(
                host=address.host,
                port=address.port,
                user="postgres",
                password=os.environ.get("BBBMETER_EMBEDDED_PASSWORD"),
                database="postgres",
                ssl=False,
                timeout=ANSWER_TIMEOUT_S,
            )
        except asyncpg.InvalidPasswordError as error:
            msg = (
                f"the embedded engine in {self.data_dir} runs with another "
                "BBBMETER_EMBEDDED_PASSWORD: set the same one here"
            )
            raise EngineError(msg) from error
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None
        try:
            # An old lock file may name a port that now belongs to another directory's engine.
            if connection.get_server_pid() != address.pid:
                return None
        finally:
            connection.terminate()
        log.debug("engine_joined", data_dir=str(self.data_dir), port=address.port, pid=address.pid)
        return address

    def _read_lock(self) -> _Address | None:
        """Return the address in the lock file if its server is ready, else None."""
        if self.data_dir == MEMORY:
            return None
        try:
            held = json.loads((self.data_dir / LOCK_NAME).read_text(encoding="utf-8"))
            if held["pid"] and held["port"] and held["dir"] == str(self.data_dir.resolve()):
                return _Address(str(held["host"]), int(held["port"]), int(held["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def _starting(self) -> bool:
        """Return whether another process seems to be starting the server now.

        This only avoids needless attempts: the server itself makes sure that there is only one.
        """
        file = self.data_dir / LOCK_NAME
        try:
            held = json.loads(file.read_text(encoding="utf-8"))
            young = time.time() - file.stat().st_mtime < STARTING_S
            return bool(held["pid"]) and held["port"] is None and young and _lives(held["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return False

    async def _launch(self) -> _Address | None:
        """Start the server; return None if another process took the directory meanwhile.

        The server ends when this process does. It runs in a separate process session, so that
        Ctrl-C reaches this process first, which then stops the server cleanly.
        """
        folder = engine_folder()
        node = await asyncio.to_thread(find_node)
        data = "memory" if self.data_dir == MEMORY else str(self.data_dir)
        self._last_words.clear()
        arguments = ["--data", data, "--port", str(self._port), "--parent-pid", str(os.getpid())]
        process = self._process = await asyncio.create_subprocess_exec(
            str(node),
            str(folder / "server.mjs"),
            *arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = asyncio.create_task(
            self._forward_stderr(process), name="embedded-engine-stderr"
        )
        line = await process.stdout.readline() if process.stdout else b""
        if line:
            said = json.loads(line)
            log.info("engine_started", data_dir=data, port=said["port"], pid=said["pid"])
            return _Address(said["host"], said["port"], said["pid"])
        await self._reader
        code = await process.wait()
        self._process = self._reader = None
        if code == _SERVED_BY_ANOTHER:
            return None
        reason = " | ".join(self._last_words) or f"exit code {code}"
        msg = f"the embedded engine did not start: {reason}"
        raise EngineError(msg)

    async def _forward_stderr(self, process: asyncio.subprocess.Process) -> None:
        """Log the server's stderr until it ends; lines about the engine itself are warnings."""
        if process.stderr is None:
            return
        async for raw in process.stderr:
            line = raw.decode(errors="replace").rstrip()
            self._last_words.append(line)
            level = log.warning if line.startswith("engine ") else log.debug
            level("engine_says", line=line)

    async def _keep_alive(self) -> None:
        """Wait until the server is gone, then start it again on the same port.

        This applies to every server, also one that another process started.
        """
        while True:
            await self._until_gone()
            log.warning(
                "engine_lost", data_dir=str(self.data_dir), last_words=list(self._last_words)
            )
            if self.data_dir == MEMORY:
                return  # its data are lost: starting an empty engine would only hide that
            pause_s = RESTART_PAUSE_S
            former = self._address
            while True:
                try:
                    await self._join_or_launch()
                    break
                except EngineError as error:
                    log.error("engine_restart_failed", error=str(error), retry_s=pause_s)
                    await asyncio.sleep(pause_s)
                    pause_s = min(pause_s * 2, RESTART_PAUSE_MAX_S)
            if former and self._address and former.port != self._address.port:
                log.warning("engine_moved", old_port=former.port, new_port=self._address.port)

    async def _until_gone(self) -> None:
        """Return when the server's process has ended or no longer uses the directory."""
        if self._process is not None:
            await self._process.wait()
            if self._reader is not None:
                await self._reader
            self._process = self._reader = None
            return
        while await asyncio.to_thread(self._still_served):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(GUARD_INTERVAL_S)

    def _still_served(self) -> bool:
        """Return whether the joined server still uses the directory and its process lives."""
        held = self._read_lock()
        if held is None or self._address is None or held.pid != self._address.pid:
            return False
        return _lives(held.pid)

    async def _end_process(self) -> None:
        """Terminate the server that was started here; kill it if it does not end in time."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            log.warning("engine_killed", data_dir=str(self.data_dir), pid=process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader
            self._reader = None
