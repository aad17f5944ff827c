"""`bbbmeter check`: call every server and the database, and print one line for each."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

import typer
from rich.console import Console
from rich.text import Text

from collector.bbb import BbbClients, Reply
from collector.clock import MAX_SKEW_S
from collector.commands.options import Config, load
from collector.database import open_pool
from collector.database.engine import parse_embedded
from collector.database.migrate import missing_files
from collector.database.timescale import look
from collector.errors import ApiError, BbbmeterError, PollError
from collector.model import Answer
from collector.settings import ServerSettings, Settings
from collector.sources.polling.parser import parse_meetings

# Days of validity below which a certificate is reported as SOON: time to renew it.
TLS_WARNING_DAYS = 21


def check(config: Config = None) -> None:
    """Check the settings, then call every server and the database. Exit code 1 if one fails."""
    settings = load(config)
    if not asyncio.run(check_all(settings, Console(highlight=False))):
        raise typer.Exit(1)


async def check_all(settings: Settings, console: Console) -> bool:
    """Print a line for each server and for the database; return whether all of them are fine."""
    async with BbbClients() as clients:
        slots = asyncio.Semaphore(settings.concurrent_requests)
        hosts: dict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.connections_per_host)
        )

        async def one(server: ServerSettings) -> bool:
            async with hosts[server.host], slots:
                ok, text = await _check_server(clients, settings, server)
            _print(console, ok, f"server[{server.name}]", text)
            return ok

        fine = await asyncio.gather(*(one(server) for server in settings.enabled_servers))
    for server in settings.server:
        if not server.enabled:
            _print(console, None, f"server[{server.name}]", "not enabled")
    if not settings.server:
        problem = "no server to poll; add a [[server]] entry"
        _print(console, False, "server", problem)  # noqa: FBT003 - says the state
    ok, text = await _check_database(settings)
    _print(console, ok, "database", text)
    return all(fine) and bool(settings.server) and ok


async def _check_server(
    clients: BbbClients, settings: Settings, server: ServerSettings
) -> tuple[bool, str]:
    try:
        made = clients.make(
            [server], "getMeetings", parse_meetings, max_body_bytes=settings.max_body_bytes
        )
        started_s = time.monotonic()
        reply = await made[server.name].ask()
        latency_ms = round((time.monotonic() - started_s) * 1000)
    except ApiError as error:
        if error.key == "checksumError":
            reason = "wrong secret, or algorithm not allowed"
            return False, f"reachable, but rejects the checksum ({server.checksum}): {reason}"
        return False, f"reachable, but {error}"
    except PollError as error:
        return False, f"{error.full_outcome}" + (f": {error}" if str(error) else "")
    except BbbmeterError as error:
        return False, str(error)
    notes = list(_notes(reply, latency_ms, datetime.now(UTC)))
    return True, ", ".join(notes)


def _notes(reply: Reply[Answer], latency_ms: int, now: datetime) -> Iterable[str]:
    sessions = len(reply.value.meetings)
    yield f"reachable in {latency_ms} ms"
    yield "checksum accepted"
    yield f"{sessions} session{'' if sessions == 1 else 's'}"
    if reply.value.skipped:
        yield f"{reply.value.skipped} unreadable and not counted"
    if reply.clock_skew_s is None:
        yield "clock unknown"
    else:
        yield f"clock {reply.clock_skew_s:+.0f} s" + (
            " (WRONG: bbbmeter corrects session starts; set the server's clock)"
            if abs(reply.clock_skew_s) > MAX_SKEW_S
            else ""
        )
    if reply.tls_expires_at is None:
        yield "no TLS"
    else:
        days = (reply.tls_expires_at - now).days
        yield f"certificate expires in {days} days" + (" (SOON)" if days < TLS_WARNING_DAYS else "")


async def _check_database(settings: Settings) -> tuple[bool, str]:
    database = settings.database.get_secret_value()
    try:
        async with (
            open_pool(database, max_size=1) as pool,
            pool.acquire() as connection,
        ):
            found = await look(connection)
            if found.refusal is not None:
                return False, f"{found}: {found.refusal}"
            missing = await missing_files(connection)
    except BbbmeterError as error:
        return False, str(error)
    if not missing:
        return True, f"{found}, schema up to date"
    if parse_embedded(database) is not None:
        return True, f"{found}, schema not up to date: `bbbmeter run` will migrate it"
    return False, f"{found}, but {', '.join(missing)} is missing: run `bbbmeter migrate`"


def _print(console: Console, ok: bool | None, what: str, text: str) -> None:  # noqa: FBT001
    mark, style = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("-", "")}[ok]
    console.print(Text(f"{mark:<7}", style), Text(f"{what}: {text}"), soft_wrap=True)
