"""What a verification says, and how repairs are put together."""

import io
import json
from datetime import UTC, datetime, timedelta

from rich.console import Console

from collector.verify import Finding, Result, as_json, as_table
from collector.verify.result import Refresh, Reopen, Repair, Settle, Tally, merged

T, MINUTE = datetime(2026, 3, 2, 10, tzinfo=UTC), timedelta(minutes=1)
RESULTS = [
    Result("rollup usage_1m", "ok", examined=14400),
    Result("chunks", "nothing"),
    Result("jobs", "skipped", note="the embedded engine records no runs"),
    Result("polls", "failed", note="polls: gone [bold]"),
    Result(
        "samples",
        "differs",
        examined=10,
        total=21,
        findings=(
            Finding("samples", "session 7 of tenant [red]", "one sample", "2 samples", True),  # noqa: FBT003
            Finding("samples", "poll of server b", "a successful poll", "no poll", False),  # noqa: FBT003
        ),
        note="missing: handover 3",
    ),
]


def test_the_table() -> None:
    """A line a check, with what it examined; then the first findings, and how many there are."""
    out = io.StringIO()
    Console(file=out, width=100).print(as_table(RESULTS))
    lines = [" ".join(line.split()) for line in out.getvalue().splitlines()]
    assert "rollup usage_1m ok 14,400 0" in lines
    assert "chunks nothing 0 0" in lines
    # Text from outside is no markup.
    assert "polls failed 0 0 polls: gone [bold]" in lines
    assert "samples differs 10 21 missing: handover 3" in lines
    assert lines[-3:] == [
        "samples: session 7 of tenant [red]: 2 samples; expected one sample (repairable)",
        "samples: poll of server b: no poll; expected a successful poll",
        "samples: … 19 more",
    ]


def test_json() -> None:
    """The same for machines."""
    checks = json.loads(as_json(RESULTS))
    assert [check["ok"] for check in checks] == [True, True, True, False, False]
    assert checks[4] | {"findings": checks[4]["findings"][1:]} == {
        "check": "samples",
        "ok": False,
        "status": "differs",
        "examined": 10,
        "total": 21,
        "note": "missing: handover 3",
        "findings": [
            {
                "what": "poll of server b",
                "expected": "a successful poll",
                "found": "no poll",
                "repairable": False,
            }
        ],
    }


def test_a_tally_tells_a_few_and_counts_all() -> None:
    """Only the first of many findings are listed; the repairs of all of them are kept."""
    tally = Tally("sessions", examined=30)
    for number in range(25):
        tally.add(f"session {number}", "ended", "open", [Reopen(number, T)] if number else [])
    result = tally.result()
    assert (result.status, result.total, len(result.findings)) == ("differs", 25, 20)
    assert len(result.repairs) == 24
    assert [finding.repairable for finding in result.findings[:2]] == [False, True]
    assert Tally("sessions").result().status == "nothing"


def test_repairs_that_touch_are_one() -> None:
    """Neighbouring buckets are refreshed at a time, and no others in between."""
    repairs: list[Repair] = [
        Refresh("usage_1m", T, T + MINUTE),
        Refresh("usage_1m", T + MINUTE, T + 2 * MINUTE),
        Refresh("usage_1m", T + 3 * MINUTE, T + 4 * MINUTE),
        Refresh("usage_1h", T + 4 * MINUTE, T + 60 * MINUTE),
        Settle(T, T + MINUTE),
        Settle(T + MINUTE / 2, T + 2 * MINUTE),
        Settle(T + 5 * MINUTE, T + 6 * MINUTE),
        Reopen(1, T),
    ]
    assert merged(repairs) == [
        Refresh("usage_1m", T, T + 2 * MINUTE),
        Refresh("usage_1m", T + 3 * MINUTE, T + 4 * MINUTE),
        Refresh("usage_1h", T + 4 * MINUTE, T + 60 * MINUTE),
        Settle(T, T + 2 * MINUTE),
        Settle(T + 5 * MINUTE, T + 6 * MINUTE),
        Reopen(1, T),
    ]
