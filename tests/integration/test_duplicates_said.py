"""One BigBlueButton with two entries: what check, run and report say of it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import asyncpg
import pytest

from collector.bbb.checksum import verify
from collector.database.upkeep import update_sessions
from tests.support.daemons import INTERVAL_S, collecting, until_polled
from tests.support.fake_servers import REFUSED, SECRET, response, serving
from tests.support.feed import Feed, Run
from tests.support.hostile_servers import ONE
from tests.support.shell import Shell


async def answer(head: bytes, writer: asyncio.StreamWriter) -> None:
    """Answer as a BigBlueButton with one meeting does."""
    query = head.split(b" ")[1].decode().partition("?")[2]
    writer.write(response(ONE if verify("getMeetings", query, SECRET) else REFUSED))


@pytest.fixture
async def two_entries() -> AsyncIterator[str]:
    """Two entries for one server, by two names of its host."""
    async with serving(answer) as server:
        yield "".join(
            f'[[server]]\nname = "{name}"\nurl = "http://{host}:{server.port}/bigbluebutton/"\n'
            f'secret = "{SECRET}"\n'
            for name, host in (("bbb1", "127.0.0.1"), ("bbb2", "localhost"))
        )


async def test_check_names_them(bbbmeter: Shell, dsn: str, two_entries: str) -> None:
    """Both servers are fine, and a line says what they share."""
    bbbmeter.configure(dsn, two_entries)
    done = await bbbmeter("check")
    assert done.code == 0, done.said
    assert (
        "server[bbb1]: shares 1 of its meetings with bbb2. Shared meetings count once if"
        in done.out
    )


async def test_run_finds_them_and_counts_once(bbbmeter: Shell, dsn: str, two_entries: str) -> None:
    """It is in the log and in the metrics, and from then on nothing counts twice."""
    bbbmeter.configure(dsn, f"poll_interval_s = {INTERVAL_S}\n[http]\nport = 0\n{two_entries}")
    async with collecting(bbbmeter.config) as collector:
        said = await collector.until("meetings_on_two_servers")
        assert (said["server"], said["other_server"]) == ("bbb2", "bbb1")
        assert (said["sessions"], said["counted"]) == (1, "once")
        found = datetime.now(UTC)
        await until_polled(dsn, 2, f"ts > '{found + timedelta(seconds=INTERVAL_S)}'")
        port = (await collector.until("collecting"))["health_port"]
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}/metrics") as response,
        ):
            assert 'bbbmeter_duplicate_sessions{counted="once"} 1.0' in await response.text()
        await collector.end()
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(
        "SELECT ts, count(*) AS shown, count(*) FILTER (WHERE NOT breakout) AS counted "
        "FROM meter.sample WHERE ts > $1 GROUP BY ts",
        found,
    )
    await connection.close()
    assert rows
    assert {(row["shown"], row["counted"]) for row in rows} == {(2, 1)}


async def test_report_names_what_counts_twice(metered: Shell, feed: Feed) -> None:
    """Two tenants have one meeting: each of them pays, and a line says it."""
    start = datetime(2026, 3, 2, 12, tzinfo=UTC)
    end = start + timedelta(minutes=30)
    runs = [Run("bbb1", "acme", "x", start, end, 10), Run("bbb2", "law", "x", start, end, 10)]
    await feed.play(("bbb1", "bbb2"), feed.ticks(start, end), runs)
    await feed.pool.execute("SELECT meter.find_duplicates()")
    await update_sessions(feed.pool, close_after_s=120)
    arguments = ("report", "--from", "2026-03-02", "--to", "2026-03-03")
    done = await metered(*arguments, "--format", "json")
    twice = (
        "counted twice: meetings on bbb2 (tenant law) that are also on bbb1 (tenant acme): "
        "1, with 300.0 participant minutes"
    )
    assert (done.code, done.err.splitlines()[-1]) == (0, twice)
    for more in (("--tenant", "law", "--server", "bbb1"), ("--format", "csv")):
        assert (await metered(*arguments, *more)).err.splitlines()[-1] == twice
    assert not (await metered("report", "--from", "2026-03-03", "--to", "2026-03-04")).err
