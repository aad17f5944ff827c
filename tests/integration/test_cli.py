"""The command line as a user meets it: processes, their output and their exit codes."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from pydantic import SecretStr

from collector import __version__
from collector.bbb.checksum import verify
from collector.database.upkeep import settle, update_sessions
from collector.model import Batch, PollRow
from collector.settings import ColumnstoreSettings, RetentionSettings
from collector.settings.file import load_settings
from collector.simulator import Fleet, FleetPlan
from collector.simulator.command import settings_toml
from collector.simulator.plan import sim_tenants
from collector.simulator.server import SimulatedFleet
from collector.storage.spool import Spool
from tests.support import fake_servers
from tests.support.feed import Feed
from tests.support.shell import DAY, Done, Shell

SECRET = "the-secret-of-the-simulated-fleet"
PASSWORD = "hush-hush"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections, and that nobody else can take meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
async def fleet() -> AsyncIterator[SimulatedFleet]:
    """Two simulated servers."""
    start = datetime.now(UTC)
    plan = FleetPlan(
        seed=3, start=start, end=start + timedelta(hours=1), tenants=sim_tenants(2), servers=2
    )
    async with SimulatedFleet(Fleet(plan), secret=SecretStr(SECRET)) as simulated:
        yield simulated


# -- what needs no database ---------------------------------------------------------------------


async def test_version_and_help(bbbmeter: Shell) -> None:
    """Without a settings file there are the version and a list of all commands."""
    assert await bbbmeter("--version") == Done(0, f"bbbmeter {__version__}\n", "")
    shown = await bbbmeter("--help")
    assert (shown.code, shown.err) == (0, "")
    listed = {line.split()[0] for line in shown.out.partition("Commands")[2].splitlines() if line}
    commands = {"init", "check", "migrate", "run", "report", "psql", "demo", "simulate"}
    assert commands <= listed


async def test_init_writes_settings_once(bbbmeter: Shell) -> None:
    """The file is private and valid, is not overwritten unasked, and a bad path is an error."""
    done = await bbbmeter("init")
    assert (done.code, done.err) == (0, ""), done.said
    assert "bbbmeter check" in done.out
    assert stat.S_IMODE(bbbmeter.config.stat().st_mode) == 0o600
    settings = load_settings(bbbmeter.config)
    assert settings.poll_interval_s == 30

    bbbmeter.config.write_text("mine", encoding="utf-8")
    (await bbbmeter("init")).require_refusal("bbbmeter.toml", "exists", "--force")
    assert bbbmeter.config.read_text(encoding="utf-8") == "mine"
    assert (await bbbmeter("init", "--force")).code == 0
    assert load_settings(bbbmeter.config) == settings
    (await bbbmeter("init", "-c", "no/such/folder.toml")).require_refusal("cannot be written")


async def test_run_without_servers(bbbmeter: Shell) -> None:
    """A collector with nothing to do says so and ends, whether it has a file or not."""
    (await bbbmeter("run")).require_refusal("server: there is no bbbmeter.toml here")
    server = '[[server]]\nname = "b"\nurl = "http://b.invalid/"\nsecret = "s"\nenabled = false\n'
    bbbmeter.configure("embedded:data", server)
    (await bbbmeter("run")).require_refusal("bbbmeter.toml", "server: no server to poll")
    (await bbbmeter("run", "-c", "other.toml")).require_refusal("other.toml", "cannot be read")


@pytest.mark.parametrize("command", ["report", "migrate", "run", "psql", "check"])
async def test_a_database_that_is_away(bbbmeter: Shell, closed_port: int, command: str) -> None:
    """Every command says what it could not do, never with the password."""
    server = f'[[server]]\nname = "b"\nurl = "http://127.0.0.1:{closed_port}/"\nsecret = "s"\n'
    bbbmeter.configure(f"postgresql://meter:{PASSWORD}@127.0.0.1:{closed_port}/meter", server)
    done = await bbbmeter(command, PATH=str(bbbmeter.folder))
    assert PASSWORD not in done.said
    if command == "check":
        assert (done.code, done.err) == (1, "")
        assert "FAILED  database: connect: " in done.out
        assert "FAILED  server[b]: no connection: " in done.out
    else:
        done.require_refusal("connect: ", "Connect call failed")


async def test_a_database_that_is_no_url(bbbmeter: Shell) -> None:
    """A mistake in the DSN is named, without the part of the password that it cut out."""
    bbbmeter.configure("mysql://meter@127.0.0.1/meter")
    (await bbbmeter("report")).require_refusal("database: must begin with embedded: or postgresql:")
    # A password that was not percent-encoded: its first part is taken for a port.
    for bad in ("#", "/", "?"):
        bbbmeter.configure(f"postgresql://meter:{PASSWORD}{bad}x@127.0.0.1/meter")
        done = await bbbmeter("report")
        done.require_refusal("database is not a valid URL; expected postgresql://", "%2F")
        assert PASSWORD not in done.said
    assert "database is not a valid URL" in (await bbbmeter("check")).out


# -- migrate ------------------------------------------------------------------------------------


async def schema_names(dsn: str) -> tuple[bool, bool]:
    """Return whether the database has our schema, and the extension."""
    connection = await asyncpg.connect(dsn)
    row = await connection.fetchrow(
        "SELECT to_regnamespace('meter') IS NOT NULL, "
        "EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')"
    )
    await connection.close()
    assert row is not None
    return row[0], row[1]


async def test_migrate(bbbmeter: Shell, empty_dsn: str) -> None:
    """A dry run changes nothing, the first run names what it applied, the second has nothing."""
    bbbmeter.configure(empty_dsn)
    before = await schema_names(empty_dsn)
    assert not before[0]
    dry = await bbbmeter("migrate", "--dry-run")
    assert (dry.code, dry.err) == (0, ""), dry.said
    assert "would apply 0001_tables.sql, 0002_" in dry.out
    assert await schema_names(empty_dsn) == before

    first = await bbbmeter("migrate")
    assert (first.code, first.err) == (0, ""), first.said
    assert first.out.startswith("applied 0001_tables.sql, 0002_")
    assert await schema_names(empty_dsn) == (True, True)
    second = await bbbmeter("migrate")
    assert second.code == 0
    assert second.out.startswith("the tables are up to date\n")

    bbbmeter.configure(empty_dsn, "large_session_participants = 50\n")
    refused = await bbbmeter("migrate")
    refused.require_refusal("large_session_participants (100 → 50)", "migrate --rebuild-days")
    rebuilt = await bbbmeter("migrate", "--rebuild-days")
    assert rebuilt.code == 0, rebuilt.said
    assert (await bbbmeter("migrate")).code == 0


async def test_a_database_without_our_tables(bbbmeter: Shell, empty_dsn: str) -> None:
    """Whoever reads or collects is told to run `bbbmeter migrate`."""
    server = '[[server]]\nname = "b"\nurl = "http://127.0.0.1:1/"\nsecret = "s"\n'
    bbbmeter.configure(empty_dsn, server)
    for command in (["report"], ["report", "--tenant", "acme"], ["report", "--by", "room"]):
        (await bbbmeter(*command)).require_refusal("run `bbbmeter migrate`")
    (await bbbmeter("run")).require_refusal("run `bbbmeter migrate`")
    checked = await bbbmeter("check")
    assert checked.code == 1
    assert "run `bbbmeter migrate`" in checked.out or "no TimescaleDB" in checked.out


# -- check --------------------------------------------------------------------------------------


def lines_of(done: Done) -> dict[str, str]:
    """Return what `check` said of each thing it looked at: `server[sim01]` → `ok: reachable …`."""
    lines = {}
    for line in done.out.splitlines():
        state, what, text = line.split(maxsplit=2)
        assert what not in lines
        lines[what.rstrip(":")] = f"{state}: {text}"
    return lines


async def test_check(bbbmeter: Shell, dsn: str, fleet: SimulatedFleet) -> None:
    """A line for each server and for the database, code 0 if all is well and 1 if not."""
    head: dict[str, str | int] = {"database": dsn}
    whole = settings_toml(fleet, {"secret": SECRET}, head)
    off = '\n[[server]]\nname = "off"\nurl = "http://off.invalid/"\nsecret = "s"\nenabled = false\n'
    bbbmeter.config.touch(mode=0o600)
    bbbmeter.config.write_text(whole + off, encoding="utf-8")
    done = await bbbmeter("check")
    assert (done.code, done.err) == (0, ""), done.said
    lines = lines_of(done)
    assert list(lines)[-1] == "database"
    servers = {"server[sim01]", "server[sim02]", "server[off]"}
    assert set(lines) == {*servers, "attribution", "database"}
    for name in ("sim01", "sim02"):
        assert lines[f"server[{name}]"].startswith("ok: reachable in ")
        assert "checksum accepted" in lines[f"server[{name}]"]
    assert lines["server[off]"] == "-: not enabled"
    assert lines["database"].startswith("ok: PostgreSQL ")
    assert "TimescaleDB 2." in lines["database"]

    now = fleet.now()
    fleet.fault("sim01", "http_502", now, now + timedelta(hours=1))
    bbbmeter.config.write_text(whole.replace(SECRET, f"{SECRET}, but wrong"), encoding="utf-8")
    done = await bbbmeter("check")
    assert (done.code, done.err) == (1, "")
    lines = lines_of(done)
    assert lines["server[sim01]"].startswith("FAILED: HTTP status 502, from http://")
    assert lines["server[sim01]"].endswith("bbb-conf --secret` shows?")
    assert lines["server[sim02]"].startswith("FAILED: reachable, but rejects the checksum")
    assert lines["server[sim02]"].endswith("wrong secret, or algorithm not allowed")
    assert lines["database"].startswith("ok:")
    assert SECRET not in done.said

    bbbmeter.config.write_text(f'database = "{dsn}"\nbogus = 1\n', encoding="utf-8")
    (await bbbmeter("check")).require_refusal("bogus: unknown key")
    bbbmeter.config.write_text(f'database = "{dsn}"\n', encoding="utf-8")
    assert "server: no server to poll; add an enabled [[server]]" in (await bbbmeter("check")).out


async def test_secrets_that_others_can_read(bbbmeter: Shell, dsn: str) -> None:
    """A settings file with secrets must be its owner's; without any, its mode does not matter."""
    server = '[[server]]\nname = "b"\nurl = "http://b.invalid/"\nsecret = "hush"\n'
    for more, mode, warned in ((server, 0o600, False), (server, 0o640, True), ("", 0o644, False)):
        bbbmeter.configure(dsn, more)
        bbbmeter.config.chmod(mode)
        done = await bbbmeter("report")
        assert (done.code, "chmod 600" in done.err) == (0, warned), done.said
        assert "hush" not in done.said


async def test_a_database_without_tables(bbbmeter: Shell, empty_dsn: str) -> None:
    """Each command that needs them says what to do."""
    bbbmeter.configure(empty_dsn)
    for command in (["report"], ["verify"], ["tenant", "grant-sql", "acme"]):
        (await bbbmeter(*command)).require_refusal("run `bbbmeter migrate`")


async def test_check_spares_a_load_balancer(bbbmeter: Shell, dsn: str) -> None:
    """Its tenants share `connections_per_host`, as they do in ticks."""
    running = most = 0

    async def counts(head: bytes, writer: asyncio.StreamWriter) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.05)
        running -= 1
        query = head.split(b" ")[1].decode().partition("?")[2]
        right = verify("getMeetings", query, SECRET)
        body = fake_servers.EMPTY if right else fake_servers.REFUSED
        writer.write(fake_servers.response(body))

    async with fake_servers.serving(counts) as balancer:
        lines = [f'database = "{dsn}"', "connections_per_host = 2"]
        for number in range(6):
            url = f"http://127.0.0.1:{balancer.port}/t{number}/bigbluebutton/"
            lines += ["[[server]]", f'name = "t{number}"', f'url = "{url}"']
            lines += [f'secret = "{SECRET}"']
        bbbmeter.config.write_text("\n".join(lines), encoding="utf-8")
        done = await bbbmeter("check")
    assert done.code == 0, done.said
    assert len(balancer.requests) == 12  # each one also with a wrong checksum
    assert most <= 2


# -- psql ---------------------------------------------------------------------------------------

STATEMENTS = "SELECT 'Mr. ' ||\n 'X' AS who;\nSELECT no_such_column;\n\nSELECT '[/b]' || 'old'"


@pytest.mark.skipif(shutil.which("psql") is None, reason="there is no psql")
async def test_psql(bbbmeter: Shell, empty_dsn: str) -> None:
    """Statements from standard input go to psql where there is one."""
    bbbmeter.configure(empty_dsn)
    done = await bbbmeter("psql", stdin=STATEMENTS)
    assert done.code == 0, done.said
    assert "Mr. X" in done.out
    assert "[/b]old" in done.out
    assert 'column "no_such_column" does not exist' in done.err


async def test_psql_where_there_is_none(bbbmeter: Shell, empty_dsn: str) -> None:
    """A plain prompt does the same: an error ends nothing, values are shown as they are."""
    bbbmeter.configure(empty_dsn)
    done = await bbbmeter("psql", stdin=STATEMENTS, PATH=str(bbbmeter.folder))
    assert (done.code, done.err) == (0, ""), done.said
    assert "Mr. X" in done.out
    assert "who" in done.out
    assert '42703: column "no_such_column" does not exist' in done.out
    assert "[/b]old" in done.out
    done = await bbbmeter("psql", stdin="\\q\nSELECT 'unread';", PATH=str(bbbmeter.folder))
    assert (done.code, done.out) == (0, "")


async def test_psql_never_shows_the_password(bbbmeter: Shell) -> None:
    """It goes by the environment: a command's arguments are for all users to see."""
    program = bbbmeter.folder / "psql"
    program.write_text('#!/bin/sh\necho "$@"\necho "$PGPASSWORD"\nexit 3\n', encoding="utf-8")
    program.chmod(0o700)
    bbbmeter.configure(
        "postgresql://meter:hush%2Fhush@db.invalid,db2.invalid:5433/m?sslmode=prefer"
    )
    done = await bbbmeter("psql", PATH=f"{bbbmeter.folder}:{os.environ['PATH']}")
    assert done == Done(
        3,
        "-X postgresql://meter@db.invalid,db2.invalid:5433/m?sslmode=prefer\nhush/hush\n",
        "",
    )


# -- tenant, verify, spool ----------------------------------------------------------------------


async def test_a_tenants_role(metered: Shell, feed: Feed) -> None:
    """The SQL is printed and nothing is done; it names the tenant, and --revoke undoes it."""
    done = await metered("tenant", "grant-sql", "acme", "--role", "somebody")
    assert (done.code, done.err) == (0, "")
    assert 'CREATE ROLE "somebody" NOLOGIN' in done.out
    assert "'acme'" in done.out
    undone = await metered("tenant", "grant-sql", "acme", "--revoke")
    assert re.search(r'DROP ROLE IF EXISTS "\w+_tenant_\d+"', undone.out)
    assert await feed.pool.fetch("SELECT * FROM meter.tenant_role") == []
    (await metered("tenant", "grant-sql", "nobody")).require_refusal("no tenant 'nobody'")
    bad = await metered("tenant", "grant-sql", "acme", "--role", 'a"b')
    assert bad.code == 2
    assert "lower-case letters" in bad.err


async def test_verify(metered: Shell, feed: Feed, empty_dsn: str) -> None:
    """Exit code 0 where all is as it should be, else 1 with what differs, as table or JSON."""
    tables = {
        "retention": RetentionSettings.model_fields,
        "columnstore": ColumnstoreSettings.model_fields,
    }
    for_ever = "".join(
        f"[{table}]\n" + "".join(f"{key} = 0\n" for key in keys) for table, keys in tables.items()
    )
    metered.configure(empty_dsn, for_ever)
    assert (await metered("migrate")).code == 0
    await settle(feed.pool, timedelta(0))  # what was stored just now is judged later otherwise
    await update_sessions(feed.pool, close_after_s=120)
    done = await metered("verify", *DAY)
    assert (done.code, done.err) == (0, ""), done.said
    assert "differs" not in done.out
    await feed.pool.execute(
        "UPDATE meter.session SET participant_seconds = participant_seconds + 60 "
        "WHERE max_participants = 5"
    )
    done = await metered("verify", *DAY)
    assert done.code == 1
    assert "law" in done.out
    done = await metered("verify", *DAY, "--format", "json")
    assert done.code == 1
    results = json.loads(done.out)
    assert {r["check"] for r in results if r["status"] == "differs"} == {"sessions"}
    done = await metered("verify", *DAY, "--repair")
    assert (done.code, "computed" in done.err) == (0, True), done.said
    assert (await metered("verify", *DAY)).code == 0


async def test_spool(bbbmeter: Shell) -> None:
    """What waits and what was refused is listed; a batch is shown, tried again, or deleted."""
    bbbmeter.configure("postgresql://nobody@127.0.0.1:9/nothing")
    assert (await bbbmeter("spool", "list")).code == 0
    with contextlib.closing(Spool.open(bbbmeter.folder / "spool", 1024**2)) as spool:
        for n in range(2):
            ts = datetime(2026, 3, 2, 10, n, tzinfo=UTC)
            poll = PollRow(ts, "bbb1", ok=True, outcome="ok", latency_ms=5, seconds=60)
            spool.quarantine(Batch(polls=[poll]), "write: value too long (DataError)")
    done = await bbbmeter("spool", "list")
    assert "DataError" in done.out
    first, second = re.findall(r"\b0:\d+", done.out)
    done = await bbbmeter("spool", "show", first)
    assert json.loads(done.out.splitlines()[0])["server"] == "bbb1"
    assert (await bbbmeter("spool", "retry", first)).code == 0
    assert (await bbbmeter("spool", "drop", "all")).out.startswith(f"{second}: deleted")
    (await bbbmeter("spool", "show", first)).require_refusal(first)
    with contextlib.closing(Spool.open(bbbmeter.folder / "spool", 1024**2)) as spool:
        assert (spool.polls, spool.quarantined) == (1, 0)
