"""docs/privacy.md: its SQL is run, its table is compared with the schema and the settings."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from collector.database.upkeep import update_sessions
from collector.settings import RetentionSettings
from tests.support.feed import Feed, Run
from tests.support.repository import DOCS

PAGE = (DOCS / "privacy.md").read_text(encoding="utf-8")
FIND, SESSIONS, SAMPLES, FORGET, ERASE = re.findall(r"```sql\n(.*?);\n```", PAGE, re.DOTALL)
ROOM = "mueller-anna"
T = datetime(2026, 3, 2, 10, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def rows_of_the_table() -> Mapping[str, list[str]]:
    """Return the page's table: a name, and the other cells of its row."""
    table = PAGE.partition("| table |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {name: row[1:] for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_retention_is_as_the_settings_have_it() -> None:
    """Every number of days is the default; the notice for users names the same."""
    rows = rows_of_the_table()
    for name, info in RetentionSettings.model_fields.items():
        assert rows[name][-1] == (f"{info.default} days" if info.default else "without limit"), name
    defaults = RetentionSettings()
    assert rows["collector"][-1] == f"{defaults.poll + 2} days"
    notice = " ".join(PAGE.rpartition("privacy notice")[2].replace("\n>", " ").split())
    assert f"deleted after {defaults.sample} days" in notice
    assert f"conferences after {defaults.session} days" in notice


async def test_every_field_is_named(pool: asyncpg.Pool) -> None:
    """No table or rollup is stored that the page leaves out, and no field of a table."""
    columns = await pool.fetch(
        "SELECT c.relname, c.relkind = 'r' AS is_table, array_agg(a.attname::text) AS names "
        "FROM pg_class AS c INNER JOIN pg_attribute AS a ON c.oid = a.attrelid "
        "WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'v') "
        "AND a.attnum > 0 AND NOT a.attisdropped AND (c.relkind = 'r' OR c.relname IN ("
        "SELECT view_name FROM timescaledb_information.continuous_aggregates)) GROUP BY 1, 2"
    )
    rows = rows_of_the_table()
    assert {row["relname"] for row in columns} == rows.keys()
    for row in columns:
        if row["is_table"]:
            named = set(re.findall(r"`(\w+)`", rows[row["relname"]][0]))
            assert set(row["names"]) <= named, row["relname"]


@pytest.fixture
async def used(feed: Feed) -> Feed:
    """Two rooms of one tenant: sessions in columns and in rows, one with a breakout."""
    await feed.due(T, bbb1=None)
    for day in (T, T + 3 * DAY):
        runs = [
            Run("bbb1", "arts", ROOM, day, day + HOUR, 2),
            Run("bbb1", "arts", "other", day, day + HOUR, 7),
        ]
        await feed.play(["bbb1"], feed.ticks(day, day + HOUR + 10 * MINUTE), runs)
        await update_sessions(feed.pool, 120)
        await feed.refresh()
        if day == T:
            await feed.columnize()
    await feed.pool.execute("UPDATE meter.room SET name = 'Anna' WHERE external_id = $1", ROOM)
    return feed


async def sums(feed: Feed) -> list[asyncpg.Record]:
    """Return all that is billed."""
    query = "SELECT * FROM meter.tenant_usage($1, $2, 'day')"
    return list(await feed.pool.fetch(query, T - DAY, T + 5 * DAY))


async def by_room(feed: Feed) -> list[tuple[Any, ...]]:
    """Return the rooms' figures, without their names."""
    query = "SELECT * FROM meter.usage_by($1, $2, 'room')"
    rows = await feed.pool.fetch(query, T - DAY, T + 5 * DAY)
    return sorted(tuple(v for k, v in row.items() if k != "room") for row in rows)


async def test_a_persons_room_can_be_shown(used: Feed) -> None:
    """The room is found by a part of its id, and all its sessions and samples, no others."""
    rooms = await used.pool.fetch(FIND)
    assert [tuple(row) for row in rooms] == [("arts", ROOM, "Anna")]
    sessions = await used.pool.fetch(SESSIONS)
    assert [row["started_at"] for row in sessions] == [T, T + 3 * DAY]
    assert {row["max_participants"] for row in sessions} == {2}
    samples = await used.pool.fetch(SAMPLES)
    assert (len(samples), {row["participants"] for row in samples}) == (240, {2})


async def test_a_room_is_forgotten_and_every_sum_stays(used: Feed) -> None:
    """Neither id, name nor hash is left, also in columns; bills and the room's figures stay."""
    ids = [row[0] for row in await used.pool.fetch(_OLD_IDS, ROOM)]
    billed, figures = await sums(used), await by_room(used)
    assert await used.pool.fetchval(FORGET) == 2
    for _ in range(2):
        # At once, and when all that can be computed again has been.
        assert await used.pool.fetch(FIND) == await used.pool.fetch(SESSIONS) == []
        assert await sums(used) == billed
        assert await by_room(used) == figures
        assert await everything(used, ROOM, "Anna", *ids) == []
        await update_sessions(used.pool, 120)
        await used.refresh()
    with pytest.raises(asyncpg.InvalidParameterValueError, match="no such room"):
        await used.pool.fetchval(FORGET)


async def test_a_room_is_erased_with_its_figures(used: Feed) -> None:
    """Sessions and samples go as well, and the sums without them are the other room's."""
    ids = [row[0] for row in await used.pool.fetch(_OLD_IDS, ROOM)]
    assert await used.pool.fetchval(ERASE) == 2
    await used.refresh()
    assert await everything(used, ROOM, "Anna", *ids) == []
    minutes = [row["participant_minutes"] for row in await sums(used)]
    assert sum(m for m in minutes if m) == 2 * 60 * 7
    assert await used.pool.fetchval("SELECT count(*) FROM meter.session") == 2


async def test_a_room_in_use_is_not_forgotten_by_halves(feed: Feed) -> None:
    """While a session is open nothing is changed; afterwards a collector at work does no harm."""
    await feed.due(T, bbb1=None)
    run = Run("bbb1", "arts", ROOM, T, T + HOUR, 2)
    await feed.play(["bbb1"], feed.ticks(T, T + HOUR), [run])
    await update_sessions(feed.pool, 120)
    with pytest.raises(asyncpg.ObjectInUseError, match="open"):
        await feed.pool.fetchval(FORGET)
    assert len(await feed.pool.fetch(FIND)) == 1
    later = T + 2 * HOUR
    await feed.play(["bbb1"], feed.ticks(T + HOUR, later))
    await update_sessions(feed.pool, 120)
    assert await feed.pool.fetchval(FORGET) == 1
    # The same collector, which knows the old room's number: nothing ties the two together.
    run = Run("bbb1", "arts", ROOM, later, later + HOUR, 2)
    await feed.play(["bbb1"], feed.ticks(later, later + HOUR), [run])
    rooms = await feed.pool.fetch("SELECT room_id FROM meter.session ORDER BY started_at")
    assert rooms[0]["room_id"] != rooms[1]["room_id"]


_OLD_IDS = (
    "SELECT unnest(ARRAY[s.session_id::text, s.internal_id]) FROM meter.session AS s "
    "INNER JOIN meter.room AS r ON s.room_id = r.id WHERE r.external_id = $1"
)


async def everything(feed: Feed, *marks: str) -> list[str]:
    """Return the rows of all our tables and rollups that hold one of `marks`."""
    relations = await feed.pool.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'v') "
        "AND relnamespace = 'meter'::regnamespace AND relname !~ '^my_'"
    )
    assert len(relations) > 15
    found = []
    for relation in relations:
        rows = await feed.pool.fetch(f"SELECT x::text FROM {relation['name']} AS x")  # noqa: S608
        found += [row[0] for row in rows if any(mark in row[0] for mark in marks)]
    return found
