"""How a report's period is read."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from collector.errors import ReportError
from collector.reports.usage import parse_instant

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-02-01", "2026-01-31T23:00+00:00"),
        ("2026-07-01", "2026-06-30T22:00+00:00"),
        ("2026-02-01T08:30", "2026-02-01T07:30+00:00"),
        ("2026-02-01 08:30", "2026-02-01T07:30+00:00"),
        ("2026-02-01T08:30Z", "2026-02-01T08:30+00:00"),
        ("2026-02-01T08:30+05:30", "2026-02-01T03:00+00:00"),
        ("20260201", "2026-01-31T23:00+00:00"),
    ],
)
def test_instants_are_read_in_the_zone(text: str, instant: str) -> None:
    """A date is its midnight in the billing time zone; an offset says otherwise."""
    assert parse_instant(text, BERLIN) == datetime.fromisoformat(instant)


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "1.2.2026", "2026-02-30", "2026-02-01T25:00", "0001-01-01", "9999-12-31"],
)
def test_what_is_no_instant(text: str) -> None:
    """Anything else is refused, and so are the edges of the calendar, where zones overflow."""
    with pytest.raises(ReportError, match="not a date such as 2026-02-01 or a time such as"):
        parse_instant(text, BERLIN)
