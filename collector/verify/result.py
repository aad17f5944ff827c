"""What a check found, and what would mend it."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import asyncpg

# So many findings of a check are told one by one; all are counted.
TOLD = 20

Status = Literal["ok", "differs", "nothing", "skipped", "failed"]


# Counting is all that most pieces need: no detail is made, and nothing is sorted.
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
    """One thing that is not as it should be, in plain words; times are in the billing zone."""

    check: str
    what: str
    expected: str
    found: str
    repairable: bool


@dataclass(frozen=True, slots=True)
class Refresh:
    """Compute a rollup anew over [since, until), which are whole buckets."""

    rollup: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Reopen:
    """Compute the session's figures, and whether it has ended, anew."""

    session_id: int
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Settle:
    """See to what hangs on late or filled data of [since, until)."""

    since: datetime
    until: datetime


Repair = Refresh | Reopen | Settle


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of a check.

    `examined` counts what was compared (buckets, sessions, polls, chunks, policies), `total` all
    findings, of which `findings` are the first ones. `repairs` mends all that can be mended.
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
        """Whether it found nothing wrong; it may have found nothing to examine, too."""
        return self.status not in {"differs", "failed"}


@dataclass(frozen=True, slots=True)
class Examined:
    """What a query looked at: how many rows, how many were explained, and where it is wrong.

    `wrong` counts all wrong rows, whose times are in `ats`, in order and each once; `first` has
    the time and the detail of the first ones.
    """

    rows: int
    explained: int
    wrong: int = 0
    ats: Sequence[datetime] = ()
    first: Sequence[tuple[datetime, dict[str, Any]]] = ()


async def examine(pool: asyncpg.Pool, rows: str, *arguments: object) -> Examined:
    """Count what the query `rows` finds; ask for more only where something is wrong.

    It returns all that is looked at: the time `at`, `kind` (NULL where all is right, 'explained'
    where a difference is none), and `detail`, jsonb, of what is wrong.
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
    """A result in the making."""

    name: str
    examined: int = 0
    total: int = 0
    findings: list[Finding] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    # How many were passed over, and why; then whatever else the note is to say.
    passed_over: Counter[str] = field(default_factory=Counter)
    remarks: list[str] = field(default_factory=list)

    def add(
        self, what: str, expected: str, found: str, repair: Iterable[Repair] = (), *, count: int = 1
    ) -> None:
        """Note `count` findings of which this is one, and what would mend them."""
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
        """Note what was examined; `describe` gives what, expected and found of a detail."""
        self.examined += found.rows
        self.total += found.wrong
        if found.explained:
            self.passed_over["late data are about to be seen to"] += found.explained
        for at, detail in found.first:
            if len(self.findings) < TOLD:
                finding = Finding(self.name, *describe(detail), repairable=mend(at) is not None)
                self.findings.append(finding)
        repairs = [repair for at in found.ats if (repair := mend(at)) is not None]
        self.repairs = merged([*self.repairs, *repairs])

    def result(self) -> Result:
        """Return the result."""
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
    """Return the repairs with those in one that follow upon each other; they come in order."""
    whole: list[Repair] = []
    for repair in repairs:
        both = _joined(whole[-1], repair) if whole else None
        if both is None:
            whole.append(repair)
        else:
            whole[-1] = both
    return whole


def _joined(first: Repair, then: Repair) -> Repair | None:
    """Return one repair in place of two; None where they do not touch."""
    if isinstance(first, Refresh) and isinstance(then, Refresh):
        if (first.rollup, first.until) == (then.rollup, then.since):
            return Refresh(first.rollup, first.since, then.until)
        return None
    if isinstance(first, Settle) and isinstance(then, Settle) and then.since <= first.until:
        return Settle(first.since, max(first.until, then.until))
    return None
