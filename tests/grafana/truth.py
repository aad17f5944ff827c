"""Figures of a short past, recomputed in Python from its raw rows.

Times are seconds since the epoch. None of this knows the product's SQL. What it shares with the
product are the rules of docs/figures.md.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, Generic, TypeVar

from tests.support.reports import BERLIN, local
from tests.support.short_past import (
    HOURS,
    RETENTION,
    SERVERS,
    TENANTS,
    TICK,
    Poll,
    Sample,
    Session,
    ShortPast,
    at,
)

Rows = list[dict[str, Any]]
MINUTE, HOUR, DAY = 60, 3600, 86400


def local_day(instant: float, days: int = 0) -> int:
    """Return the beginning of the local day of an instant, some days later."""
    day = at(instant).astimezone(BERLIN).date() + timedelta(days=days)
    return int(local(day).timestamp())


def widened(instant: float, now: float, *, is_end: bool = False) -> int:
    """Return the edge of the figures of a time range: a minute, an hour or a day, by its age."""
    age = (now - instant) / DAY
    if age > HOURS - 1:
        lo = local_day(instant)
        return local_day(instant, 1) if is_end and lo < instant else lo
    width = HOUR if age > RETENTION["poll"] - 1 else MINUTE
    lo = int(instant // width) * width
    return lo + width if is_end and lo < instant else lo


@dataclass
class Truth:
    """The past, as it is known at the instant `now`."""

    past: ShortPast
    now: float
    # The beginning of what retention has left of a table, of whole chunks.
    kept_since: dict[str, float]

    @cached_property
    def samples(self) -> "InTime[Sample]":
        """All samples without breakouts."""
        return InTime(a for s in self.past.sessions if not s.breakout for a in s.samples)

    @cached_property
    def breakouts(self) -> "InTime[Sample]":
        """All samples of breakouts."""
        return InTime(a for s in self.past.sessions if s.breakout for a in s.samples)

    @cached_property
    def polls(self) -> dict[str, "InTime[Poll]"]:
        """All polls, by server."""
        return {v: InTime(p for p in self.past.polls if p.server == v) for v in SERVERS}

    @cached_property
    def _ok(self) -> dict[str, "InTime[Poll]"]:
        return {v: InTime(p for p in self.past.polls if p.server == v and p.ok) for v in SERVERS}

    @property
    def known_until(self) -> int:
        """The end of coverage: a poll of the last minute may not have been stored yet."""
        return int(self.now // MINUTE) * MINUTE - MINUTE

    @cached_property
    def minutes(self) -> dict[str, dict[int, list[int]]]:
        """Participant seconds and session seconds of each minute, by tenant; "" is all."""
        found: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
        for sample in self.samples.rows:
            minute = sample.ts // MINUTE * MINUTE
            for key in ("", sample.of.tenant):
                found[key][minute][0] += sample.participants * TICK
                found[key][minute][1] += TICK
        return found

    @cached_property
    def _known_minutes(self) -> dict[str, list[int]]:
        return {key: sorted(minutes) for key, minutes in self.minutes.items()}

    def minutes_of(self, tenant: str, lo: float, hi: float) -> list[int]:
        """Return the minutes of [lo, hi) in which a tenant had sessions."""
        known = self._known_minutes.get(tenant, [])
        return known[bisect_left(known, lo) : bisect_left(known, hi)]

    def due(self, lo: float, hi: float, until: float | None = None) -> float:
        """Return the seconds of [lo, hi) in which polls of a server were due, up to `until`."""
        end = min(hi, self.known_until if until is None else until)
        return sum(
            max(0, min(end, end if b is None else b) - max(lo, a)) for a, b in self.past.spans
        )

    def covered(self, lo: float, hi: float, servers: Iterable[str] = SERVERS) -> float:
        """Return the seconds of [lo, hi) that successful polls of some servers cover."""
        until = min(hi, self.known_until)
        return TICK * sum(self._ok[server].count(lo, until) for server in servers)

    def coverage(self, lo: float, hi: float, servers: Iterable[str] = SERVERS) -> float | None:
        """Return the share of the due time that was seen; None if nothing was due."""
        servers = list(servers)
        due = self.due(lo, hi) * len(servers)
        return min(1, self.covered(lo, hi, servers) / due) if due else None

    def server_coverage(self, lo: float, hi: float, server: str) -> float | None:
        """Return the coverage of a server, times the share of sessions that its polls showed."""
        coverage = self.coverage(lo, hi, [server])
        lost = sum(lo <= ts < hi and v == server for ts, v, _ in self.past.unseen)
        return None if coverage is None else coverage * self._shown(lo, hi, server, lost)

    def tenant_coverage(self, lo: float, hi: float, tenant: str) -> float | None:
        """Return the coverage of a tenant; a session that nobody knows can be any tenant's."""
        due = self.due(lo, hi) * len(SERVERS)
        if not due:
            return None
        covered = 0.0
        for server in SERVERS:
            lost = sum(
                lo <= ts < hi and (v, of) == (server, None) for ts, v, of in self.past.unseen
            )
            covered += self.covered(lo, hi, [server]) * self._shown(lo, hi, server, lost)
        lost = sum(lo <= ts < hi and of == tenant for ts, _, of in self.past.unseen)
        seen = sum(not a.filled and a.of.tenant == tenant for a in self.samples.between(lo, hi))
        return covered / due * (seen / (seen + lost) if lost else 1)

    def _shown(self, lo: float, hi: float, server: str, lost: int) -> float:
        """Return the share of the sessions on a server that were seen."""
        if not lost:
            return 1
        shown = self.samples.between(lo, min(hi, self.known_until))
        seen = sum(not a.filled and a.of.server == server for a in shown)
        return seen / (seen + lost)

    def metered(self, lo: float, hi: float) -> float | None:
        """Return the share of [lo, hi), up to now, in which polls were due."""
        now = self.known_until + MINUTE
        end = min(hi, now)
        return self.due(lo, end, now) / (end - lo) if lo < end else None

    def peak(self, tenant: str, lo: float, hi: float, of: int = 0) -> tuple[float, int | None]:
        """Return the highest mean of a minute, and which minute was the first of them."""
        found = [
            (self.minutes[tenant][minute][of], -minute)
            for minute in self.minutes_of(tenant, lo, hi)
        ]
        value, minute = max(found, default=(0, 0))
        return value / MINUTE, -minute if value else None

    def peak_use(self, tenant: str, lo: float, hi: float) -> float | None:
        """Return the highest share of a limit that was reached while it was agreed."""
        uses = [
            self.peak(tenant, max(lo, since), min(hi, until))[0] / limit
            for of, since, until, limit, _ in self.past.contracts
            if of == tenant and since < hi and until > lo
        ]
        return max(uses, default=None)

    def limit(self, tenant: str, instant: float) -> int | None:
        """Return how many participants were agreed at an instant."""
        return next(
            (c[3] for c in self.past.contracts if c[0] == tenant and c[1] <= instant < c[2]), None
        )

    def began(self, lo: float, hi: float, tenant: str = "") -> list[Session]:
        """Return the sessions (no breakouts) that began in [lo, hi)."""
        return [
            s
            for s in self.past.sessions
            if lo <= s.begin < hi and not s.breakout and tenant in {"", s.tenant}
        ]

    def kept(self, session: Session) -> bool:
        """Return whether the row of a session is still there."""
        return session.begin >= self.kept_since["session"]

    def sums(self, lo: float, hi: float, tenant: str) -> dict[str, Any]:
        """Return the report's figures of a tenant, without coverage."""
        used = [a for a in self.samples.between(lo, hi) if a.of.tenant == tenant]
        breakouts = [a for a in self.breakouts.between(lo, hi) if a.of.tenant == tenant]
        began = self.began(lo, hi, tenant)
        peak, peak_at = self.peak(tenant, lo, hi)
        return {
            "participant minutes": sum(a.participants for a in used) * TICK / 60,
            "of them moderators": sum(a.moderators for a in used) * TICK / 60,
            "telephone minutes": sum(a.dialins for a in used) * TICK / 60,
            "breakout minutes": sum(a.participants for a in breakouts) * TICK / 60,
            "sessions begun": len(began),
            "mean size": sum(s.mean for s in began) / len(began) if began else None,
            "largest": max((a.participants for a in used), default=0),
            "peak": peak,
            "peak at": ms(peak_at),
            "filled": sum(a.filled for a in used) / len(used) if used else None,
        }

    def report(self, lo: float, hi: float) -> dict[str, dict[str, Any]]:
        """Return the report of all tenants: unknown, and not zero, if nothing was seen."""
        metered = self.metered(lo, hi)
        found = {}
        for tenant in TENANTS:
            row = self.sums(lo, hi, tenant)
            coverage = self.tenant_coverage(lo, hi, tenant)
            if not coverage:
                row = {key: value or None for key, value in row.items()}
            row |= {"coverage": coverage, "metered": metered}
            found[tenant] = row
        return found

    def over_limit(self, lo: int, hi: int, tenants: Iterable[str]) -> Rows:
        """Return the spans above the limit: minutes; hours or days where these are gone."""
        rows: Rows = []
        for tenant in tenants:
            pieces: dict[int, dict[str, Any]] = {}
            for minute in self.minutes_of(tenant, lo, hi):
                value, limit = self.minutes[tenant][minute][0] / 60, self.limit(tenant, minute)
                if limit is None or value <= limit:
                    continue
                hour = minute // HOUR * HOUR
                gone = hour < self.now - RETENTION["usage_1m"] * DAY
                since, until = (hour, hour + HOUR) if gone else (minute, minute + MINUTE)
                if minute < local_day(self.now - HOURS * DAY, 1):
                    since, until = local_day(minute), local_day(minute, 1)
                piece = pieces.setdefault(
                    since,
                    {"tenant": tenant, "from": since, "to": until, "minutes": None if gone else 1}
                    | {"peak": value, "peak at": minute, "limit": limit},
                )
                if value > piece["peak"]:
                    piece |= {"peak": value, "peak at": minute}
            rows += _joined(pieces.values())
        for row in rows:
            row |= {key: ms(row[key]) for key in ("from", "to", "peak at")}
        return sorted(rows, key=lambda row: (-row["from"], row["tenant"]))

    def outages(self, since: float, until: float) -> Rows:
        """Return runs of failed polls; over more than two days, hours with three of them."""
        rows: Rows = []
        exact = until - since <= 2 * DAY and self.now - since <= RETENTION["poll"] * DAY
        for server in SERVERS:
            failed: list[dict[str, Any]] = []
            counted: dict[int, int] = defaultdict(int)
            for p in self.polls[server].between(since - HOUR, until + HOUR):
                if not p.ok:
                    counted[p.ts // HOUR * HOUR] += 1
                    if since <= p.ts < until:
                        failed.append(_gap(server, p.ts, TICK, 1))
            if not exact:
                failed = [
                    _gap(server, hour, HOUR, n)
                    for hour, n in sorted(counted.items())
                    if n >= 3
                    and since - HOUR < hour < until
                    and hour >= self.kept_since["server_1h"]
                ]
            rows += [row for row in _joined(failed) if row["failed polls"] >= 3]
        for row in rows:
            row["length"] = row["to"] - row["from"]
            row |= {key: ms(row[key]) for key in ("from", "to")}
        return sorted(rows, key=lambda row: (-row["from"], row["server"]))

    def steps(self, since: float, until: float, step: timedelta) -> Iterator[tuple[int, int]]:
        """Yield the whole steps of a time range, also the running one."""
        seconds = int(step.total_seconds())
        lo = step_of(since, seconds)
        while lo < until:
            hi = lo + seconds if seconds < DAY else local_day(lo, seconds // DAY)
            yield lo, hi
            lo = hi


Timed = TypeVar("Timed", Sample, Poll)


class InTime(Generic[Timed]):
    """Rows in the order of their times."""

    def __init__(self, rows: Iterable[Timed]) -> None:
        """Sort the rows."""
        self.rows: list[Timed] = sorted(rows, key=lambda row: row.ts)
        self._times = [row.ts for row in self.rows]

    def between(self, lo: float, hi: float) -> list[Timed]:
        """Return the rows of [lo, hi)."""
        return self.rows[bisect_left(self._times, lo) : bisect_left(self._times, hi)]

    def count(self, lo: float, hi: float) -> int:
        """Return the number of rows of [lo, hi)."""
        return max(0, bisect_left(self._times, hi) - bisect_left(self._times, lo))


def step_of(instant: float, seconds: int) -> int:
    """Return the beginning of the step of an instant: weeks begin on Monday."""
    if seconds < DAY:
        return int(instant // seconds) * seconds
    day: date = at(instant).astimezone(BERLIN).date()
    return local_day(instant, -day.weekday() if seconds > DAY else 0)


def ms(seconds: float | None) -> float | None:
    """Return a time as frames have it."""
    return None if seconds is None else seconds * 1000.0


def instant_ms(instant: datetime) -> float:
    """Return an instant as frames have it."""
    return instant.timestamp() * 1000.0


def _gap(server: str, ts: int, seconds: int, polls: int) -> dict[str, Any]:
    return {"server": server, "from": ts, "to": ts + seconds, "failed polls": polls}


def _joined(pieces: Iterable[dict[str, Any]]) -> Rows:
    """Return consecutive pieces of time as one, as long as their limit is the same."""
    ordered = sorted(pieces, key=lambda piece: piece["from"])
    rows: Rows = [dict(piece) for piece in ordered[:1]]
    for before, piece in pairwise(ordered):
        row = rows[-1]
        if before["to"] != piece["from"] or before.get("limit") != piece.get("limit"):
            rows.append(dict(piece))
            continue
        row["to"] = piece["to"]
        if "failed polls" in row:
            row["failed polls"] += piece["failed polls"]
            continue
        known = [n for n in (row["minutes"], piece["minutes"]) if n is not None]
        row["minutes"] = sum(known) if known else None
        if piece["peak"] > row["peak"]:
            row |= {"peak": piece["peak"], "peak at": piece["peak at"]}
    return rows
