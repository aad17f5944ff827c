"""The findings of a check, and their repairs."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import asyncpg

# The most findings of a check that are listed; all are counted. It keeps the output readable.
TOLD = 20

Status = Literal["ok", "differs", "nothing", "skipped", "failed"]


# Most pieces have no findings, so rows are only counted: no details are built or sorted.
_COUNT = """
SELECT
    count(*) AS examined,
    count(*) FILTER (WHERE kind = 'explained') AS explained,
    count(*) FILTER (WHERE kind <> 'explained') AS wrong
FROM ({rows}) AS x
"""
_DETAILS = f"""
SELECT
    count(*) AS wrong,
    array_agg(DISTINCT at ORDER BY at) AS ats,
    (array_agg(at ORDER BY at, detail))[1:{TOLD}] AS first_at,
    (array_agg(detail ORDER BY at, detail))[1:{TOLD}] AS details
FROM ({{rows}}) AS x
WHERE kind <> 'explained'
"""  # noqa: S608 - a number, and this project's own queries


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference, as texts for people; times are in the billing time zone."""

    check: str
    what: str
    expected: str
    found: str
    repairable: bool


@dataclass(frozen=True, slots=True)
class Refresh:
    """Repair: refresh a rollup over [since, until), which must be whole buckets."""

    rollup: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Reopen:
    """Repair: recompute a session's figures, and whether it has ended."""

    session_id: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Settle:
    """Repair: settle late or filled data of [since, until)."""

    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class CountOnce:
    """Repair: let sessions that began in [since, until) on two servers count once, if possible."""

    since: datetime
    until: datetime


Repair = Refresh | Reopen | Settle | CountOnce


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a check.

    `examined` counts what was compared: buckets, sessions, polls, chunks or policies. `total`
    counts all findings; `findings` has only the first ones. `repairs` has all possible repairs.
    """

    name: str
    status: Status
    examined: int = 0
    total: int = 0
    findings: tuple[Finding, ...] = ()
    note: str = ""
    repairs: tuple[Repair, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the check has no findings; also True if it had nothing to examine."""
        return self.status not in {"differs", "failed"}


@dataclass(frozen=True, slots=True)
class Examined:
    """The rows that a query examined: their number, and the wrong ones among them.

    `explained` counts differences that late data explain. `wrong` counts all wrong rows; `ats` has
    their distinct times in order. `first` has the time and the detail of the first wrong rows.
    """

    rows: int
    explained: int
    wrong: int = 0
    ats: Sequence[datetime] = ()
    first: Sequence[tuple[datetime, dict[str, Any]]] = ()


async def examine(pool: asyncpg.Pool, rows: str, *arguments: object) -> Examined:
    """Count the rows of the query `rows`; read their details only if some are wrong.

    The query must return every examined row with these columns: the time `at`; `kind`, which is
    NULL if the row is right and 'explained' if late data explain a difference; and `detail` (jsonb)
    of a wrong row. Raises what asyncpg raises.
    """
    count = await pool.fetchrow(_COUNT.format(rows=rows), *arguments)
    assert count is not None  # noqa: S101 - an aggregate without GROUP BY has a row
    if not count["wrong"]:
        return Examined(count["examined"], count["explained"])
    found = await pool.fetchrow(_DETAILS.format(rows=rows), *arguments)
    assert found is not None  # noqa: S101
    details = map(json.loads, found["details"] or ())
    return Examined(
        count["examined"],
        count["explained"],
        found["wrong"],
        found["ats"] or (),
        list(zip(found["first_at"] or (), details, strict=True)),
    )


@dataclass(slots=True)
class Tally:
    """Collects findings for a result."""

    name: str
    examined: int = 0
    total: int = 0
    findings: list[Finding] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    # How many differences were not judged, by reason; and further sentences for the note.
    passed_over: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def add(
        self, what: str, expected: str, found: str, repair: Iterable[Repair] = (), *, count: int = 1
    ) -> None:
        """Add `count` findings, described by this one, and their repairs."""
        self.total += count
        repairs = list(repair)
        self.repairs += repairs
        if len(self.findings) < TOLD:
            self.findings.append(Finding(self.name, what, expected, found, bool(repairs)))

    def take(
        self,
        found: Examined,
        describe: Callable[[dict[str, Any]], tuple[str, str, str]],
        mend: Callable[[datetime], Repair | None] = lambda _at: None,
    ) -> None:
        """Add the result of `examine`.

        `describe` returns the texts (what, expected, found) of a detail. `mend` returns the repair
        of a wrong row by its time, or None.
        """
        self.examined += found.rows
        self.total += found.wrong
        if found.explained:
            self.passed_over["late data will be settled soon"] += found.explained
        for at, detail in found.first:
            if len(self.findings) < TOLD:
                finding = Finding(self.name, *describe(detail), repairable=mend(at) is not None)
                self.findings.append(finding)
        repairs = [repair for at in found.ats if (repair := mend(at)) is not None]
        self.repairs = merged([*self.repairs, *repairs])

    def result(self) -> Result:
        """Return the collected result."""
        notes = [f"{count} not judged: {why}" for why, count in self.passed_over.items()]
        return Result(
            self.name,
            "differs" if self.total else "ok" if self.examined else "nothing",
            self.examined,
            self.total,
            tuple(self.findings),
            "; ".join([*notes, *self.remarks]),
            tuple(self.repairs),
        )


def merged(repairs: Iterable[Repair]) -> list[Repair]:
    """Return the repairs, with adjacent ones joined; they must be in order."""
    whole: list[Repair] = []
    for repair in repairs:
        both = _joined(whole[-1], repair) if whole else None
        if both is None:
            whole.append(repair)
        else:
            whole[-1] = both
    return whole


def _joined(first: Repair, then: Repair) -> Repair | None:
    """Return one repair that replaces two; None if they do not touch."""
    if isinstance(first, Refresh) and isinstance(then, Refresh):
        if (first.rollup, first.until) == (then.rollup, then.since):
            return Refresh(first.rollup, first.since, then.until)
        return None
    if isinstance(first, Settle) and isinstance(then, Settle) and then.since <= first.until:
        return Settle(first.since, max(first.until, then.until))
    return None
