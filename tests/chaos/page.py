"""Shows a run to people: its tables, and docs/reliability.md around them."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from tests.chaos.account import FILLED_TOLERANCE, TOLERANCE, Account
from tests.chaos.plan import EVERY
from tests.chaos.world import INTERVAL_S, Hit


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's figures; `hits` are the single faults, and `problems` says what is wrong.

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
        """Return the whole outcome as JSON."""
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

You write bills from these figures. So this page says what bbbmeter promises, how you notice a loss,
and how all of this is tested. `make chaos` writes this page, with the tables at its end.

## What is promised

- **Each server is polled at every tick** by at least one collector. During a handover, two may poll
  it.
- **An answer is stored exactly once.** One SQL statement stores a poll together with its samples,
  and only if there is no successful poll of that server and tick yet. So a replay, a second
  collector or a retry after an unknown outcome stores nothing twice. A successful poll replaces a
  failed one for the same tick, and a measured sample replaces a filled one, regardless of order.
- **While the database is away, slow or cut off, polls wait on disk**, in order, as long as the
  spool has room. Live polls never wait behind the backlog. Data that is stored late reaches every
  rollup.
- **A failure is never a zero.** A server that did not answer gets a failed poll with the kind of
  error. bbbmeter invents nothing for it, except that it fills short gaps and marks them as filled.

## What can be lost, and how it shows

- **A collector is killed, or its machine dies.** Lost: the polls in its memory (about the last
  second), and the ticks until another collector takes over (within three intervals) or until it is
  started again. It shows as missing polls, with the reason `handover` or `no collector`.
- **A collector dies while the database is away for all.** Lost: its ticks until it is started
  again, because the other collectors cannot notice. It shows as missing polls, with the reason
  `no collector`.
- **Only one collector is cut off from the database.** Nothing is lost while its spool has room.
  Other collectors poll its servers too. When it is back, polls that are already stored are counted
  in `bbbmeter_repeated_polls_total`.
- **The spool or its disk is full.** When memory is full as well, the newest polls are lost. The
  oldest ones are kept. It shows as failed polls with the outcome `spool_full`, which are stored
  when the database is back.
- **The database rejects the content of a batch.** Nothing is lost: the batch waits in quarantine
  (`bbbmeter spool list`). Until it is stored, a failed poll with the outcome `rejected` is in its
  place.
- **A backlog is older than the retention of samples and polls.** It is not stored. It goes into
  quarantine, and is counted in `bbbmeter_dropped_polls_total` with the outcome `too_old`.
- **The machine is suspended.** Lost: the ticks during its sleep until another collector took over.
  It shows as missing polls, with the reason `handover`.
- **The disk with the spool dies.** Lost: everything that waited there. It shows as missing polls.

Every due tick of every server is in one of two places. It is stored, as successful or as failed
with its outcome. Or it is in `meter.missing_polls(since, until)` with its reason. The reason
`unexplained` is a finding of `bbbmeter verify`. Every figure that leaves bbbmeter has its coverage
next to it.

## How it is tested

`make chaos` runs a simulated fleet over HTTP, two collectors that share a spool directory, and a
real database, for some minutes. Each collector reaches the database through its own TCP proxy. A
seed decides before the run which fault happens when:

- Connections are cut, also in the middle of a message. They are delayed, or become half-open in one
  direction.
- Collectors are killed, stopped in order, or frozen like a suspended machine. The database engine
  is killed.
- The database is away for a quarter of the time, in one stretch. During that stretch, the disk of
  one collector's spool accepts no byte.
- Servers fail, or list meetings wrongly: one is missing, cannot be read, or is there twice.

A fault counts as survived if polls of later ticks are in the database, and no process ended by
itself during the fault. (If the database is on a server that the run did not start, "killed" means
that all connections are terminated and refused.)

Then all faults end. Both collectors finish their work and are stopped in order (exit code 0). The
run fails unless

- every due tick has exactly one poll or is in `meter.missing_polls` with a reason, and never both;
- no sample is there twice, and each sample has its poll and its session; each successful poll has
  as many samples as it says; each session's figures are those of its samples;
- each tenant's participant minutes from polls are within {tolerance:.1%} of the truth, which is the
  simulator's own number of participants for each server and tick with a successful poll, without
  what the server did not list;
- each tenant's filled participant minutes are within {filled_tolerance:.0%} of the truth for the
  same servers, ticks and sessions, or no further away than the truth itself moves between the two
  polls (a filled sample is on a straight line between two polls);
- reports agree with the samples, and `bbbmeter verify` finds nothing;
- spool and quarantine are empty, no log has a traceback, and no process used more memory than
  allowed.

## The last run

{seconds} s of faults on {servers} servers, polled every {interval_s} s, with TimescaleDB {version}
as {database}, seed {seed}.

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
