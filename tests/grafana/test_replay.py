"""The harness itself: what Grafana and its PostgreSQL data source make of a query and a result."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from grafana.replay import checks, frames, interval, macros, variables
from grafana.replay.frames import Field, Frame, FrameError
from grafana.replay.macros import MacroError, TimeRange
from grafana.replay.variables import Value, VariableError

SHOWN = TimeRange(
    datetime(2026, 3, 2, 10, tzinfo=UTC), datetime(2026, 3, 2, 11, 0, 0, 123_000, tzinfo=UTC)
)
Run = Callable[..., Awaitable[Frame]]
FROM, TO = "'2026-03-02T10:00:00Z'", "'2026-03-02T11:00:00.123Z'"


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("$__time(ts)", 'ts AS "time"'),
        ("$__timeEpoch(ts)", 'extract(epoch from ts) as "time"'),
        ("WHERE $__timeFilter(p.ts)", f"WHERE p.ts BETWEEN {FROM} AND {TO}"),
        ("$__timeFrom()::timestamptz", f"{FROM}::timestamptz"),
        ("[$__timeTo()]", f"[{TO}]"),
        ("$__timeGroup(ts,'5m')", "time_bucket('300.000s',ts)"),
        ("$__timeGroup(ts, 5m)", "time_bucket('300.000s',ts)"),
        ("$__timeGroupAlias(ts,'1h')", "time_bucket('3600.000s',ts) AS \"time\""),
        ("$__unixEpochFilter(t)", "t >= 1772445600 AND t <= 1772449200"),
        ("$__unixEpochFrom() $__unixEpochTo()", "1772445600 1772449200"),
        ("'$__interval'::interval, $__interval_ms", "'2m'::interval, 120000"),
        ("$__timeGroup(ts,'$__interval')", "time_bucket('120.000s',ts)"),
        ("SELECT 1 -- $__nothing(x)\n+ 1 /* $__what() */", "SELECT 1 \n+ 1 "),
        ("SELECT '-- $__timeFrom() stays'", f"SELECT '-- {FROM} stays'"),
    ],
)
def test_macros(sql: str, expanded: str) -> None:
    """Each macro becomes what the data source makes of it."""
    assert macros.expand(sql, SHOWN, 120_000) == expanded


@pytest.mark.parametrize("sql", ["$__unknown(x)", "$__timeFilter()", "$__timeGroup(ts,'5m',NULL)"])
def test_what_is_no_macro_is_an_error(sql: str) -> None:
    """An unknown macro, or one with other arguments, is not sent to the database."""
    with pytest.raises(MacroError):
        macros.expand(sql, SHOWN, 60_000)


@pytest.mark.parametrize(
    ("span", "points", "written"),
    [
        (timedelta(hours=1), 900, "1m"),  # 4 s are rounded, and the least is a minute
        (timedelta(hours=24), 900, "2m"),  # 96 s
        (timedelta(days=7), 900, "10m"),  # 672 s
        (timedelta(days=30), 900, "1h"),  # 48 min
        (timedelta(days=365), 900, "12h"),  # 9.7 h
        (timedelta(days=365), 100, "1d"),  # 3.65 d
        (timedelta(days=365), 20, "1w"),  # 18 d
        (timedelta(days=3650), 100, "30d"),  # 36 d
        (timedelta(days=36500), 100, "1y"),
    ],
)
def test_intervals(span: timedelta, points: int, written: str) -> None:
    """A range and a width give the interval that browsers come to."""
    chosen = interval.interval_ms(span, points)
    # Text keeps the largest unit only: 30 days are 4 weeks and a rest.
    assert interval.text(chosen) == {"30d": "4w"}.get(written, written)


class TestVariables:
    """How what is chosen stands in a query."""

    @pytest.mark.parametrize(
        ("chosen", "form", "text"),
        [
            (("a", "b"), "sqlstring", "'a','b'"),
            ("o'neill", "sqlstring", "'o''neill'"),
            ((), "sqlstring", ""),
            (("a", "b"), "csv", "a,b"),
            (("a", "b"), "pipe", "a|b"),
            ("a/b c", "percentencode", "a%2Fb%20c"),
        ],
    )
    def test_formats(self, chosen: str | tuple[str, ...], form: str, text: str) -> None:
        """Each format writes as Grafana's."""
        assert variables.interpolate(f"${{v:{form}}}", {"v": Value(chosen)}) == text

    @pytest.mark.parametrize("text", ["$v", "${v}", "[[v]]", "${v:whatever}"])
    def test_a_format_is_required(self, text: str) -> None:
        """Without one, releases of Grafana quote differently."""
        with pytest.raises(VariableError):
            variables.interpolate(text, {"v": Value("x")})

    def test_what_is_unknown_is_left(self) -> None:
        """Macros look like variables."""
        assert variables.interpolate("$__timeFrom() $other", {"v": Value("x")}) == (
            "$__timeFrom() $other"
        )

    def test_all_is_every_option(self) -> None:
        """Of a variable with several, All is the list of what is offered."""
        several = {"type": "query", "multi": True}
        assert variables.chosen(several, ["a", "b"]) == Value(("a", "b"))
        assert variables.chosen(several, ["a", "b"], ["b"]) == Value(("b",))
        assert variables.chosen({"type": "query"}, ["a", "b"]) == Value("a")
        assert variables.chosen({"type": "query"}, []) == Value("")
        assert variables.chosen({"type": "textbox"}, [], ["x"]) == Value("x")

    def test_options(self) -> None:
        """Values are those of __value, else of all columns, each once."""
        named = variables.options(["__text", "__value"], [("A", "a"), ("B", "b")])
        assert named == ["a", "b"]
        assert variables.options(["x"], [("a",), ("a",), (None,), (3,)]) == ["a", "3"]


class TestFrames:
    """Results as frames."""

    @pytest.fixture
    async def run(self, empty_dsn: str) -> AsyncIterator[Run]:
        """Run a query and return its frame."""
        connection = await asyncpg.connect(empty_dsn)

        async def once(sql: str, form: str = "time_series") -> Frame:
            return await frames.query(connection, sql, form)

        yield once
        await connection.close()

    async def test_long_becomes_wide(self, run: Run) -> None:
        """A text beside a value is a label; what a series lacks at a time is null."""
        frame = await run(
            "SELECT * FROM (VALUES ('2026-01-01Z'::timestamptz, 'a', 1, 1.5), "
            "('2026-01-01Z', 'b', 2, 2.5), ('2026-01-02Z', 'b', 3, 3.5)) AS v (time, server, n, x)"
        )
        assert [(f.display, f.values) for f in frame.fields] == [
            ("Time", [1767225600000.0, 1767312000000.0]),
            ("n a", [1, None]),
            ("n b", [2, 3]),
            ("x a", [1.5, None]),
            ("x b", [2.5, 3.5]),
        ]

    async def test_a_metric_names_its_series(self, run: Run) -> None:
        """Of three columns, of which one is `metric`, the text is the name."""
        frame = await run(
            "SELECT '2026-01-01Z'::timestamptz AS time, 'law' AS metric, 5::bigint AS n"
        )
        assert [(f.name, f.values, f.labels) for f in frame.fields[1:]] == [("law", [5], {})]

    async def test_without_a_text_columns_are_series(self, run: Run) -> None:
        """Booleans and times are numbers in a series."""
        frame = await run(
            "SELECT '2026-01-01Z'::timestamptz AS time, TRUE AS up, "
            "'2026-01-02Z'::timestamptz AS until, 1.25::numeric AS x"
        )
        assert [(f.name, f.type, f.values) for f in frame.fields] == [
            ("Time", "time", [1767225600000.0]),
            ("up", "number", [1.0]),
            ("until", "number", [1767312000000.0]),
            ("x", "number", [1.25]),
        ]

    @pytest.mark.parametrize(
        ("sql", "said"),
        [
            ("SELECT 1 AS n", "no time column"),
            ("SELECT now() AS time, '{}'::jsonb AS j", "JSON"),
            ("SELECT now() AS time, 1 AS n, 2 AS n", "two columns have the same name"),
            ("SELECT NULL::timestamptz AS time, 1 AS n", "null"),
            (
                (
                    "SELECT * FROM (VALUES (now(), 'a', 1), (now() - interval '1 day', 'b', 2)) "
                    "AS v (time, s, n)"
                ),
                "not ordered by time",
            ),
        ],
    )
    async def test_what_cannot_be_a_series(self, run: Run, sql: str, said: str) -> None:
        """Grafana would show an error."""
        with pytest.raises(FrameError, match=said):
            await run(sql)

    async def test_tables(self, run: Run) -> None:
        """Times, numbers and Booleans keep their types; all else is text. Nothing has no fields."""
        frame = await run(
            "SELECT '2026-01-01'::date AS d, 1 AS n, TRUE AS b, 'x' AS t, "
            "ARRAY[1] AS a, interval '1 h' AS i, 1767225600 AS time",
            "table",
        )
        assert [f.type for f in frame.fields] == [
            *("time", "number", "boolean", "string", "string", "string", "time")
        ]
        assert frame.fields[-1].values == [1767225600000.0]
        empty = await run("SELECT 1 AS n WHERE FALSE", "table")
        assert (empty.fields, empty.columns) == ([], {"n": "int4"})


def make_panel(of: str, **changes: object) -> dict[str, Any]:
    """Return a panel with one override."""
    return {
        "type": of,
        "options": {},
        "fieldConfig": {"defaults": {"unit": "short"}, "overrides": []},
        **changes,
    }


def override(name: str, prop: str, value: object) -> dict[str, Any]:
    """Return the configuration of fields with one override."""
    return {
        "defaults": {"unit": "short"},
        "overrides": [
            {
                "matcher": {"id": "byName", "options": name},
                "properties": [{"id": prop, "value": value}],
            }
        ],
    }


TIME = Field("Time", "time", [1.0, 2.0])
LINK = [{"title": "x", "url": '/d/x?var-a=${__data.fields["room"]:percentencode}'}]


@pytest.mark.parametrize(
    ("panel", "frame", "said"),
    [
        (make_panel("timeseries"), Frame([], {"time": "timestamptz", "x": "text"}), "no number"),
        (make_panel("timeseries"), Frame([], {"x": "int8"}), "no time"),
        (
            make_panel("timeseries"),
            Frame(
                [Field("Time", "time", [2.0, 1.0]), Field("n", "number", [1, 2])],
                {"time": "timestamptz", "n": "int8"},
            ),
            "do not rise",
        ),
        (
            make_panel("heatmap"),
            Frame([TIME, Field("many", "number", [1, 2])], {"time": "timestamptz", "many": "int8"}),
            "not a number: many",
        ),
        (
            make_panel("timeseries", fieldConfig=override("lost", "unit", "s")),
            Frame([], {"time": "timestamptz", "n": "int8"}),
            "override of lost",
        ),
        (
            make_panel("table", fieldConfig=override("n", "links", LINK)),
            Frame([], {"n": "int8"}),
            "needs room",
        ),
        (
            make_panel("table", options={"sortBy": [{"displayName": "size"}]}),
            Frame([], {"n": "int8"}),
            "sorted by size",
        ),
        (make_panel("table"), Frame([], {"at": "timestamptz"}), "at is a time in short"),
        (
            make_panel("table", fieldConfig=override("n", "unit", "dateTimeAsIso")),
            Frame([], {"n": "int8"}),
            "n is a number in dateTimeAsIso",
        ),
        (
            make_panel("table", fieldConfig=override("t", "unit", "bytes")),
            Frame([], {"t": "text"}),
            "t is a text in bytes",
        ),
        (
            make_panel("barchart", options={"xField": "size"}),
            Frame([], {"size": "int8", "n": "int8"}),
            "x is size",
        ),
        (
            make_panel("stat", options={"reduceOptions": {"fields": ""}}),
            Frame([], {"t": "text"}),
            "expected one column",
        ),
        (
            make_panel("stat", options={"reduceOptions": {"fields": ""}}),
            Frame([Field("n", "number", [1, 2])], {"n": "int8"}),
            "more than one row",
        ),
        (make_panel("piechart"), Frame([], {}), "no rule"),
    ],
)
def test_what_does_not_fit_is_found(panel: dict[str, Any], frame: Frame, said: str) -> None:
    """Each rule of the checks can fail."""
    assert any(said in fault for fault in checks.panel_faults(panel, [frame]))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"text": "text"}, "time is None"),
        ({"time": "timestamptz"}, "text is None"),
        ({"time": "timestamptz", "text": "text", "timeend": "text"}, "timeend is not a time"),
    ],
)
def test_what_is_no_annotation_is_found(columns: dict[str, str], said: str) -> None:
    """An annotation needs a time and a text."""
    assert any(said in fault for fault in checks.annotation_faults(Frame([], columns)))


def test_what_a_dashboard_lacks_is_found() -> None:
    """Panels that overlap, or say nothing of themselves."""
    panel = {
        **make_panel("stat", fieldConfig={"defaults": {}, "overrides": []}),
        "id": 1,
        "title": "A",
        "gridPos": {"x": 20, "y": 0, "w": 5, "h": 2},
    }
    board = {"schemaVersion": 41, "uid": "x", "title": "y", "tags": [], "refresh": "1m"}
    faults = " ".join(checks.board_faults(board, [panel, panel]))
    for said in (
        *("schemaVersion is 41", "no description", "no tags", "two panels have the same id"),
        *("A is wider", "A covers A", "A has no unit", "(A) has no description"),
        "(A) has no targets",
    ):
        assert said in faults
