"""How a report is printed."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from collector.reports.figures import FIGURES
from collector.reports.render import REPORT_WIDTH, as_csv, as_json, as_tables
from collector.reports.usage import By, Request

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
NAMES = [figure.name for figure in FIGURES]
NOTHING: dict[str, Any] = dict.fromkeys(["tenant", *NAMES])
REQUEST = Request(datetime(2026, 1, 31, 23, tzinfo=UTC), datetime(2026, 2, 28, 23, tzinfo=UTC))


def row(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - figures of several types
    """Return a row of a report, its group first."""
    figures: dict[str, Any] = dict.fromkeys(NAMES) | {
        "participant_minutes": 1234567.8912345678,
        "voice_minutes": 2 / 3,
        "video_minutes": 0.0,
        "dialin_minutes": 1.5,
        "sessions": 12345,
        "session_minutes": 600.0,
        "avg_session_minutes": 44.95,
        "max_session_minutes": 90.0,
        "avg_session_size": 7.26,
        "max_session_size": 1203,
        "large_sessions": 2,
        "peak_participants": 1500.5,
        "peak_participants_at": datetime(2026, 2, 28, 22, 30, tzinfo=UTC),
        "peak_sessions": 3.0,
        "breakout_minutes": 0.0,
        "coverage": 0.99994,
        "filled_share": 0.0,
    }
    groups = {key: changes.pop(key) for key in [*changes] if key not in figures}
    return {"tenant": "acme", **groups, **figures, **changes}


def shown(rows: list[dict[str, Any]], by: By | None = None, zone: ZoneInfo = BERLIN) -> str:
    """Return the tables as a terminal shows them."""
    out = io.StringIO()
    console = Console(file=out, width=REPORT_WIDTH, highlight=False)
    console.print(as_tables(rows, Request(REQUEST.since, REQUEST.until, by=by), zone, 7))
    return out.getvalue()


def cells(text: str, beginning: str) -> list[list[str]]:
    """Return the words of the lines of tables that begin with `beginning`."""
    return [line.split() for line in text.splitlines() if line.strip().startswith(beginning)]


def test_json() -> None:
    """Objects with the figures in order; floats have six digits, unknown ones are null."""
    (got,) = json.loads(as_json([row(coverage=None)], BERLIN))
    assert list(got) == ["tenant", *NAMES]
    assert got["participant_minutes"] == 1234567.891235
    assert got["voice_minutes"] == 0.666667
    assert (got["sessions"], got["max_session_size"]) == (12345, 1203)
    assert got["coverage"] is None
    assert as_json([], BERLIN) == "[]"


@pytest.mark.parametrize(
    ("zone", "instant"),
    [
        (ZoneInfo("UTC"), "2026-02-28T22:30:00+00:00"),
        (BERLIN, "2026-02-28T23:30:00+01:00"),
        (NEW_YORK, "2026-02-28T17:30:00-05:00"),
    ],
)
def test_instants_are_of_the_zone(zone: ZoneInfo, instant: str) -> None:
    """JSON and CSV name the offset; the table's title names the zone."""
    assert json.loads(as_json([row()], zone))[0]["peak_participants_at"] == instant
    (got,) = csv.DictReader(io.StringIO(as_csv([row()], zone)))
    assert got["peak_participants_at"] == instant
    text = shown([row()], zone=zone)
    assert f"{instant[5:10]} {instant[11:16]}" in text
    assert f"({zone.key})" in text


def test_days_and_months_are_dates() -> None:
    """A day is written as the date on which it begins in the zone, a month without a day."""
    begin = datetime(2026, 1, 31, 23, tzinfo=UTC)
    for key, text in (("day", "2026-02-01"), ("month", "2026-02")):
        rows = [row(**{key: begin})]
        assert json.loads(as_json(rows, BERLIN))[0][key] == text
        assert as_csv(rows, BERLIN).splitlines()[1].startswith(f"acme,{text},")
    assert "2026-02-01" in shown([row(day=begin)], "day")


def test_csv() -> None:
    """A header and a line a row; unknown figures are empty, and there is a header always."""
    header = ",".join(["tenant", *NAMES])
    assert as_csv([], BERLIN) == header + "\n"
    assert as_csv([{**NOTHING, "tenant": "acme"}], BERLIN) == (
        f"{header}\nacme{',' * len(NAMES)}\n"
    )
    (got,) = csv.DictReader(io.StringIO(as_csv([row(room='a "b", c')], BERLIN)))
    assert (got["room"], got["sessions"], got["voice_minutes"]) == ('a "b", c', "12345", "0.666667")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_no_cell_of_csv_is_a_formula(room: str) -> None:
    """A spreadsheet takes what clients call their rooms for text; nothing of it is lost."""
    _, got = csv.reader(io.StringIO(as_csv([row(room=room)], BERLIN)))
    assert got[1][0] not in "=+-@\t\r"
    assert got[1].removeprefix("'") == room.removeprefix("'")


def test_formulas_are_quoted() -> None:
    """The usual beginnings are; a number below zero stays a number."""
    for room in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert f"\nacme,'{room}," in as_csv([row(room=room)], BERLIN)
    _, got = csv.reader(io.StringIO(as_csv([row(voice_minutes=-1.0)], BERLIN)))
    assert got[2] == "-1.0"


def test_tables() -> None:
    """Figures are rounded and grouped; the tables say period, zone and calculation version."""
    text = shown([row()])
    assert "from 2026-02-01 00:00 to 2026-03-01 00:00 (Europe/Berlin)" in text
    assert "calculation 7" in text
    usage, sessions = cells(text, "acme")
    assert usage[:12] == [
        *("acme", "1,234,567.9", "0.7", "0.0", "1.5", "1,500.5"),
        *("02-28", "23:30", "3.0", "0.0", "99.99%", "0.00%"),
    ]
    # 44.95 is a little less than it looks, in binary.
    assert sessions[:8] == ["acme", "12,345", "600.0", "45.0", "90.0", "7.3", "1,203", "2"]


def test_tables_of_what_is_unknown() -> None:
    """Unknown is a dash, which differs from zero; a room can be unknown as well."""
    usage, sessions = cells(shown([{**NOTHING, "tenant": "acme"}]), "acme")
    assert usage == ["acme", *["-" for figure in FIGURES if figure.table == "usage"]]
    assert sessions == ["acme", *["-" for figure in FIGURES if figure.table == "sessions"]]
    assert cells(shown([row(room=None)], "room"), "acme")[0][:2] == ["acme", "-"]


def test_tables_show_ids_as_they_are() -> None:
    """What clients call their rooms is no markup, and a long id is folded, not cut."""
    assert "[/b] [red]x" in shown([row(room="[/b] [red]x")], "room")
    text = shown([row(room="0123456789" * 20)], "room")
    assert sum(text.count(digit) for digit in "0123456789") > 2 * 200
    assert "…" not in text
