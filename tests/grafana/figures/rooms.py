"""Figures of rooms and of sessions."""

from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.grafana.figures.view import BOUNDS, View, bound, on
from tests.grafana.truth import (
    Rows,
    ms,
    step_of,
)
from tests.support.reports import BERLIN
from tests.support.short_past import (
    ROOMS,
    Session,
    at,
)

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def kept_starts(view: View, tenant: str) -> list[Session]:
    """Return the sessions that began in the time range and are still kept."""
    return [s for s in view.truth.began(*view.edges, tenant) if view.truth.kept(s)]


def classes(name: str, of: Callable[[Session], str]) -> Callable[[View], Rows]:
    """Return the number of sessions in each class."""

    def rows(view: View) -> Rows:
        counts: dict[str, int] = defaultdict(int)
        for s in kept_starts(view, view.chosen("tenant")):
            counts[of(s)] += 1
        return [{name: key, "sessions": n} for key, n in counts.items()]

    return rows


def size(s: Session) -> str:
    """Return the class of size of a session."""
    labels = "1|2|3–5|6–10|11–20|21–50|51–100|101–200|> 200".split("|")  # noqa: RUF001, SIM905
    return labels[BOUNDS.index(int(bound(s.most, BOUNDS)))]


def length(s: Session) -> str:
    """Return the class of length of a session."""
    bounds = (0, 300, 900, 1800, 3600, 5400, 7200, 14400)
    labels = "< 5 min|5–15 min|15–30 min|30–60 min|1–1½ h|1½–2 h|2–4 h|> 4 h".split("|")  # noqa: RUF001, SIM905
    return labels[bounds.index(int(bound(int(s.length), bounds)))]


def week(view: View) -> Rows:
    """Return the number of sessions by weekday and hour."""
    counts = {day: {f"{hour:02}": 0 for hour in range(24)} for day in WEEKDAYS}
    for s in kept_starts(view, view.chosen("tenant")):
        begin = at(s.begin).astimezone(BERLIN)
        counts[WEEKDAYS[begin.weekday()]][f"{begin.hour:02}"] += 1
    return [{"day": day, **hours} for day, hours in counts.items()]


def rooms(view: View, tenant: str = "") -> Rows:
    """Return the table of rooms, of a tenant or of all."""
    lo, hi = view.edges
    rows = []
    for room, of in ROOMS.items():
        began = [
            s
            for s in view.truth.past.sessions
            if s.room == room and lo <= s.begin < hi and view.truth.kept(s)
        ]
        main = [s for s in began if not s.breakout]
        if not began or tenant not in {"", of}:
            continue
        seconds = sum(s.seconds for s in main)
        rows.append(
            {
                "tenant": of,
                "id": room,
                "room": room,
                "now": "on now" if any(view.truth.past.open(s) for s in main) else "",
                "last active": ms(max(s.samples[-1].ts for s in began)),
                "sessions begun": len(main),
                "their participant minutes": sum(s.total() for s in main) / 60,
                "largest": max((s.most for s in main), default=None),
                "mean size": sum(s.mean for s in main) / len(main) if main else None,
                "breakout minutes": sum(s.total() for s in began if s.breakout) / 60,
                "filled": sum(s.filled_seconds for s in main) / seconds if seconds else None,
            }
        )
    return sorted(rows, key=lambda row: (-row["their participant minutes"], row["id"]))


def top_rooms(view: View) -> Rows:
    """Return the rooms of the chosen tenant."""
    left_out = {"now", "filled"}
    return [
        {key: value for key, value in row.items() if key not in left_out}
        for row in rooms(view, view.chosen("tenant"))
    ]


def of_room(column: str) -> Callable[[View], Rows]:
    """Return a figure of the chosen room."""
    return lambda view: [
        {view.title: row[column]} for row in rooms(view) if row["id"] == view.chosen("room")
    ]


def room_use(view: View) -> Rows:
    """Return the minutes of the room by the time at which its sessions began."""
    sums: dict[int, dict[str, float | None]] = {}
    step = int(max(view.step, timedelta(hours=1)).total_seconds())
    for s in view.sessions():
        if s.begin >= view.edges[0]:
            row = sums.setdefault(
                step_of(s.begin, step), {"participant minutes": None, "in breakout rooms": None}
            )
            name = "in breakout rooms" if s.breakout else "participant minutes"
            row[name] = (row[name] or 0) + s.total() / 60
    return [{"Time": ms(ts)} | row for ts, row in sorted(sums.items())]


def room_sizes(view: View) -> Rows:
    """Return the size of each session of the room."""
    return [
        {"Time": ms(s.begin), "most": s.most, "mean": s.mean}
        for s in reversed(view.sessions())
        if not s.breakout
    ]


def session_row(view: View, s: Session) -> dict[str, Any]:
    """Return a row of a list of sessions."""
    return {
        "session": str(s.number),
        "began": ms(s.begin),
        "ended": None if view.truth.past.open(s) else ms(s.seen_until),
        "length": s.length,
        "participant minutes": s.total() / 60,
        "most": s.most,
        "mean": s.mean,
        "telephone minutes": s.total("dialins") / 60,
        "breakout": "yes" if s.breakout else "",
        "origin": s.origin,
        "server": s.server,
        "filled": s.filled_seconds / s.seconds,
    }


def facts(view: View) -> Rows:
    """Return the facts of the chosen session."""
    s = view.session()
    row = session_row(view, s)
    del row["session"]
    row |= {"tenant": s.tenant, "room": s.room, "breakout": "yes" if s.breakout else "no"}
    row |= {"voice minutes": s.total("voice") / 60, "webcam minutes": s.total("video") / 60}
    return [row]


def neighbours(view: View) -> Rows:
    """Return the other sessions on the server of the chosen one."""
    this, (lo, hi) = view.session(), (view.since, view.until)
    end = view.truth.now if view.truth.past.open(this) else this.seen_until
    others = on(view.truth, max(lo, this.begin), min(hi, end), server=this.server)
    columns = ("session", "began", "ended", "most", "mean", "breakout")
    return [
        {"tenant": s.tenant, "room": s.room, "webcam minutes": s.total("video") / 60}
        | {key: value for key, value in session_row(view, s).items() if key in columns}
        for s in sorted(others, key=lambda s: (-s.most, -s.begin))
        if s is not this
    ]
