"""What people read of a run: its tables, and docs/reliability.md around them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.account import FILLED_TOLERANCE, TOLERANCE, Account
from tests.chaos.plan import EVERY
from tests.chaos.world import INTERVAL_S, Hit


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's figures; `hits` are the faults one by one, `problems` says what is wrong.

    `verify` is what `bbbmeter verify` printed.
    """

    seed: int
    seconds: int
    servers: int
    database: str
    version: str
    injected: dict[str, int]
    survived: dict[str, int]
    account: Account
    calm_s: float
    peak_mib: dict[str, float]
    starts: dict[str, int]
    verify: str
    problems: list[str]
    hits: list[Hit]

    def to_json(self) -> str:
        """Return all of it as JSON."""
        content: dict[str, Any] = asdict(self)
        for name, minutes in self.account.minutes.items():
            content["account"]["minutes"][name]["difference"] = minutes.difference
            content["account"]["minutes"][name]["filled_difference"] = minutes.filled_difference
        return json.dumps(content, default=str, indent=1)


def as_markdown(outcome: Outcome) -> list[str]:
    """Return the lines of the run's tables."""
    account = outcome.account
    lines = ["| fault | injected | survived | |", "|---|--:|--:|---|"]
    for kind, fault in EVERY.items():
        what = f"a server {fault.what}" if kind.startswith("server_") else fault.what
        injected, survived = outcome.injected.get(kind, 0), outcome.survived.get(kind, 0)
        lines.append(f"| {kind} | {injected} | {survived} | {what} |")
    total, outlived = sum(outcome.injected.values()), sum(outcome.survived.values())
    lines += [f"| **all** | **{total}** | **{outlived}** | |", ""]
    lines += ["| ticks due | number | share |", "|---|--:|--:|"]
    stored = {"stored: ok": account.outcomes.get("ok", 0)}
    stored |= {
        f"stored as failed: {error}": count
        for error, count in sorted(account.outcomes.items())
        if error != "ok"
    }
    missing = {f"missing: {reason}": count for reason, count in sorted(account.missing.items())}
    for what, count in {**stored, **missing, "**due**": account.due}.items():
        lines.append(f"| {what} | {count:,} | {count / max(account.due, 1):.1%} |")
    lines += [
        "",
        (
            "| tenant | minutes from polls | truth | difference | filled | truth | difference "
            "| truth of all due ticks |"
        ),
        "|---" + "|--:" * 7 + "|",
    ]
    for name, mine in account.minutes.items():
        lines.append(
            f"| {name} | {mine.polled:,.1f} | {mine.polled_truth:,.1f} | {mine.difference:+.3%} "
            f"| {mine.filled:,.1f} | {mine.filled_truth:,.1f} | {mine.filled_difference:+.3%} "
            f"| {mine.whole_truth:,.1f} |"
        )
    peaks = ", ".join(f"{name} {mib:.0f} MiB" for name, mib in outcome.peak_mib.items())
    starts = ", ".join(f"{name} {count}" for name, count in outcome.starts.items())
    lines += [
        "",
        (
            f"{account.samples:,} samples of {account.sessions:,} sessions, "
            f"{account.filled_samples:,} of them filled; {account.waiting} batches left in the "
            f"spool, {account.quarantined} in quarantine. Longest handover: "
            f"{account.longest_handover} ticks of a server. At rest {outcome.calm_s:.0f} s after "
            f"the last fault. Starts: {starts}. Peak memory: {peaks}."
        ),
    ]
    return lines


_PAGE = """\
# What can be lost, and what cannot

Bills are written from these figures, so this page says what is promised, how it shows when
something was lost all the same, and how all of it is tested. The tables at its end were made by
`make chaos`.

## What is promised

- **Each server is asked at every tick**, by one collector at least. Two may ask at a handover.
- **What was answered is stored exactly once.** A poll is the commit record of its samples: one
  statement stores both, and only where no successful poll of that server and tick is there yet.
  So a replay, a second collector or a retry after an unknown outcome stores nothing twice. A
  successful poll takes the place of a failed one, a real sample that of a filled one, in whatever
  order they arrive.
- **While the database is away, slow or cut off, polls wait on disk**, in order, for as long as the
  spool has room; live polls never wait behind the backlog. What is stored late reaches every
  rollup.
- **A failure is never zero.** A server that did not answer has a poll that failed, with the kind
  of error; nothing is invented for it but short holes, which are marked as filled.

## What can be lost, and how it shows

- **A collector is killed, or its machine dies.** Lost: what it had in memory, which is the last
  second or so, and the ticks until another takes over (within three intervals) or it is started
  again. Shows as missing polls, with the reason `handover` or `no collector`.
- **A collector dies while the database is away for all.** Lost: its ticks until it is started
  again; no other can know of it. Missing polls, `no collector`.
- **A collector is cut off from the database alone.** Nothing is lost while its spool has room;
  meanwhile others poll its servers as well. What was there already when it comes back is counted
  in `bbbmeter_repeated_polls_total`.
- **The spool is full, or its disk.** Lost: the newest polls, once memory is full as well; the
  oldest are kept. Failed polls with the error `spool_full`, stored as soon as there is room again.
- **The database refuses a batch for its content.** Nothing is lost: it waits in quarantine
  (`bbbmeter spool list`). Until it is retried, a failed poll with the error `rejected` is in its
  place.
- **A backlog is older than retention.** It is not stored any more, but put into quarantine, and
  counted in `bbbmeter_dropped_polls_total` with the reason `too_old`.
- **The machine is suspended.** Lost: the ticks that it slept through until another collector took
  over. Missing polls, `handover`.
- **The disk with the spool dies.** Lost: what waited there. Missing polls.

Every due tick of every server is either stored, as ok or as failed with its error, or in
`meter.missing_polls(since, until)` with its reason. `unexplained` there is a finding of
`bbbmeter verify`. Coverage (stored and ok / due) stands beside every figure that leaves bbbmeter.

## How it is tested

`make chaos` runs a simulated fleet over HTTP, two collectors with a spool in common, and a real
engine, for some minutes. Each collector reaches the database through a TCP proxy of its own. From
a seed, it is decided before the run begins what happens when. Connections are cut, in
mid-message as well, delayed, and lost half-open in either direction; collectors are killed,
ended, and stopped like a suspended machine; the engine is killed; the database is away for a
quarter of the time, in one stretch, in which the disk of one collector's spool takes no byte.
Servers fail in all the ways they know. A fault is survived if polls of ticks after it are in the
database, and no process ended by itself in its course. (Where the database is on a server that is
not the run's, "killed" means that all connections are terminated and refused.)

Then all faults end, and when both collectors are at rest and were ended in order (exit code 0),
the run fails unless

- every due tick has exactly one poll, or is in `meter.missing_polls` with a reason, and vice versa;
- no sample is there twice, none is without its poll or its session, each successful poll has
  as many as it says, and each session's figures are its samples';
- each tenant's participant minutes from polls are within {tolerance:.1%} of the truth weighted by
  coverage: the simulator's own participants at the instant of each (server, tick) that has a
  successful poll; those that were filled in, a straight line between two polls, are within
  {filled_tolerance:.0%} of the truth of the same (server, tick, session), or no further from it
  than the truth itself moves between the two polls;
- reports say the same as the samples, and `bbbmeter verify` finds nothing;
- spool and quarantine are empty, no log holds a traceback, no process took more memory than it
  should.

## The last run

{seconds} s of faults on {servers} servers, polled every {interval_s} s, TimescaleDB {version} as
{database}, seed {seed}.

{tables}
"""


def page(outcome: Outcome) -> str:
    """Return docs/reliability.md, with the run's tables at its end."""
    databases = {"embedded": "the embedded engine", "server": "a database on a server"}
    return _PAGE.format(
        version=outcome.version,
        database=databases[outcome.database],
        seconds=outcome.seconds,
        servers=outcome.servers,
        seed=outcome.seed,
        interval_s=INTERVAL_S,
        tolerance=TOLERANCE,
        filled_tolerance=FILLED_TOLERANCE,
        tables="\n".join(as_markdown(outcome)),
    )
