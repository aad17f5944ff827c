"""`bbbmeter check`: try every server and the database, and print one line for each."""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from itertools import combinations
from pathlib import Path

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from collector.bbb import BbbClients, Reply
from collector.clock import MAX_SKEW_S
from collector.commands.attributed import Attributed
from collector.commands.options import Config, config_path, load, no_server
from collector.daemon.daemon import CONNECTIONS
from collector.database import Connection, borrowed, open_pool
from collector.database.deadlines import READ_DEADLINE_S
from collector.database.engine import parse_embedded
from collector.database.migrate import missing_files
from collector.database.timescale import look
from collector.database.trial import Trial, may_write, try_out
from collector.errors import (
    ApiError,
    BbbmeterError,
    HttpStatusError,
    NotXmlError,
    PollError,
    RedirectError,
    TlsError,
)
from collector.model import Answer
from collector.settings import ServerSettings, Settings
from collector.sources.polling.parser import parse_meetings

# Days of validity below which a certificate is reported as SOON: time to renew it.
TLS_WARNING_DAYS = 21
# Seconds by which the database's clock may differ from this machine's before it is called WRONG.
# The collector's clock sets the time of a poll; the database's sets what is recent and what is old.
MAX_DATABASE_SKEW_S = 5.0
_ON_TWO = (
    "Shared meetings count once if their tenants agree or one is unknown, else twice "
    "(docs/runbooks/meetings-on-two-servers.md)"
)
# HTTP statuses with which a server or a proxy rejects a request because of its checksum.
_REJECTS = {401, 403}


def check(config: Config = None) -> None:
    """Check the settings, then try every server and the database. Exit code 1 if one fails."""
    settings = load(config)
    if not asyncio.run(check_all(settings, Console(highlight=False), config_path(config))):
        raise typer.Exit(1)


async def check_all(settings: Settings, console: Console, path: Path | None) -> bool:
    """Print a line for each server and for the database; return whether all of them are fine.

    `path` is the file of the settings.
    """
    async with BbbClients() as clients:
        slots = asyncio.Semaphore(settings.concurrent_requests)
        hosts: dict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(settings.connections_per_host)
        )

        shown: dict[str, set[str]] = {}
        attributed = Attributed(settings)

        async def one(server: ServerSettings) -> bool:
            async with hosts[server.host], slots:
                ok, text = await _check_server(clients, settings, server, shown, attributed)
            _print(console, ok, f"server[{server.name}]", text)
            return ok

        fine = await asyncio.gather(*(one(server) for server in settings.enabled_servers))
    for first, second in combinations(sorted(shown), 2):
        if both := len(shown[first] & shown[second]):
            text = f"shares {both} of its meetings with {second}. {_ON_TWO}"
            _print(console, None, f"server[{first}]", text)
    for server in settings.server:
        if not server.enabled:
            _print(console, None, f"server[{server.name}]", "not enabled")
    if not settings.server:
        _print(console, False, "server", no_server(path))  # noqa: FBT003 - says the state
    for line in attributed.lines():
        _print(console, None, "attribution", line)
    ok, text = await _check_database(settings)
    _print(console, ok, "database", text)
    return all(fine) and bool(settings.server) and ok


async def _check_server(
    clients: BbbClients,
    settings: Settings,
    server: ServerSettings,
    shown: dict[str, set[str]],
    attributed: Attributed,
) -> tuple[bool, str]:
    """Return whether a server is fine, and the words for it.

    Adds its meetings to `attributed`, and their ids to `shown`.
    """
    parse = partial(parse_meetings, metadata_keys=attributed.metadata_keys)
    try:
        started_s = time.monotonic()
        reply = await _ask(clients, settings, server, parse)
        latency_ms = round((time.monotonic() - started_s) * 1000)
    except ApiError as error:
        if error.key == "checksumError":
            reason = "wrong secret, or algorithm not allowed"
            return False, f"reachable, but rejects the checksum ({server.checksum}): {reason}"
        return False, f"reachable, but {error}"
    except PollError as error:
        return False, _failure(error, server)
    except BbbmeterError as error:
        return False, str(error)
    try:
        wrong = await _ask(clients, settings, _with_wrong_secret(server), parse)
    except PollError as error:
        rejected = isinstance(error, ApiError) or (
            isinstance(error, HttpStatusError) and error.status in _REJECTS
        )
        tried = "a wrong one rejected" if rejected else f"no clear answer to a wrong one ({error})"
    else:
        return False, _accepts_anything(len(reply.value.meetings) + len(wrong.value.meetings))
    # Clients choose the internal ids of breakouts.
    shown[server.name] = {m.internal_id for m in reply.value.meetings if not m.breakout}
    tenants = attributed.add(server, reply.value.meetings)
    return True, ", ".join([*_notes(reply, tried, latency_ms, datetime.now(UTC)), *tenants])


def _failure(error: PollError, server: ServerSettings) -> str:
    """Return the words for a failure, with the address that was called and what to try."""
    text = str(error) or error.full_outcome.replace("_", " ")
    hint = ""
    if isinstance(error, TlsError):
        hint = (
            ". If a private authority signed the certificate, set ca_file; if the server speaks "
            "http, begin url with http://"
        )
    elif isinstance(error, HttpStatusError | NotXmlError | RedirectError):
        hint = ". Is url the address that `bbb-conf --secret` shows?"
    return f"{text}, from {server.api_url / 'getMeetings'}{hint}"


async def _ask(
    clients: BbbClients,
    settings: Settings,
    server: ServerSettings,
    parse: Callable[[bytes], Answer],
) -> Reply[Answer]:
    made = clients.make([server], "getMeetings", parse, max_body_bytes=settings.max_body_bytes)
    return await made[server.name].ask()


def _with_wrong_secret(server: ServerSettings) -> ServerSettings:
    """Return the server with a secret that nobody has: its checksums have the right form."""
    wrong = {"secret": SecretStr(secrets.token_hex(32)), "secret_env": None, "secret_file": None}
    return server.model_copy(update=wrong)


def _accepts_anything(sessions: int) -> str:
    problem = "reachable, but accepts a wrong checksum too, so the secret is not tested"
    if sessions:
        return (
            f"{problem}, and everybody can read its sessions: switch on the test of checksums, in "
            "the server or in what answers for it"
        )
    return (
        f"{problem}. It listed no sessions: a load balancer with getMeetings switched off answers "
        "like this, and would be metered as empty. Switch getMeetings on (in Scalelite, "
        "GET_MEETINGS_API_DISABLED), or enter the servers behind it instead"
    )


def _notes(reply: Reply[Answer], tried: str, latency_ms: int, now: datetime) -> Iterable[str]:
    sessions = len(reply.value.meetings)
    yield f"reachable in {latency_ms} ms"
    yield "checksum accepted"
    yield tried
    yield f"{sessions} session{'' if sessions == 1 else 's'}"
    if reply.value.skipped:
        yield f"{reply.value.skipped} unreadable and not counted"
    if reply.clock_skew_s is None:
        yield "clock unknown"
    else:
        yield _clock(
            reply.clock_skew_s,
            MAX_SKEW_S,
            "bbbmeter corrects session starts; set the server's clock",
        )
    if reply.tls_expires_at is None:
        yield "no TLS"
    else:
        days = (reply.tls_expires_at - now).days
        yield f"certificate expires in {days} days" + (" (SOON)" if days < TLS_WARNING_DAYS else "")


def _clock(skew_s: float, max_skew_s: float, advice: str) -> str:
    return f"clock {round(skew_s):+d} s" + (
        f" (WRONG: {advice})" if abs(skew_s) > max_skew_s else ""
    )


async def _check_database(settings: Settings) -> tuple[bool, str]:
    database = settings.database.get_secret_value()
    try:
        async with open_pool(database, max_size=CONNECTIONS) as pool:
            trial = await try_out(pool, CONNECTIONS)
            if trial.refusal is not None:
                return False, trial.refusal
            async with borrowed(pool, "check", READ_DEADLINE_S) as connection:
                found = await look(connection)
                if found.refusal is not None:
                    return False, f"{found}: {found.refusal}"
                behaved = ", ".join([str(found), *_database_notes(trial)])
                ok, text = await _check_tables(
                    connection, embedded=parse_embedded(database) is not None
                )
    except BbbmeterError as error:
        return False, str(error)
    return ok, f"{behaved}, {text}"


async def _check_tables(connection: Connection, *, embedded: bool) -> tuple[bool, str]:
    missing = await missing_files(connection)
    if not missing:
        refusal = await may_write(connection)
        return refusal is None, f"but {refusal}" if refusal else "schema up to date"
    if embedded:
        return True, "schema not up to date: `bbbmeter run` will migrate it"
    return False, f"but {', '.join(missing)} is missing: run `bbbmeter migrate`"


def _database_notes(trial: Trial) -> Iterable[str]:
    yield f"{trial.at_once} connections at once with prepared statements"
    if trial.pooler is not None:
        yield f"through a pooler such as PgBouncer in {trial.pooler} mode"
    yield _clock(
        trial.clock_skew_s,
        MAX_DATABASE_SKEW_S,
        "set the clocks of this machine and of the database's",
    )


def _print(console: Console, ok: bool | None, what: str, text: str) -> None:  # noqa: FBT001
    mark, style = {True: ("ok", "green"), False: ("FAILED", "red"), None: ("-", "")}[ok]
    console.print(Text(f"{mark:<7}", style), Text(f"{what}: {text}"), soft_wrap=True)
