"""`bbbmeter report`: the figures of a metered hour, as JSON, CSV and tables."""

import asyncio
import csv
import io
import json

import pytest

from collector.reports.figures import FIGURES
from tests.support.shell import DAY, Shell

KEYS = ["tenant", *(figure.name for figure in FIGURES)]
# Keys are only added, at the end.
PUBLIC_KEYS = [
    *("tenant", "participant_minutes", "voice_minutes", "video_minutes", "dialin_minutes"),
    *("sessions", "session_minutes", "avg_session_minutes", "max_session_minutes"),
    *("avg_session_size", "max_session_size", "large_sessions", "peak_participants"),
    *("peak_participants_at", "peak_sessions", "breakout_minutes", "coverage", "filled_share"),
]


async def test_report_as_json(metered: Shell) -> None:
    """Each tenant is an object with the public keys, in order, and its figures."""
    acme, law = await metered.report()
    assert list(acme) == list(law) == KEYS
    assert list(acme)[: len(PUBLIC_KEYS)] == PUBLIC_KEYS
    assert {key: acme[key] for key in PUBLIC_KEYS} == {
        "tenant": "acme",
        "participant_minutes": 900,
        "voice_minutes": 120,
        "video_minutes": 60,
        "dialin_minutes": 30,
        "sessions": 2,
        "session_minutes": 60,
        "avg_session_minutes": 29.75,
        "max_session_minutes": 29.75,
        "avg_session_size": 15,
        "max_session_size": 20,
        "large_sessions": 0,
        "peak_participants": 30,
        "peak_participants_at": "2026-03-02T11:15:00+01:00",
        "peak_sessions": 2,
        "breakout_minutes": 40,
        "coverage": pytest.approx(238 / 240, abs=1e-6),
        "filled_share": 0,
    }
    assert (law["tenant"], law["participant_minutes"], law["sessions"]) == ("law", 150, 1)


async def test_report_of_a_period_that_was_metered_in_part(metered: Shell) -> None:
    """Polls were due for one of its hours: coverage cannot show that, so a line says it."""
    day = ("report", "--from", "2026-03-02", "--to", "2026-03-03", "--tenant", "acme")
    assert (await metered(*day)).err == "metered in 4.2% of the period: acme\n"
    hour = ("report", "--from", "2026-03-02T10:00Z", "--to", "2026-03-02T11:00Z")
    assert not (await metered(*hour)).err


async def test_report_of_a_part(metered: Shell) -> None:
    """A tenant, a server, both, and a part of the day."""
    assert [row["tenant"] for row in await metered.report("--tenant", "law")] == ["law"]
    by_tenant = {row["tenant"]: row for row in await metered.report("--server", "bbb2")}
    assert {name: row["participant_minutes"] for name, row in by_tenant.items()} == {"acme": 600}
    assert by_tenant["acme"]["coverage"] == pytest.approx(118 / 120, abs=1e-6)
    assert await metered.report("--server", "bbb2", "--tenant", "law") == []
    done = await metered(
        *("report", "--tenant", "acme", "--format", "json"),
        *("--from", "2026-03-02T11:10", "--to", "2026-03-02T10:20Z"),
    )
    assert json.loads(done.out)[0]["participant_minutes"] == 10 * 10 + 5 * 20


async def test_report_by_group(metered: Shell) -> None:
    """Rows can be of rooms, servers, days and months; their sums are the tenant's."""
    groups: dict[str, dict[tuple[str, str], float]] = {
        "room": {("acme", "=1+1"): 300, ("acme", "[/b] room"): 600, ("law", "seminar"): 150},
        "server": {("acme", "bbb1"): 300, ("acme", "bbb2"): 600, ("law", "bbb1"): 150},
        "day": {("acme", "2026-03-02"): 900, ("law", "2026-03-02"): 150},
        "month": {("acme", "2026-03"): 900, ("law", "2026-03"): 150},
    }
    for by, expected in groups.items():
        rows = await metered.report("--by", by)
        assert list(rows[0]) == ["tenant", by, *KEYS[1:]]
        assert {(r["tenant"], r[by]): r["participant_minutes"] for r in rows} == expected


async def test_report_as_csv(metered: Shell) -> None:
    """CSV has a header and the same figures; no room's id can be a formula of a spreadsheet."""
    done = await metered("report", *DAY, "--format", "csv", "--by", "room")
    assert (done.code, done.err) == (0, "metered in 4.2% of the period: acme, law\n")
    header, *rows = csv.reader(io.StringIO(done.out))
    assert header == ["tenant", "room", *KEYS[1:]]
    assert [row[:3] for row in rows] == [
        ["acme", "'=1+1", "300.0"],
        ["acme", "[/b] room", "600.0"],
        ["law", "seminar", "150.0"],
    ]


async def test_report_as_table(metered: Shell) -> None:
    """The default is tables to look at, whole whatever the width, with ids as they are."""
    done = await metered("report", *DAY, "--by", "room", COLUMNS="40")
    assert (done.code, done.err) == (0, "metered in 4.2% of the period: acme, law\n")
    for text in ("2026-03-02 00:00 to 2026-03-03 00:00 (Europe/Berlin)", "[/b] room", "99.17%"):
        assert text in done.out
    assert "…" not in done.out


async def test_report_of_the_present(metered: Shell) -> None:
    """Without dates it is this month so far; what nobody saw is null, not zero."""
    done = await metered("report", "--format", "json", "--tenant", "acme")
    assert (done.code, done.err) == (0, "")
    rows = json.loads(done.out)
    # In a month's first minute there is no period yet.
    assert rows == [] or rows == [dict.fromkeys(KEYS) | {"tenant": "acme"}]


async def test_reports_that_cannot_be(metered: Shell) -> None:
    """Each is refused with what is wrong with it."""
    refusals = {
        ("--tenant", "Acme"): ("unknown tenant 'Acme'", "the database has: acme, law"),
        ("--server", "bbb3"): ("unknown server 'bbb3'", "the database has: bbb1, bbb2"),
        ("--from", "1.2.2026"): ("'1.2.2026' is not a date such as 2026-02-01",),
        ("--to", "0001-01-01"): ("'0001-01-01' is not a date",),
        ("--from", "2026-03-03", "--to", "2026-03-02"): ("must not end before it begins",),
        ("--from", "2026-03-02T10:00:30"): ("must begin and end on a full minute",),
        ("--server", "bbb1", "--by", "day"): ("by room or by server, not by day or month",),
    }
    done = await asyncio.gather(*(metered("report", *arguments) for arguments in refusals))
    for refused, texts in zip(done, refusals.values(), strict=True):
        refused.require_refusal(*texts)


async def test_settings_from_the_environment(metered: Shell, empty_dsn: str) -> None:
    """There need be no file; variables that mean nothing are refused."""
    metered.config.unlink()
    variables = {"BBBMETER_DATABASE": empty_dsn, "BBBMETER_BILLING_TIMEZONE": "Europe/Berlin"}
    done = await metered("report", *DAY, "--format", "csv", **variables)
    assert (done.code, done.out.count("\n")) == (0, 3), done.said
    done = await metered("report", BBBMETER_DATABAS="x")
    done.require_refusal("environment variable BBBMETER_DATABAS: unknown key")
