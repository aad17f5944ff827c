"""The runbooks in docs/runbooks, against the code."""

import re
from pathlib import Path

from collector.outcomes import Outcome

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
# What an outcome has behind its word.
SUFFIXES = {"http_status": ":NNN", "api_error": ":<messageKey>"}


def outcomes() -> list[str]:
    """Return every outcome but `ok`, in the order of collector/outcomes.py."""
    return [known + SUFFIXES.get(known, "") for known in Outcome if known is not Outcome.OK]


def test_server_down_explains_every_outcome() -> None:
    """The table has one row for each outcome of a poll, with a meaning and an action."""
    page = (RUNBOOKS / "server-down.md").read_text(encoding="utf-8")
    rows = re.findall(r"^   \| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert [code for code, _, _ in rows] == outcomes()
    assert all(meaning.strip() and action.strip() for _, meaning, action in rows)


def test_runbooks_name_no_error_that_does_not_exist() -> None:
    """Errors that other runbooks name, as `… error` or `error …`, are in the table."""
    known = set(outcomes())
    named = {
        name
        for path in RUNBOOKS.glob("*.md")
        for pair in re.findall(r"`(\w+)` errors?\b|\berrors? `(\w+)`", path.read_text("utf-8"))
        for name in pair
        if name
    }
    assert named
    assert named <= known
