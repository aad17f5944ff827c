"""Figures over time, of the fleet and of its servers."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from tests.grafana.figures.view import View, wide
from tests.grafana.truth import (
    DAY,
    HOUR,
    MINUTE,
    InTime,
    Rows,
    ms,
    step_of,
)
from tests.support.reports import BERLIN
from tests.support.short_past import (
    HOURS,
    SERVERS,
    TICK,
    Poll,
    Sample,
    Session,
    at,
)


def mean(view: View, samples: InTime[Sample], of: str, lo: int, hi: int) -> float | None:
    """Return the mean of a count in a step: unknown if it is not over, or nothing was seen."""
    total: int = sum(getattr(a, of) for a in samples.between(lo, hi)) * TICK
    if hi > view.truth.known_until or not (total or view.truth.coverage(lo, hi)):
        return None
    return total / (hi - lo)


def concurrency(view: View, tenant: str = "", of: int = 0) -> Rows:
    """Return the mean and the highest minute of each step, and of the running one its peak."""
    truth, rows = view.truth, []
    minutes = truth.minutes[tenant]
    for lo, hi in truth.steps(view.since, view.until, view.step):
        over = hi <= truth.known_until
        if not over and lo > truth.known_until - MINUTE:
            continue
        total = sum(minutes[minute][of] for minute in truth.minutes_of(tenant, lo, hi))
        seen = total or (over and truth.coverage(lo, hi))
        peak: float | None = truth.peak(tenant, lo, hi, of)[0] if seen else None
        # Of the fleet as a whole there is no rollup by the day.
        if not tenant and lo < step_of(truth.now - HOURS * DAY, int(view.step.total_seconds())):
            peak = None
        rows.append(
            {
                "Time": ms(lo),
                "highest minute": peak,
                "mean": total / (hi - lo) if over and seen else None,
            }
            | ({"limit": truth.limit(tenant, lo)} if tenant else {})
        )
    return rows


def media(view: View) -> Rows:
    """Return voice, webcams, telephone and breakouts in steps."""
    truth, rows = view.truth, []
    for row in concurrency(view):
        lo = int(row["Time"]) // 1000
        _, hi = next(truth.steps(lo, lo + 1, view.step))
        rows.append(
            {
                "Time": row["Time"],
                "in breakout rooms": mean(view, truth.breakouts, "participants", lo, hi),
            }
            | {
                name: mean(view, truth.samples, of, lo, hi)
                for name, of in (
                    ("with voice", "voice"),
                    ("webcams", "video"),
                    ("by telephone", "dialins"),
                )
            }
        )
    return rows


def starts(view: View, key: Callable[[Session], str], *, minutes: bool = False) -> Rows:
    """Return the sessions that began in each step, or their minutes, by a text."""
    cells: dict[tuple[int, str], float] = defaultdict(float)
    for lo, hi in view.hours():
        for s in view.truth.began(max(lo, view.truth.kept_since["start_1h"]), hi):
            # Steps consist of hours: those after the end are not in the last one.
            if s.begin // HOUR * HOUR < view.until:
                cells[lo, key(s)] += s.total() / 60 if minutes else 1
    return wide(cells)


def turnover(view: View) -> Rows:
    """Return the sessions that began and that ended in each step."""
    rows = []
    for lo, hi in view.hours():
        end = min(hi, -(-view.until // HOUR) * HOUR)
        kept = view.truth.kept_since["start_1h"]
        began = len(view.truth.began(max(lo, kept), end))
        ended = sum(
            lo <= s.seen_until < end
            and s.begin >= kept
            and not s.breakout
            and not view.truth.past.open(s)
            for s in view.truth.past.sessions
        )
        if began or ended:
            rows.append({"Time": ms(lo), "began": began, "ended": ended})
    return rows


def load(view: View, server: str, lo: int, hi: int) -> dict[str, Any]:
    """Return what successful polls of a server saw, and how long they took."""
    truth = view.truth
    ok = [p for p in truth.polls[server].between(lo, hi) if p.ok]
    used = [a for a in truth.samples.between(lo, hi) if a.of.server == server and not a.filled]
    covered = TICK * len(ok)
    return {
        "participants": sum(a.participants for a in used) * TICK / covered if covered else None,
        "latency": sum(p.latency_ms for p in ok) / len(ok) if ok else None,
        "coverage": truth.server_coverage(lo, hi, server),
        "due": truth.due(lo, hi) > 0 and hi <= truth.known_until,
    }


def by_server(view: View, of: str, step: timedelta, servers: Iterable[str] = SERVERS) -> Rows:
    """Return a figure of each server in steps."""
    cells = {}
    for lo, hi in view.truth.steps(view.since, view.until, step):
        for server in servers:
            row = load(view, server, lo, hi)
            if row["due"]:
                cells[lo, server] = row[of]
    return wide(cells)


def servers(view: View) -> Rows:
    """Return the table of servers."""
    lo, hi = view.edges
    truth = view.truth
    rows: list[dict[str, Any]] = []
    for server in SERVERS:
        polls = truth.polls[server].between(lo, hi)
        seen = {p.ts for p in polls if p.ok}
        load: dict[int, int] = defaultdict(int)
        for a in truth.samples.between(lo, hi):
            if a.of.server == server and not a.filled:
                load[a.ts] += a.participants
        failures: dict[str, int] = defaultdict(int)
        for p in polls:
            if not p.ok and p.ts >= truth.kept_since["poll_1h"]:
                failures[p.outcome] += 1
        ordered = sorted(failures.items(), key=lambda item: (-item[1], item[0]))
        due = truth.due(lo, hi) > 0
        rows.append(
            {
                "server": server,
                "measured minutes": sum(load.values()) * TICK / 60 if due else None,
                "most participants": max((load.get(ts, 0) for ts in seen), default=None),
                "coverage": truth.server_coverage(lo, hi, server),
                "failed polls": sum(not p.ok for p in polls) if due else None,
                "failures": ", ".join(f"{k} {n}" for k, n in ordered) if due else None,
                "unread meetings": 0 if due else None,
            }
        )
    total = sum(row["measured minutes"] or 0 for row in rows)
    for row in rows:
        used = row["measured minutes"]
        row["share"] = None if used is None or not total else used / total
    return rows


def weeks(view: View) -> Rows:
    """Return the peaks of the last weeks."""
    truth, rows = view.truth, []
    for lo, hi in truth.steps(truth.now - 77 * DAY, truth.now, timedelta(days=7)):
        week = at(lo).astimezone(BERLIN).isocalendar().week
        name = "this week" if lo <= truth.now < hi else f"week {week:02}"
        if peak := truth.peak("", lo, hi)[0]:
            rows.append({"week": name, "peak participants": peak})
    return rows


def polls(view: View, key: Callable[[Poll], str], *, ok: bool) -> Rows:
    """Return polls by a text, in steps."""
    cells: dict[tuple[int, str], int] = defaultdict(int)
    for lo, hi in view.hours():
        for server in SERVERS:
            for p in view.truth.polls[server].between(
                max(lo, view.truth.kept_since["poll_1h"]), hi
            ):
                if p.ok == ok and p.ts // HOUR * HOUR < view.until:
                    cells[lo, key(p)] += 1
    return wide(cells)


def failed(view: View) -> Rows:
    """Return the number of failed polls."""
    lo, hi = view.edges
    polls = [p for server in SERVERS for p in view.truth.polls[server].between(lo, hi)]
    return [{view.title: sum(not p.ok for p in polls)}]


def seen(view: View) -> Rows:
    """Return the coverage of all servers together."""
    lo, hi = view.edges
    found = [view.truth.server_coverage(lo, hi, server) for server in SERVERS]
    known = [coverage for coverage in found if coverage is not None]
    return [{view.title: sum(known) / len(known) if known else None}]


def filled(view: View) -> Rows:
    """Return the share of filled time in steps."""
    rows = []
    for row in concurrency(view):
        lo = int(row["Time"]) // 1000
        _, hi = next(view.truth.steps(lo, lo + 1, view.step))
        used = [a.filled for a in view.truth.samples.between(lo, hi)]
        rows.append({"Time": row["Time"], "filled": sum(used) / len(used) if used else None})
    return rows
