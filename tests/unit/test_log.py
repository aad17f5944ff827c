"""Logs for people and for machines, without what they must not hold."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from collector.log import setup_logging

PASSWORD = "-".join(["hush"] * 2)


@pytest.fixture(autouse=True)
def _own_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep what a test does to the root logger from the tests after it."""
    level = logging.root.level
    monkeypatch.setattr(logging.root, "handlers", [])
    yield
    logging.root.setLevel(level)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what went to standard error since the last call; nothing may go elsewhere."""
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def entries(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return those lines as JSON."""
    return [json.loads(line) for line in lines(capsys)]


def fail(password: str) -> None:
    """Fail with `password` in a frame of the traceback."""
    raise ValueError(len(password))


def test_a_line_is_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """It has event, level, the time in UTC and the entry's own keys."""
    setup_logging("json", "info")
    structlog.get_logger("x").warning("poll_failed", server="bbb1", text="zwei\nZeilen ü")
    (entry,) = entries(capsys)
    now = datetime.now(UTC)
    assert abs((now - datetime.fromisoformat(entry.pop("timestamp"))).total_seconds()) < 60
    assert entry == {
        "event": "poll_failed",
        "level": "warning",
        "server": "bbb1",
        "text": "zwei\nZeilen ü",
    }


def test_libraries_log_in_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes by the standard library is JSON too, from warnings on."""
    setup_logging("json", "debug")
    logging.getLogger("apscheduler").info("chatter")
    logging.getLogger("apscheduler").warning("missed by %s", "2 s")
    (entry,) = entries(capsys)
    assert (entry["event"], entry["level"]) == ("missed by 2 s", "warning")


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_levels(capsys: pytest.CaptureFixture[str], level: str, logged: list[str]) -> None:
    """Less severe entries than the level are not logged."""
    setup_logging("json", level)
    log = structlog.get_logger()
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)(name)
    assert [entry["level"] for entry in entries(capsys)] == logged


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_tracebacks_hold_no_values(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    """A traceback names lines, never the variables of its frames: they can hold secrets."""
    setup_logging(log_format, "info")
    try:
        fail(PASSWORD)
    except ValueError:
        structlog.get_logger().exception("failed")
        logging.getLogger("library").exception("failed too")
    text = "\n".join(lines(capsys))
    assert text.count("Traceback") == 2
    assert text.count("ValueError: 9") == 2
    assert PASSWORD not in text


def test_the_format_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """One line an entry, without colours where it is no terminal."""
    setup_logging("console", "info")
    structlog.get_logger().info("collecting", servers=3)
    (line,) = lines(capsys)
    assert "info" in line
    assert "collecting" in line
    assert "servers=3" in line
    assert "\x1b" not in line


def test_settings_can_change(capsys: pytest.CaptureFixture[str]) -> None:
    """A logger that was in use before takes up a new format and level; nothing comes twice."""
    setup_logging("console", "error")
    log = structlog.get_logger()
    log.info("unseen")
    setup_logging("json", "info")
    log.info("seen")
    logging.getLogger("library").warning("seen, too")
    assert [entry["event"] for entry in entries(capsys)] == ["seen", "seen, too"]
