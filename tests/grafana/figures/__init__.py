"""What each panel of each dashboard must show: a row for each row of its frame.

`HELD` has a function for each panel, which computes the rows from raw data. `OF_NOW` are the panels
on which the time range has no effect. `NOT_HELD` are columns of other panels that are not figures
of the time range, or estimates.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

from tests.grafana.figures.charts import (
    by_server,
    concurrency,
    failed,
    filled,
    load,
    media,
    polls,
    seen,
    servers,
    starts,
    turnover,
    weeks,
)
from tests.grafana.figures.rooms import (
    classes,
    facts,
    length,
    neighbours,
    of_room,
    room_sizes,
    room_use,
    rooms,
    session_row,
    size,
    top_rooms,
    week,
)
from tests.grafana.figures.usage import (
    days,
    fleet_peak,
    month,
    of_tenant,
    over,
    ranking,
    stacked,
    tenant_rows,
    total,
)
from tests.grafana.figures.view import BOUNDS, LATENCIES, View, bound
from tests.grafana.truth import Rows, ms

__all__ = ["HELD", "NOT_HELD", "OF_NOW", "View"]

ONE_HOUR = timedelta(hours=1)
HELD: Mapping[tuple[str, str], Callable[[View], Rows]] = {
    ("fleet", "Concurrent participants"): concurrency,
    ("fleet", "Concurrent sessions"): lambda v: concurrency(v, of=1),
    ("fleet", "Voice, webcams, telephone, breakout rooms"): media,
    ("fleet", "Sessions that began and ended"): turnover,
    ("fleet", "Participants by server"): lambda v: by_server(v, "participants", v.step),
    ("fleet", "Minutes of sessions begun, by origin"): lambda v: starts(
        v, lambda s: s.origin or "unknown", minutes=True
    ),
    ("fleet", "Servers"): servers,
    ("fleet", "Sizes of sessions begun"): lambda v: starts(v, lambda s: bound(s.most, BOUNDS)),
    ("fleet", "Peak of each week"): weeks,
    ("tenants", "Participant minutes"): total("participant minutes"),
    ("tenants", "Sessions begun"): total("sessions begun"),
    ("tenants", "Peak of the whole fleet"): fleet_peak,
    ("tenants", "Lowest coverage"): total("coverage", min),
    ("tenants", "Lowest metered share"): total("metered", min),
    ("tenants", "Unassigned minutes"): lambda v: [
        {v.title: tenant_rows(v)["unassigned"]["participant minutes"] or 0}
    ],
    ("tenants", "Tenants over their limit"): lambda v: [
        {v.title: len({row["tenant"] for row in over(v)})}
    ],
    ("tenants", "Tenants by participant minutes"): ranking,
    ("tenants", "Month to date"): month,
    ("tenants", "Participants by tenant"): stacked,
    ("tenants", "Times over the limit"): over,
    ("tenant", "Participant minutes"): of_tenant("participant minutes"),
    ("tenant", "Sessions begun"): of_tenant("sessions begun"),
    ("tenant", "Peak participants"): of_tenant("peak"),
    ("tenant", "Peak at"): of_tenant("peak at"),
    ("tenant", "Coverage"): of_tenant("coverage"),
    ("tenant", "Metered share"): of_tenant("metered"),
    ("tenant", "Use of the month's minutes"): lambda v: [
        {v.title: row["use"]} for row in month(v) if row["name"] == v.chosen("tenant")
    ],
    ("tenant", "Participant minutes per day"): lambda v: days(
        v, {name: name for name in ("participant minutes", "of them moderators", "coverage")}
    ),
    ("tenant", "Concurrent participants"): lambda v: concurrency(v, v.chosen("tenant")),
    ("tenant", "Breakout rooms and telephone"): lambda v: days(
        v, {"in breakout rooms": "breakout minutes", "by telephone": "telephone minutes"}
    ),
    ("tenant", "Sessions begun, by size"): classes("class", size),
    ("tenant", "Sessions begun, by duration"): classes("class", length),
    ("tenant", "Sessions begun, by origin"): classes("origin", lambda s: s.origin or "unknown"),
    ("tenant", "Sessions begun, by weekday and hour"): week,
    ("tenant", "Top rooms"): top_rooms,
    ("tenant", "Times over the limit"): lambda v: [
        {key: value for key, value in row.items() if key != "tenant"}
        for row in v.truth.over_limit(*v.edges, [v.chosen("tenant")])
    ],
    ("rooms", "Rooms"): rooms,
    ("room", "Room"): of_room("room"),
    ("room", "Minutes of sessions begun"): of_room("their participant minutes"),
    ("room", "Sessions begun"): of_room("sessions begun"),
    ("room", "Largest session"): of_room("largest"),
    ("room", "Last active"): of_room("last active"),
    ("room", "Minutes of sessions begun, over time"): room_use,
    ("room", "Size of each session"): room_sizes,
    ("room", "Sessions that were on"): lambda v: [session_row(v, s) for s in v.sessions()],
    ("session", "Facts"): facts,
    ("session", "Load of its server"): lambda v: [
        {"Time": ms(lo), "participants": row["participants"], "latency": row["latency"]}
        for lo, hi in v.truth.steps(v.since, v.until, v.step)
        for row in [load(v, v.session().server, lo, hi)]
        if row["due"]
    ],
    ("session", "Other sessions on its server"): neighbours,
    ("quality", "Coverage"): seen,
    ("quality", "Failed polls"): failed,
    ("quality", "Coverage by server"): lambda v: by_server(v, "coverage", max(v.step, ONE_HOUR)),
    ("quality", "Failed polls by outcome"): lambda v: polls(v, lambda p: p.outcome, ok=False),
    ("quality", "Filled share"): filled,
    ("quality", "Polls by latency"): lambda v: polls(
        v, lambda p: bound(p.latency_ms, LATENCIES), ok=True
    ),
    ("quality", "Gaps"): lambda v: v.truth.outages(v.since, v.until),
}
OF_NOW = {
    "fleet": {
        *("Participants now", "Sessions now", "With voice now", "Webcams now", "By telephone now"),
        "Servers away",
    },
    "quality": {
        *("Live collectors", "Fullest spool", "In quarantine", "Stale rollups, failing jobs"),
        *("Collectors", "Freshness of rollups", "Jobs", "Storage", "Certificates"),
        # tests/integration/test_duplicates.py compares these.
        "Meetings on two servers",
    },
    # Every sample of one session: tests/integration/test_surface_sql.py compares these.
    "session": {"Participants, voice, webcams", "Seen and filled"},
}
NOT_HELD = {
    ("fleet", "Servers"): {
        *("up", "sessions now", "participants now", "latency p95", "certificate until"),
    },
    ("tenants", "Month to date"): {"projected", "against last month", "projected use"},
    ("room", "Sessions that were on"): {"from_ms", "to_ms"},
    ("session", "Facts"): {"recordable"},
    ("session", "Other sessions on its server"): {"from_ms", "to_ms"},
    ("quality", "Gaps"): {"outcome"},
}
