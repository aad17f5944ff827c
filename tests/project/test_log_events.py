"""The table of log events in docs/operations.md, against the code."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOGGERS = {"log", "_log"}
# `debug` is for developers: its events are in no table.
LEVELS = {"info", "warning", "error"}
METHODS = LEVELS | {"debug"}


def method(node: ast.AST) -> str | None:
    """Return the method's name if `node` is a method of a logger, such as `log.info`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return node.attr if node.value.id in LOGGERS else None
    return None


def chosen(tree: ast.AST) -> dict[str, set[str]]:
    """Return the levels that a variable can stand for, as in `level = log.warning if …`."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and not isinstance(node.value, ast.Call):
            levels = {name for part in ast.walk(node.value) if (name := method(part))}
            for target in node.targets:
                if levels and isinstance(target, ast.Name):
                    found[target.id] |= levels
    return found


def calls(source: str) -> Iterator[tuple[str, ast.expr]]:
    """Yield level and event of each call of a logger in `source`."""
    tree = ast.parse(source)
    variables = chosen(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if level := method(node.func):
            yield level, node.args[0]
        elif isinstance(node.func, ast.Name):
            for one in variables.get(node.func.id, ()):
                yield one, node.args[0]


def logged() -> dict[str, set[str]]:
    """Return the levels of every event that the package logs, without `debug`."""
    events: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "collector").rglob("*.py")):
        for level, event in calls(path.read_text(encoding="utf-8")):
            assert level in METHODS, f"{path}: log.{level}"
            assert isinstance(event, ast.Constant), f"{path}:{event.lineno}: not a fixed event"
            if level in LEVELS:
                events[str(event.value)].add(level)
    return events


def rows() -> list[tuple[str, str, str]]:
    """Return event, level and meaning of each row of the table."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## Log events\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)


def test_the_table_has_every_event_with_its_level() -> None:
    """What an operator can find in the log is explained, and nothing that cannot be there."""
    assert {event: {level} for event, level, _ in rows()} == logged()


def test_the_table_is_in_alphabetical_order_and_says_something() -> None:
    """Each event is found at once, in one row, with its meaning."""
    events = [event for event, _, _ in rows()]
    assert events == sorted(set(events))
    assert all(meaning.strip() for _, _, meaning in rows())


def test_every_row_of_the_table_is_read() -> None:
    """No row escapes the checks because it is written in another way."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## Log events\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[:2] == ["| event | level | meaning, and what to do |", "|---|---|---|"]
    assert len(lines) - 2 == len(rows()) > 0


def test_events_are_short_fixed_names() -> None:
    """They can be searched and alerted on: words in small letters, joined by `_`."""
    assert [event for event in logged() if not re.fullmatch(r"[a-z]+(_[a-z]+)*", event)] == []


def test_calls_of_a_logger_are_found() -> None:
    """A call is found under both names, and through a variable that holds one of two methods."""
    source = """
log.info("one", key=1)
_log.error("two")
level = log.warning if bad else log.debug
level("three")
level = text.count("a")
other.info("four")
"""
    found = {(level, getattr(event, "value", None)) for level, event in calls(source)}
    assert found == {("info", "one"), ("error", "two"), ("warning", "three"), ("debug", "three")}
