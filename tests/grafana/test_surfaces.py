"""Every stat, table and series of every dashboard says what the raw rows say, for every time range.

The time ranges are those that Grafana really makes: relative ones, calendar ones that end at
23:59:59.999, and what people zoom to with the mouse.
"""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from grafana import generate
from grafana.replay import board, interval
from grafana.replay.board import Json, Screen
from grafana.replay.frames import Frame
from grafana.replay.macros import TimeRange
from tests.grafana.figures import HELD, NOT_HELD, OF_NOW, View
from tests.grafana.truth import DAY, HOUR, Rows, Truth, local_day
from tests.support.database import empty_database
from tests.support.reports import BERLIN
from tests.support.short_past import ShortPast, at, write

BOARDS: Mapping[str, Json] = {
    path.stem: json.loads(text) for path, text in generate.files().items() if path.suffix == ".json"
}
MS = 0.001
# A database, its raw rows, and since when some of its tables are kept.
Past = tuple[str, ShortPast, dict[str, float]]


def _last(days: float) -> Callable[[ShortPast, float], tuple[float, float]]:
    # A browser sends whole milliseconds.
    return lambda _, now: (now - days * DAY, now)


def _days_of(first: int, last: int) -> Callable[[ShortPast, float], tuple[float, float]]:
    """Return a range of whole local days, by their ages, as Grafana ends it."""
    return lambda past, _: (past.day(first), past.day(last - 1) - MS)


def _month(past: ShortPast, now: float) -> tuple[float, float]:
    day = at(now).astimezone(BERLIN).date()
    end = past.day(day.day - 1)
    before = at(end - 1).astimezone(BERLIN).date()
    return local_day(end - 1, 1 - before.day), end - MS


def _edge_of_month(past: ShortPast, now: float) -> tuple[float, float]:
    day = at(now).astimezone(BERLIN).date().day
    return past.day(day, 11) + 7.123, min(now, past.day(day - 1, 13) + 0.456)


def _clocks(past: ShortPast, _: float) -> tuple[float, float]:
    age = list(past._clock_change())[1]
    return past.day(age + 1), past.day(age - 2) - MS


def _in_clocks(past: ShortPast, _: float) -> tuple[float, float]:
    age = list(past._clock_change())[1]
    return past.day(age, -3.3) + 0.789, past.day(age, 7.7)


RANGES: Mapping[str, Callable[[ShortPast, float], tuple[float, float]]] = {
    "last hour": _last(1 / 24),
    "last 24 hours": _last(1),
    "last 2 days": _last(2),
    "last 7 days": _last(7),
    "last 30 days": _last(30),
    "last year": _last(365),
    "last 3 years": _last(1096),
    "today": _days_of(0, 0),
    "yesterday": _days_of(1, 1),
    "previous month": _month,
    "an edge of a month": _edge_of_month,
    "an hour in an outage": lambda p, _: (p.day(9, 11.6) + 0.123, p.day(9, 12.6) + 0.987),
    "a day with an outage": _days_of(9, 9),
    "more than a week of days": _days_of(17, 9),
    "days that end in an outage": lambda p, _: (p.day(10, 5), p.day(9, 12) + 31.5),
    "days around a short outage": lambda p, _: (p.day(3, 7), p.day(0)),
    "hours of which polls are gone": lambda p, _: (p.day(16, 9.3) + 3.3, p.day(16, 14.1) + 0.1),
    "across a change of the clocks": _clocks,
    "within a change of the clocks": _in_clocks,
    "hours of which hours are gone": lambda p, _: (p.day(300, 9.5), p.day(300, 17.25)),
}


@pytest.fixture(scope="module")
def past(_server_dsn: str | None, _embedded_dsn: str | None) -> Iterator[Past]:
    """A database with a short past, and its raw rows."""
    made = ShortPast(datetime.now(UTC).replace(second=0, microsecond=0)).make()
    database = empty_database(_server_dsn, _embedded_dsn)
    with asyncio.Runner() as runner:
        dsn = runner.run(database.__aenter__())
        try:
            runner.run(write(dsn, made))
            yield dsn, made, runner.run(_kept_since(dsn))
        finally:
            runner.run(database.__aexit__(None, None, None))


@pytest.fixture
async def reader(past: Past) -> AsyncIterator[asyncpg.Connection]:
    """A connection as Grafana's role. In its transaction, the time stands still."""
    connection = await asyncpg.connect(past[0])
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SET LOCAL ROLE bbbmeter_reader")
    yield connection
    await transaction.rollback()
    await connection.close()


def test_every_panel_is_held_to_something() -> None:
    """A new panel needs a line in tests/grafana/figures.py."""
    panels = {(name, p["title"]) for name, made in BOARDS.items() for p in board.panels(made)}
    of_now = {(name, title) for name, titles in OF_NOW.items() for title in titles}
    assert panels == HELD.keys() | of_now
    assert not HELD.keys() & of_now


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("span", RANGES)
async def test_screens_say_what_the_raw_rows_say(
    reader: asyncpg.Connection, past: Past, span: str, name: str
) -> None:
    """Each value of each panel is recomputed from samples, polls and sessions."""
    now = (await reader.fetchval("SELECT now()")).timestamp()
    truth = Truth(past[1], now, past[2])
    since, until = (math.floor(edge * 1000) for edge in RANGES[span](past[1], now))
    shown = TimeRange(
        *(datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=n) for n in (since, until))
    )
    screen = Screen(BOARDS[name], shown)
    await screen.choose(reader, **_chosen(truth, name))
    wrong = [
        fault
        for panel in board.panels(BOARDS[name])
        if (name, panel["title"]) in HELD
        for fault in await _faults(reader, truth, screen, name, panel)
    ]
    assert wrong == []


async def _kept_since(dsn: str) -> dict[str, float]:
    """Return the beginning of what retention has left of the tables that are not kept by age."""
    connection = await asyncpg.connect(dsn)
    found = {}
    for relation in ("session", "start_1h", "poll_1h", "server_1h"):
        column = "started_at" if relation == "session" else "bucket"
        first = await connection.fetchval(f"SELECT min({column}) FROM meter.{relation}")  # noqa: S608
        found[relation] = first.timestamp()
    await connection.close()
    return found


def _chosen(truth: Truth, name: str) -> dict[str, list[str]]:
    """Return what links to a dashboard fill in; the session has filled time."""
    filled = max(
        (s for s in truth.past.sessions if s.room == "law-a" and s.end < truth.now - HOUR),
        key=lambda s: (s.filled_seconds > 0, s.begin),
    )
    return {
        "tenant": {"tenant": ["law"]},
        "room": {"tenant": ["law"], "room": ["law-a"]},
        "session": {"session": [str(filled.number)]},
    }.get(name, {})


async def _faults(
    reader: asyncpg.Connection, truth: Truth, screen: Screen, name: str, panel: Json
) -> list[str]:
    """Return how a panel differs from the raw rows."""
    key = (name, panel["title"])
    shown = screen.shown
    points = panel.get("maxDataPoints") or panel["gridPos"]["w"] * board.WIDTH // board.COLUMNS
    wanted_ms = interval.interval_ms(shown.until - shown.since, points)
    step = await reader.fetchval(
        "SELECT meter.chart_step($1, $2, $3)",
        *(shown.since, shown.until, timedelta(milliseconds=wanted_ms)),
    )
    (statement,) = screen.statements(panel)
    found = _rows(await board.run(reader, statement), NOT_HELD.get(key, set()))
    wanted = HELD[key](View(truth, screen, step, panel["title"]))
    if panel["type"] == "stat":
        found, wanted = (
            [r for r in rows if r != {panel["title"]: None}] for rows in (found, wanted)
        )
    if len(found) != len(wanted):
        return [f"{panel['title']}: {len(found)} rows, not {len(wanted)}"]
    return [
        f"{panel['title']}: {column} is {row.get(column, 'missing')}, "
        f"not {other.get(column, 'known')} ({_key(other)})"
        for row, other in zip(sorted(found, key=_key), sorted(wanted, key=_key), strict=True)
        for column in row.keys() | other.keys()
        if not _same(row.get(column, "missing"), other.get(column, "unknown"))
    ]


def _rows(frame: Frame, left_out: set[str]) -> Rows:
    """Return the rows of a frame, without some columns."""
    fields = [field for field in frame.fields if field.display not in left_out]
    return [{field.display: field.values[n] for field in fields} for n in range(frame.rows)]


def _key(row: Mapping[str, Any]) -> str:
    """Return what sorts a row: its texts and times, then its numbers."""
    texts = {k: v for k, v in row.items() if isinstance(v, str) or k in {"Time", "from", "began"}}
    return str(sorted(texts.items()))


def _same(found: object, wanted: object) -> bool:
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-6)
    return found == wanted
