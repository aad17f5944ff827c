"""What a tenant could count without seeing a row: plans, buffers, statistics, edges of periods."""

import re
from datetime import datetime, timedelta

import asyncpg
import pytest

from collector.database.upkeep import update_sessions
from tests.support.feed import Run
from tests.support.roles import DAY, FORBIDDEN, HOUR, House, T

# The instant at which a session of another tenant begins, on a day with rows of the tenant itself.
FOREIGN = T + DAY + timedelta(hours=2, milliseconds=123)
NOTHING = T + DAY + timedelta(hours=3, milliseconds=123)
MS = timedelta(milliseconds=1)


@pytest.fixture
async def spied(house: House) -> House:
    """The house, with one more session of the other tenant, in a time without any other."""
    await furnish_more(house, 1)
    await house.feed.pool.execute("ANALYZE")
    return house


async def furnish_more(house: House, sessions: int) -> None:
    """Add sessions of the other tenant that begin at FOREIGN."""
    begin = T + DAY + 2 * HOUR
    runs = [
        Run("shared", "lawyers", f"law-room-{n}", begin, begin + HOUR / 2, 5, created_at=FOREIGN)
        for n in range(sessions)
    ]
    ticks = [tick + timedelta(seconds=sessions) for tick in house.feed.ticks(begin, runs[0].end)]
    await house.feed.play(["shared"], ticks, runs)
    await update_sessions(house.feed.pool, 120)


def questions(started_at: datetime, internal_id: str, session_id: int, room: str) -> list[str]:
    """Return what a tenant would ask to learn whether others have such a session."""
    tick = started_at.replace(microsecond=0)
    conditions = {
        "my_session": [
            f"internal_id = '{internal_id}'",
            f"session_id = {session_id}",
            f"started_at >= '{started_at}' AND started_at < '{started_at + MS}'",
            f"started_at = '{started_at}' AND server_id = 1",
            f"last_seen_at >= '{tick}' AND first_seen_at <= '{tick}'",
        ],
        "my_sample": [
            f"session_id = {session_id}",
            f"session_id = {session_id} AND ts >= '{tick}'",
            f"ts >= '{tick}' AND ts < '{tick + timedelta(minutes=1)}'",
        ],
        "my_usage_1m": [f"bucket = '{tick}'"],
        "my_usage_1h": [f"bucket = '{tick}'"],
        "my_room": [f"external_id = '{room}'", f"external_id >= '{room}'"],
        "my_tenant": [f"name = '{room.partition('-')[0]}yers'"],
    }
    asked = [
        f"SELECT * FROM meter.{view} WHERE {condition}"  # noqa: S608
        for view, each in conditions.items()
        for condition in each
    ]
    periods = {
        "my_session": (started_at, started_at + MS),
        "my_sample": (tick, tick + MS),
        "my_usage_1m": (tick, tick + MS),
    }
    return asked + [
        f"SELECT * FROM meter.{function}('{since}', '{until}')"  # noqa: S608
        for function, (since, until) in periods.items()
    ]


async def plan_of(connection: asyncpg.Connection, statement: str) -> list[str]:
    """Return the executed plan with estimates, rows and buffers.

    Of several runs, the one with the fewest buffers: others read what the caches lacked.
    """
    plans = []
    for _ in range(4):
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) {statement}"
        )
        plan = [row[0] for row in rows]
        plans.append(plan[: plan.index("Planning:")] if "Planning:" in plan else plan)
    return min(plans, key=buffers)


def buffers(plan: list[str]) -> int:
    """Return the number of buffers in a plan."""
    return sum(int(n) for line in plan if "Buffers:" in line for n in re.findall(r"=(\d+)", line))


async def test_plans_do_not_depend_on_others(spied: House) -> None:
    """A plan has the same rows and buffers whether another tenant has what is asked for or not.

    And the same rows and estimates when the others have more.
    """
    row = await spied.feed.pool.fetchrow(
        "SELECT session_id, internal_id, started_at FROM meter.session WHERE started_at = $1",
        FOREIGN,
    )
    assert row is not None
    there = questions(row["started_at"], row["internal_id"], row["session_id"], "law-room-0")
    not_there = questions(NOTHING, "n" * len(row["internal_id"]), 17, "nil-room-0")
    before = []
    async with spied.enter(spied.login) as connection:
        for foreign, absent in zip(there, not_there, strict=True):
            found, nothing = await plan_of(connection, foreign), await plan_of(connection, absent)
            assert without_conditions(found) == without_conditions(nothing), foreign
            before.append(without_buffers(found))
    await furnish_more(spied, 40)
    await spied.feed.pool.execute("ANALYZE")
    async with spied.enter(spied.login) as connection:
        for statement, plan in zip(there, before, strict=True):
            assert without_buffers(await plan_of(connection, statement)) == plan, statement


def without_conditions(plan: list[str]) -> list[str]:
    """Return `plan` without the lines that repeat the question."""
    return [line for line in plan if "Filter: (" not in line and "Cond: (" not in line]


def without_buffers(plan: list[str]) -> list[str]:
    """Return `plan` without its buffers."""
    return [line for line in plan if "Buffers:" not in line]


# Each counts what all tenants have stored.
STATISTICS = (
    "SELECT * FROM pg_stat_all_tables",
    "SELECT * FROM pg_stat_xact_all_tables",
    "SELECT * FROM pg_stat_all_indexes",
    "SELECT * FROM pg_stat_database",
    "SELECT * FROM pg_stat_io",
    "SELECT * FROM pg_stat_wal",
    "SELECT * FROM pg_statio_all_tables",
    "SELECT pg_stat_get_tuples_inserted('meter.poll'::regclass::oid)",
    "SELECT pg_stat_get_live_tuples(c.oid) FROM pg_class AS c",
    "SELECT pg_relation_size(c.oid) FROM pg_class AS c",
    "SELECT pg_total_relation_size(c.oid) FROM pg_class AS c",
    "SELECT pg_database_size(current_database())",
    "SELECT pg_current_wal_lsn()",
    "SELECT * FROM timescaledb_information.stat_chunk_activity",
    "SELECT * FROM _timescaledb_catalog.compression_chunk_size",
    "SELECT * FROM _timescaledb_internal.compressed_chunk_stats",
    "SELECT * FROM _timescaledb_internal.hypertable_chunk_local_size",
    "SELECT _timescaledb_functions.relation_approximate_size(c.oid) FROM pg_class AS c",
    "SELECT public.hypertable_size('meter.sample')",
    "SELECT public.approximate_row_count('meter.sample')",
)


async def test_statistics_are_refused(house: House) -> None:
    """No counter and no size of a table, an index or the database can be read."""
    let_in = []
    async with house.enter(house.login) as connection:
        for statement in STATISTICS:
            try:
                await connection.fetch(statement)
                let_in.append(statement)
            except FORBIDDEN:
                continue
            except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError):
                continue  # an older or newer version has no such thing
    assert let_in == []


async def test_the_planner_does_not_say_how_a_function_reads(house: House) -> None:
    """debug_print_plan shows the plan of the caller's statement, and none of the functions'."""
    said: list[str] = []
    async with house.enter(house.login) as connection:
        connection.add_log_listener(lambda _, notice: said.append(str(notice.as_dict())))
        await connection.execute("SET client_min_messages = log")
        await connection.execute("SET debug_print_plan = on")
        for call in ("my_session", "my_usage('2026-03-02 00:00+01', '2026-03-03 00:00+01')"):
            await connection.fetch(f"SELECT * FROM meter.{call}")  # noqa: S608
        await connection.execute("RESET debug_print_plan")
        await connection.execute("RESET client_min_messages")
    assert not [line for line in said if "INDEXSCAN" in line or ":relname" in line]
    assert len([line for line in said if "FUNCTIONSCAN" in line]) <= 3


REFUSED_PERIODS = (
    ("-infinity", "infinity"),
    ("2026-03-02 00:00+01", "infinity"),
    ("-infinity", "2026-03-02 00:00+01"),
    ("0001-01-01 00:00+00", "2026-03-02 00:00+01"),
    ("2026-03-02 00:00+01", "9999-03-02 00:00+01"),
    ("2026-03-03 00:00+01", "2026-03-02 00:00+01"),
    ("2026-03-02 10:00+01", "2026-03-03 00:00+01"),
    ("2026-03-02 00:00+01", "2026-03-02 00:01+01"),
    ("2026-03-02 00:00+01", None),
)


@pytest.mark.parametrize("function", ["my_usage", "my_coverage"])
@pytest.mark.parametrize("per", ["day", "month", "total"])
async def test_a_report_is_for_some_full_days(house: House, function: str, per: str) -> None:
    """A period without bounds, too long, or with edges within a day is an error that says so."""
    query = f"SELECT * FROM meter.{function}($1::text::timestamptz, $2::text::timestamptz, $3)"  # noqa: S608
    async with house.enter(house.login) as connection:
        # If it is not refused, it would fill the disk.
        await connection.execute("SET statement_timeout = '20s'")
        for since, until in REFUSED_PERIODS:
            with pytest.raises(asyncpg.InvalidParameterValueError, match="a report must"):
                await connection.fetch(query, since, until, per)
        await connection.execute("RESET statement_timeout")
        assert await connection.fetch(query, "2026-03-02 00:00+01", "2026-03-04 00:00+01", per)
