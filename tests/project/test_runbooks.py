"""The runbooks in docs/runbooks, against the code."""

import re
from pathlib import Path

from collector.errors import PollError

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
# What the code of an error has after its kind.
SUFFIXES = {"http_status": ":NNN", "api_error": ":<messageKey>"}
# Stored as an error too: of a poll that succeeded in part, and of answers that were not stored.
OTHERS = ["partial", "spool_full", "rejected"]


def kinds_of_error() -> list[str]:
    """Return every kind of PollError, in the order of collector/errors.py."""
    classes = PollError.__subclasses__()
    return [of.kind + SUFFIXES.get(of.kind, "") for of in classes]


def test_server_down_explains_every_error() -> None:
    """The table has one row for each error that a poll can have, with a meaning and an action."""
    page = (RUNBOOKS / "server-down.md").read_text(encoding="utf-8")
    rows = re.findall(r"^   \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert [code for code, _, _ in rows] == [*kinds_of_error(), *OTHERS]
    assert all(meaning.strip() and action.strip() for _, meaning, action in rows)


def test_runbooks_name_no_error_that_does_not_exist() -> None:
    """Errors that other runbooks name, as `… error` or `error …`, are in the table."""
    known = {*kinds_of_error(), *OTHERS}
    named = {
        name
        for path in RUNBOOKS.glob("*.md")
        for pair in re.findall(r"`(\w+)` errors?\b|\berrors? `(\w+)`", path.read_text("utf-8"))
        for name in pair
        if name
    }
    assert named
    assert named <= known
