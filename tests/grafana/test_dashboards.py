"""Every query of every dashboard, as Grafana would run it, on two weeks of a made-up fleet."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from grafana import generate
from grafana.replay import arrival, board, checks
from grafana.replay.arrival import RANGES
from grafana.replay.board import Json, Screen, Statement
from grafana.replay.macros import TimeRange
from tests.grafana.scans import raw_read

BOARDS: Mapping[str, Json] = {
    path.stem: json.loads(text) for path, text in generate.files().items() if path.suffix == ".json"
}
# More samples than those of six hours are never read: chunks of this past are hours.
MOST_RAW = timedelta(hours=6)


@pytest.fixture
async def reader(past: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the role that Grafana has."""
    connection = await asyncpg.connect(past)
    await connection.execute("SET ROLE bbbmeter_reader")
    yield connection
    await connection.close()


async def screen(
    reader: asyncpg.Connection, name: str, span: timedelta, **given: list[str]
) -> Screen:
    """Return a dashboard with its last `span`, all variables chosen."""
    until = datetime.now(UTC).replace(microsecond=0)
    made = Screen(BOARDS[name], TimeRange(until - span, until))
    await made.choose(reader, **given)
    return made


async def a_session(reader: asyncpg.Connection) -> Mapping[str, str]:
    """Return what leads to the dashboards of one session, its room and its tenant."""
    return await arrival.a_session(reader, "law")


async def statements(reader: asyncpg.Connection, name: str, span: timedelta) -> list[Statement]:
    """Return all queries of a dashboard, as they reach the database."""
    shown = await screen(reader, name, span, **arrival.given(name, await a_session(reader)))
    return shown.all_statements()


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    """Titles, descriptions, units, a place in the grid, a query."""
    panels = list(board.panels(BOARDS[name]))
    assert list(checks.board_faults(BOARDS[name], panels)) == []


def test_what_is_committed_is_what_the_code_gives() -> None:
    """Nobody has edited the JSON by hand, or forgotten `make dashboards`."""
    assert [path.name for path, text in generate.files().items() if path.read_text() != text] == []


def test_links_lead_somewhere() -> None:
    """Each address is that of a dashboard, and fills variables that it has."""
    by_uid = {made["uid"]: made for made in BOARDS.values()}
    links = [
        link["url"]
        for made in BOARDS.values()
        for panel in board.panels(made)
        for override in panel["fieldConfig"]["overrides"]
        for given in override["properties"]
        if given["id"] == "links"
        for link in given["value"]
    ]
    assert len(links) > 10
    for url in links:
        path, _, query = url.partition("?")
        target = by_uid[path.removeprefix("/d/")]
        names = {variable["name"] for variable in target["templating"]["list"]}
        filled = [part.partition("=")[0] for part in query.split("&") if part.startswith("var-")]
        assert {name.removeprefix("var-") for name in filled} <= names
        assert "${__url_time_range}" in query or ("from=" in query and "to=" in query)


@pytest.mark.parametrize("span", RANGES)
@pytest.mark.parametrize("name", BOARDS)
async def test_queries_fit_their_panels(reader: asyncpg.Connection, name: str, span: str) -> None:
    """Each query runs as the reader, and its frame fits its panel."""
    shown = await screen(reader, name, RANGES[span], **arrival.given(name, await a_session(reader)))
    assert all(values.values or key == "search" for key, values in shown.chosen.items())
    for panel in board.panels(shown.board):
        frames = [await board.run(reader, one) for one in shown.statements(panel)]
        assert list(checks.panel_faults(panel, frames)) == [], panel["title"]
    for one in shown.annotations():
        assert list(checks.annotation_faults(await board.run(reader, one))) == [], one.of


@pytest.mark.parametrize("name", BOARDS)
async def test_every_panel_shows_something(reader: asyncpg.Connection, name: str) -> None:
    """Over the whole past no panel, and no annotation, is empty."""
    for one in await statements(reader, name, RANGES["30d"]):
        frame = await board.run(reader, one)
        values = [value for field in frame.fields for value in field.values]
        assert any(value is not None for value in values), one.of


async def test_what_people_type_is_only_a_text(reader: asyncpg.Connection) -> None:
    """Quotes and wildcards in what is searched for, and ids that are none, find nothing."""
    for name, given in {
        "rooms": {"search": "'; SELECT 1/0; --"},
        "room": {"room": "o'neill\" %_\\"},
        "session": {"session": "'); DROP TABLE meter.sample; --"},
    }.items():
        shown = await screen(
            reader, name, RANGES["24h"], **{key: [value] for key, value in given.items()}
        )
        for panel in board.panels(shown.board):
            for one in shown.statements(panel):
                frame = await board.run(reader, one)
                numbers = [v for f in frame.fields if f.name != "Time" for v in f.values]
                assert not any(numbers), one.of


async def test_search_finds_rooms(reader: asyncpg.Connection) -> None:
    """By the beginning and by any part, of the id or the name, whatever the case."""
    session = await a_session(reader)
    for part in (session["room"][:5], session["room"][3:9], session["room"].upper()):
        shown = await screen(reader, "rooms", RANGES["30d"], search=[part])
        [panel] = board.panels(shown.board)
        frame = await board.run(reader, shown.statements(panel)[0])
        rooms = next(field for field in frame.fields if field.name == "id")
        assert session["room"] in rooms.values


@pytest.mark.parametrize("span", RANGES)
@pytest.mark.parametrize("name", BOARDS)
async def test_raw_samples_are_read_for_six_hours_at_most(
    reader: asyncpg.Connection, name: str, span: str
) -> None:
    """Whatever the range: the samples' chunks that a query reads span no more than that."""
    for one in await statements(reader, name, RANGES[span]):
        assert await raw_read(reader, one.sql) <= MOST_RAW + timedelta(hours=2), one.of


async def test_reading_raw_samples_is_noticed(reader: asyncpg.Connection) -> None:
    """The check above can fail."""
    sql = "SELECT count(*) FROM meter.sample WHERE ts > now() - interval '3 days' AND filled"
    assert await raw_read(reader, sql) > timedelta(hours=10)
    few = "SELECT count(*) FROM meter.sample WHERE ts > now() - interval '3 hours' AND filled"
    assert await raw_read(reader, few) <= timedelta(hours=4)


def test_folded_rows_are_seen() -> None:
    """Panels in a folded row count as well."""
    inner: dict[str, Any] = {"type": "stat", "id": 2}
    made = {"panels": [{"type": "row", "panels": [inner]}, {"type": "table", "id": 3}]}
    assert [panel["id"] for panel in board.panels(made)] == [2, 3]
