"""The fleet in the database: spans in which polls are due, and what a restart reads back."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from collector.database.migrate import migrate
from collector.metering.pipeline import Pipeline
from collector.model import Answer, LastPoll, Meeting, PollResult, session_id
from collector.settings import ServerSettings, Settings, TenantSettings
from collector.simulator.plan import epoch_ms
from collector.storage.registry import last_polls, late_days, sync_fleet
from collector.storage.writer import Writer
from tests.support.settings import make_server, make_settings

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
MAX_GAP_S = 300

Span = tuple[str, int, int | None]


def at(seconds: float) -> datetime:
    """Return an instant, in seconds from START."""
    return START + timedelta(seconds=seconds)


async def sync(
    pool: asyncpg.Pool, at_s: int, *servers: ServerSettings, tenants: tuple[str, ...] = ()
) -> None:
    """Take up `servers` and `tenants` at the tick `at_s`."""
    entries = tuple(TenantSettings(name=name, title=name.upper()) for name in tenants)
    async with pool.acquire() as connection:
        await sync_fleet(connection, servers, entries, at(at_s))


async def spans(pool: asyncpg.Pool) -> list[Span]:
    """Return (server, since, until) of all spans, in seconds from START."""
    rows = await pool.fetch(
        "SELECT s.name, d.since, d.until FROM meter.server_due AS d "
        "INNER JOIN meter.server AS s ON d.server_id = s.id ORDER BY s.name, d.since"
    )

    def seconds(instant: datetime) -> int:
        return round((instant - START).total_seconds())

    return [(name, seconds(since), until and seconds(until)) for name, since, until in rows]


# -- retention --------------------------------------------------------------------------------


async def test_late_data_may_be_as_old_as_the_database_keeps(
    pool: asyncpg.Pool,
) -> None:
    """A day less than the policies keep samples and polls; any age where both are kept."""
    cases = [({"sample": 30, "poll": 40}, 29), ({"sample": 0, "poll": 12}, 11)]
    for retention, days in [*cases, ({"sample": 0, "poll": 0}, None)]:
        async with pool.acquire() as connection:
            await migrate(connection, make_settings(retention=retention))
            assert await late_days(connection) == days


# -- sync_fleet -------------------------------------------------------------------------------


async def test_polls_are_due_while_a_server_is_enabled(pool: asyncpg.Pool) -> None:
    """A span opens with a server and closes when it is disabled or leaves; each is its own."""
    one, two = make_server("bbb1"), make_server("bbb2")
    await sync(pool, 0, one, make_server("bbb2", enabled=False))
    assert await spans(pool) == [("bbb1", 0, None)]
    await sync(pool, 60, one, two)
    assert await spans(pool) == [("bbb1", 0, None), ("bbb2", 60, None)]
    await sync(pool, 120, make_server("bbb1", enabled=False), two)
    assert await spans(pool) == [("bbb1", 0, 120), ("bbb2", 60, None)]
    await sync(pool, 180, one)
    assert await spans(pool) == [("bbb1", 0, 120), ("bbb1", 180, None), ("bbb2", 60, 180)]
    await sync(pool, 240)
    assert await spans(pool) == [("bbb1", 0, 120), ("bbb1", 180, 240), ("bbb2", 60, 180)]


async def test_the_same_fleet_changes_nothing(pool: asyncpg.Pool) -> None:
    """A collector that starts again goes on in the spans there are: its absence is a hole."""
    one, off = make_server("bbb1"), make_server("bbb2", enabled=False)
    for at_s in (0, 0, 30, 3600):
        await sync(pool, at_s, one, off)
    assert await spans(pool) == [("bbb1", 0, None)]


async def test_off_and_on_within_a_tick(pool: asyncpg.Pool) -> None:
    """What is closed and opened at the same tick goes on; a span that never began is empty."""
    on, off = make_server("bbb1"), make_server("bbb1", enabled=False)
    await sync(pool, 0, on)
    await sync(pool, 60, off)
    await sync(pool, 60, on)
    assert await spans(pool) == [("bbb1", 0, None)]
    await sync(pool, 120, off)
    await sync(pool, 180, on)
    await sync(pool, 150, off)  # the clock was set back
    assert await spans(pool) == [("bbb1", 0, 120), ("bbb1", 180, 180)]
    await sync(pool, 180, on)
    assert await spans(pool) == [("bbb1", 0, 120), ("bbb1", 180, None)]


async def test_names_stay_and_titles_follow(pool: asyncpg.Pool) -> None:
    """Tenants and servers that left are kept, as figures name them; what changed is taken up."""
    await sync(pool, 0, make_server("bbb1", tenant="own"), make_server("bbb2"), tenants=("acme",))
    servers = "SELECT s.name, t.name FROM meter.server AS s INNER JOIN "
    servers += "meter.server_tenant AS w ON s.id = w.server_id AND w.until IS NULL "
    servers += "LEFT JOIN meter.tenant AS t ON w.tenant_id = t.id ORDER BY 1"
    tenants = "SELECT name, title FROM meter.tenant ORDER BY name"
    assert [tuple(r) for r in await pool.fetch(servers)] == [("bbb1", "own"), ("bbb2", None)]
    assert [tuple(r) for r in await pool.fetch(tenants)] == [("acme", "ACME"), ("own", "")]
    await sync(pool, 60, make_server("bbb1"), tenants=("own",))
    assert [tuple(r) for r in await pool.fetch(servers)] == [("bbb1", None), ("bbb2", None)]
    assert [tuple(r) for r in await pool.fetch(tenants)] == [("acme", "ACME"), ("own", "OWN")]


async def test_collectors_that_start_together(pool: asyncpg.Pool) -> None:
    """However they meet, a server has one open span and one row, and nobody fails."""
    servers = [make_server(f"bbb{number}", tenant="own") for number in range(8)]
    for at_s in (0, 60):
        await asyncio.gather(
            sync(pool, at_s, *servers),
            sync(pool, at_s + 30, *reversed(servers)),
        )
        found = await spans(pool)
        assert [name for name, _, until in found if until is None] == sorted(
            s.name for s in servers
        )
        await sync(pool, at_s + 45)
        assert not [name for name, _, until in await spans(pool) if until is None]
    assert await pool.fetchval("SELECT count(*) FROM meter.server") == 8


# -- last_polls -------------------------------------------------------------------------------


def meeting(name: str, participants: int, parent: str | None = None) -> Meeting:
    """Return a meeting of acme (or a breakout of `parent`) with invented figures."""
    return Meeting(
        internal_id=f"{name}-internal",
        external_id=name,
        created_ms=epoch_ms(START),
        participants=participants,
        voice=3,
        video=2,
        listeners=1,
        dialins=1,
        breakout=parent is not None,
        parent_internal_id=parent and f"{parent}-internal",
        recording=False,
        metadata={} if parent else {"bbblb-tenant": "acme"},
    )


def polled(at_s: int, *meetings: Meeting, server: str = "bbb1", ok: bool = True) -> PollResult:
    """Return a poll's result."""
    outcome = "ok" if ok else "timeout"
    return PollResult(
        server, at(at_s), ok=ok, latency_ms=5, outcome=outcome, answer=Answer(meetings)
    )


@pytest.fixture
def settings() -> Settings:
    """Two servers, and tenants by BBBLB's mark."""
    rules = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "parent"}]
    return make_settings(
        server=[make_server("bbb1"), make_server("bbb2")],
        attribution={"rules": rules},
        max_gap_s=MAX_GAP_S,
    )


@pytest.fixture
def pipeline(settings: Settings) -> Pipeline:
    """The collector's memory before it stops."""
    return Pipeline(settings)


async def read(pool: asyncpg.Pool, at_s: float, max_gap_s: int = MAX_GAP_S) -> dict[str, LastPoll]:
    """Return what a collector finds that starts with the tick `at_s`."""
    async with pool.acquire() as connection:
        return await last_polls(connection, ("bbb1", "bbb2"), at(at_s), max_gap_s)


async def test_a_restart_loses_nothing(
    pool: asyncpg.Pool, pipeline: Pipeline, settings: Settings
) -> None:
    """A pipeline that was restored makes the same of the next polls as one that never stopped."""
    writer = Writer(pool)
    before = [
        polled(0, meeting("room", 4), meeting("gone", 2)),
        polled(30, meeting("room", 5), meeting("group", 3, "room"), meeting("orphan", 2, "lost")),
        polled(30, meeting("other", 9), server="bbb2"),
        polled(60, ok=False),
    ]
    for result in before:
        await writer.write(pipeline.process(result))
    restored = Pipeline(settings)
    found = await read(pool, 150)
    assert found.keys() == {"bbb1", "bbb2"}
    for name, last in found.items():
        restored.restore(name, last)
    # At last the breakout has lost its parent from sight: only memory knows its room and tenant.
    after = [
        polled(
            150,
            meeting("room", 7),
            meeting("group", 7, "room"),
            meeting("orphan", 2, "lost"),
            meeting("new", 1),
        ),
        polled(150, meeting("other", 9), server="bbb2"),
        polled(180, meeting("group", 7, "room")),
    ]
    for result in after:
        expected, batch = pipeline.process(result), restored.process(result)
        assert batch.polls == expected.polls
        assert batch.sessions == expected.sessions
        assert sorted(batch.samples) == sorted(expected.samples)
        if result is after[0]:
            # Three missed ticks of three sessions.
            assert sum(sample.filled for sample in batch.samples) == 9
    assert [(s.session_id, s.tenant) for s in batch.samples] == [
        (session_id("bbb1", "acme", "group-internal", epoch_ms(START)), "acme")
    ]


async def test_only_what_was_seen_counts(
    pool: asyncpg.Pool, pipeline: Pipeline, settings: Settings
) -> None:
    """Failed polls and filled samples are passed over, an empty server is known to be empty."""
    writer = Writer(pool)
    for result in (
        polled(0, meeting("room", 4)),
        polled(60, meeting("room", 6)),  # the tick between the two is filled
        polled(90, ok=False),
        polled(0, meeting("other", 1), server="bbb2"),
        polled(30, server="bbb2"),
    ):
        await writer.write(pipeline.process(result))
    assert await pool.fetchval("SELECT count(*) FROM meter.sample WHERE filled") == 1
    found = await read(pool, 120)
    assert {name: last.ts for name, last in found.items()} == {"bbb1": at(60), "bbb2": at(30)}
    assert [sample.participants for sample in found["bbb1"].samples] == [6]
    assert (found["bbb2"].samples, found["bbb2"].sessions) == ([], {})
    # The session that the last poll did not show may come back.
    assert found["bbb2"].absent.keys() == {"other-internal"}
    assert [*found["bbb2"].earlier] == [(at(0), 30)]
    # Only what lies before the first tick.
    assert (await read(pool, 60))["bbb1"].ts == at(0)
    # Another collector stores late what it saw at the tick that was filled meanwhile.
    await writer.write(Pipeline(settings).process(polled(30, meeting("room", 9))))
    last = (await read(pool, 60))["bbb1"]
    assert (last.ts, [sample.participants for sample in last.samples]) == (at(30), [9])


async def test_what_is_too_old(pool: asyncpg.Pool, pipeline: Pipeline) -> None:
    """A poll that nothing can be told from is not read back; there may be none at all."""
    assert await read(pool, 0) == {}
    await Writer(pool).write(pipeline.process(polled(0, meeting("room", 4))))
    assert (await read(pool, 600)).keys() == {"bbb1"}
    assert await read(pool, 630) == {}
    assert (await read(pool, 3660, max_gap_s=3600)).keys() == {"bbb1"}
