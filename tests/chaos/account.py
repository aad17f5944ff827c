"""Compares what the run left in the database with what should be there."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import asyncpg

from collector.clock import tick_at
from collector.database.upkeep import settle, update_sessions
from collector.reports.usage import Request, fetch_report
from collector.settings import Settings
from collector.simulator import Fleet
from collector.storage.registry import sync_fleet
from collector.storage.spool import slots
from tests.chaos.strays import STRAYS
from tests.chaos.truth import (
    INTERVAL,
    Cell,
    Truth,
    faults_near,
    gap_of,
    minutes_of,
    ticks_of,
    truth_of,
)
from tests.chaos.world import INTERVAL_S, Hit

# How far minutes may be from the truth, as a share: from polls, and from filled samples.
TOLERANCE = 0.005
FILLED_TOLERANCE = 0.05
_ROUNDING = 1e-6
_MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Minutes:
    """A tenant's participant minutes without breakouts: from polls, filled, and the truth of each.

    The truth is what the simulator's schedule has at the instant of the tick, summed over the same
    cells. `polled` is summed over each (server, tick) with a successful poll, over all sessions of
    the server that it could show. `filled` is summed over each (server, tick, session) with a
    filled sample. `filled_doubt` is how far the truth itself moves between the two polls around it;
    an interpolation between them cannot be further off. `whole_truth` is the truth of all due
    ticks, covered or not. `reported` is the figure of `bbbmeter report`.
    """

    polled: float = 0
    polled_truth: float = 0
    filled: float = 0
    filled_truth: float = 0
    filled_doubt: float = 0
    whole_truth: float = 0
    reported: float = 0

    @property
    def difference(self) -> float:
        """The difference of the polled minutes from the truth of the same cells, as a share."""
        return _share(self.polled, self.polled_truth)

    @property
    def filled_difference(self) -> float:
        """The difference of the filled minutes from the truth of the same cells, as a share."""
        return _share(self.filled, self.filled_truth)


@dataclass(slots=True)
class Account:
    """The figures of a run; `problems` has a line for everything that is wrong."""

    due: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    longest_handover: int = 0
    samples: int = 0
    filled_samples: int = 0
    sessions: int = 0
    waiting: int = 0
    quarantined: int = 0
    late_spans: int = 0
    minutes: dict[str, Minutes] = field(default_factory=dict)
    last_tick: datetime | None = None
    problems: list[str] = field(default_factory=list)


async def take_account(
    dsn: str,
    settings: Settings,
    fleet: Fleet,
    until: datetime,
    folder: Path,
    hits: Sequence[Hit],
) -> Account:
    """Settle late data, end the due time at `until`, and examine the whole database.

    `hits` are the faults of the run: some of them decide what a poll could show.
    """
    account = Account()
    await asyncio.to_thread(_look_at_spool, account, folder / "spool")
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await sync_fleet(connection, (), settings.tenant, until)
        account.late_spans = await settle(pool, timedelta(0))
        await update_sessions(pool, settings.close_after_s)
        async with pool.acquire() as connection:
            await _account_for_polls(connection, account)
            await _look_for_strays(connection, account)
            await _compare(connection, account, fleet, hits)
    return account


def _look_at_spool(account: Account, directory: Path) -> None:
    """Count the batches that are left in the collectors' spools."""
    for slot in slots(directory):
        if slot.in_use():
            account.problems.append(f"slot {slot.number} of the spool is still in use")
        if not slot.path.exists():
            continue
        file = slot.look()
        try:
            account.waiting += file.read(
                lambda connection: connection.execute("SELECT count(*) FROM waiting").fetchone()[0]
            )
            account.quarantined += file.read(
                lambda connection: connection.execute("SELECT count(*) FROM quarantine").fetchone()[
                    0
                ]
            )
        finally:
            file.close()
    if account.waiting:
        account.problems.append(f"{account.waiting} batches are left in the spool")
    if account.quarantined:
        account.problems.append(f"{account.quarantined} batches are in quarantine")


async def _account_for_polls(
    connection: asyncpg.pool.PoolConnectionProxy, account: Account
) -> None:
    """Check that every due tick has one poll, or is missing for a reason."""
    due = await _due(connection)
    polls = await connection.fetch(
        "SELECT s.name, p.ts, p.ok, p.outcome, p.seconds FROM meter.poll AS p "
        "INNER JOIN meter.server AS s ON p.server_id = s.id"
    )
    stored = Counter((row["name"], row["ts"]) for row in polls)
    account.due = len(due)
    account.last_tick = max((row["ts"] for row in polls), default=None)
    account.outcomes = dict(
        Counter(
            "ok" if row["ok"] else row["outcome"]
            for row in polls
            if (row["name"], row["ts"]) in due
        )
    )
    doubled = [cell for cell, count in stored.items() if count > 1]
    if doubled:
        account.problems.append(f"{len(doubled)} ticks have more than one poll: {doubled[:3]}")
    odd = [
        row
        for row in polls
        if row["seconds"] != INTERVAL_S or tick_at(row["ts"], INTERVAL_S) != row["ts"]
    ]
    if odd:
        account.problems.append(f"{len(odd)} polls are not at a tick of the interval")
    if due:
        await _account_for_gaps(connection, account, due, due - stored.keys())
    else:
        account.problems.append("no poll was due")


async def _account_for_gaps(
    connection: asyncpg.pool.PoolConnectionProxy,
    account: Account,
    due: set[Cell],
    missing: set[Cell],
) -> None:
    """Check that exactly the `missing` ticks are in meter.missing_polls, with a reason."""
    since, until = _period(due)
    gaps = await connection.fetch(
        "SELECT s.name, m.* FROM meter.missing_polls($1, $2) AS m "
        "INNER JOIN meter.server AS s ON m.server_id = s.id",
        since,
        until,
    )
    listed: set[Cell] = set()
    reasons: Counter[str] = Counter()
    for gap in gaps:
        server, reason = gap["name"], gap["reason"]
        ticks = ticks_of(gap["missing_since"], gap["missing_until"])
        listed |= {(server, ts) for ts in ticks}
        reasons[reason] += len(ticks)
        what = f"{server}: {len(ticks)} polls from {gap['missing_since']:%H:%M:%S}"
        if reason == "unexplained":
            account.problems.append(f"{what} are missing without a reason")
        if reason == "handover":
            account.longest_handover = max(account.longest_handover, len(ticks))
        if gap["polls"] != len(ticks):
            account.problems.append(f"{what}: missing_polls says {gap['polls']}")
    account.missing = dict(reasons)
    if missing != listed:
        account.problems.append(
            f"of {len(missing)} ticks without a poll, {len(missing - listed)} are not in "
            f"missing_polls; {len(listed - missing)} ticks in missing_polls have a poll"
        )


async def _due(connection: asyncpg.pool.PoolConnectionProxy) -> set[Cell]:
    rows = await connection.fetch(
        "SELECT s.name, d.since, d.until FROM meter.server_due AS d "
        "INNER JOIN meter.server AS s ON d.server_id = s.id"
    )
    return {(row["name"], ts) for row in rows for ts in ticks_of(row["since"], row["until"])}


async def _look_for_strays(connection: asyncpg.pool.PoolConnectionProxy, account: Account) -> None:
    """Check that each sample is stored once, and has its poll and its session."""
    for problem, query in STRAYS.items():
        rows = await connection.fetch(query)
        if rows:
            account.problems.append(f"{problem}: {len(rows)}, such as {dict(rows[0])}")
    row = await connection.fetchrow(
        "SELECT count(*) AS samples, count(*) FILTER (WHERE filled) AS filled, "
        "(SELECT count(*) FROM meter.session) AS sessions FROM meter.sample"
    )
    assert row is not None
    account.samples, account.filled_samples = row["samples"], row["filled"]
    account.sessions = row["sessions"]


async def _compare(
    connection: asyncpg.pool.PoolConnectionProxy,
    account: Account,
    fleet: Fleet,
    hits: Sequence[Hit],
) -> None:
    """Compare each tenant's minutes with the truth of the same ticks, and with the report."""
    due = await _due(connection)
    if not due:
        return
    since, until = _period(due)
    tenants = {tenant.name: Minutes() for tenant in fleet.plan.tenants}
    account.minutes = tenants
    # A tick that was running at the end also has polls, although they were no longer due.
    truth = truth_of(fleet, since, until + 2 * INTERVAL)
    for cell in due:
        for part in truth[cell].values():
            if part.parent is None:
                tenants[part.tenant].whole_truth += part.minutes
    shown = await _add_sampled(connection, tenants, truth)
    for cell in await _covered(connection):
        _add_polled_truth(tenants, cell, truth, shown, hits)
    request = Request(tick_at(since, 60), tick_at(until, 60) + _MINUTE)
    for line in await fetch_report(connection, request):
        if line["tenant"] in tenants:
            tenants[line["tenant"]].reported = line["participant_minutes"]
    _judge(account)


def _judge(account: Account) -> None:
    """Note what is too far from the truth, or from the report."""
    for name, mine in account.minutes.items():
        if abs(mine.difference) > TOLERANCE:
            account.problems.append(f"{name}: {mine.difference:+.3%} from the truth")
        # If there are few filled samples, a single person is several percent.
        allowed = max(FILLED_TOLERANCE * mine.filled_truth, mine.filled_doubt)
        if abs(mine.filled - mine.filled_truth) > allowed + _ROUNDING:
            account.problems.append(f"{name}: filled {mine.filled_difference:+.3%} from the truth")
        if abs(mine.reported - mine.polled - mine.filled) > _ROUNDING * max(1.0, mine.reported):
            account.problems.append(
                f"{name}: the report says {mine.reported:.3f} minutes, "
                f"the samples {mine.polled + mine.filled:.3f}"
            )


async def _covered(connection: asyncpg.pool.PoolConnectionProxy) -> set[Cell]:
    """Return each server and tick with a successful poll."""
    rows = await connection.fetch(
        "SELECT s.name, p.ts FROM meter.poll AS p "
        "INNER JOIN meter.server AS s ON p.server_id = s.id WHERE p.ok"
    )
    return {(row["name"], row["ts"]) for row in rows}


def _add_polled_truth(
    tenants: dict[str, Minutes],
    cell: Cell,
    truth: Truth,
    shown: dict[tuple[Cell, int], float],
    hits: Sequence[Hit],
) -> None:
    """Add the truth of a successful poll.

    An answer with the fault `hidden` or `unread` lacks one session, and one with `twice` has one
    more participant. A breakout counts by itself where its parent is not shown.
    """
    parts = truth[cell]
    lacking = {
        session
        for session, part in parts.items()
        if part.parent is None and part.minutes and (cell, session) not in shown
    }
    if len(lacking) > faults_near(hits, cell, "server_hidden", "server_unread"):
        lacking = set()
    doubled = faults_near(hits, cell, "server_twice")
    for session, part in parts.items():
        sampled = shown.get((cell, session))
        if session in lacking or (part.parent is not None and sampled is None):
            continue
        true = part.minutes
        if doubled and sampled and abs(sampled - true - INTERVAL_S / 60) < _ROUNDING:
            doubled -= 1
            true = sampled
        tenants[part.tenant].polled_truth += true


async def _add_sampled(
    connection: asyncpg.pool.PoolConnectionProxy, tenants: dict[str, Minutes], truth: Truth
) -> dict[tuple[Cell, int], float]:
    """Add up the samples, and the truth of the filled ones; return the minutes of real ones."""
    rows = await connection.fetch(
        "SELECT s.name AS server, t.name AS tenant, a.ts, a.session_id, a.filled, "
        "a.participants * a.seconds / 60.0::double precision AS minutes "
        "FROM meter.sample AS a INNER JOIN meter.server AS s ON a.server_id = s.id "
        "INNER JOIN meter.tenant AS t ON a.tenant_id = t.id WHERE NOT a.breakout"
    )
    shown = {
        ((row["server"], row["ts"]), row["session_id"]): row["minutes"]
        for row in rows
        if not row["filled"]
    }
    for row in rows:
        # Usage of an unknown tenant has no truth, so it is always wrong.
        mine = tenants.setdefault(row["tenant"], Minutes())
        if not row["filled"]:
            mine.polled += row["minutes"]
            continue
        cell, session = (row["server"], row["ts"]), row["session_id"]
        # People in breakouts that counted by themselves are not filled again.
        apart = sum(
            shown.get((cell, other), 0)
            for other, part in truth[cell].items()
            if part.parent == session
        )
        mine.filled += row["minutes"]
        mine.filled_truth += minutes_of(truth, cell, session) - apart
        gap = [minutes_of(truth, c, session) for c in gap_of(cell, session, shown)]
        mine.filled_doubt += max(gap) - min(gap)
    return shown


def _period(cells: set[Cell]) -> tuple[datetime, datetime]:
    """Return the period of `cells`, which may not be empty."""
    ticks = [ts for _, ts in cells]
    return min(ticks), max(ticks) + INTERVAL


def _share(metered: float, true: float) -> float:
    return metered / true - 1 if true else float(metered != 0)
