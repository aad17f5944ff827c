"""Tenants: the usage of each, the month so far, and the use of contracts."""

from typing import Any

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import kit, places
from grafana.boards.kit import FROM, REPORT, STEP, TO, Column

_CHOSEN = "tenant = ANY(ARRAY[${tenant:sqlstring}]::text[])"


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.TENANTS,
        "Tenants",
        f"""All tenants side by side. Breakout rooms are included only in their own column.
        {kit.EDGES}""",
        since="now-7d",
        refresh="5m",
        variables=[kit.tenants()],
        sections=[
            (
                None,
                [
                    *(minutes(), sessions(), peak(), coverage(), metered()),
                    *(unassigned(), over_limit_tenants()),
                ],
            ),
            ("Ranking of the time range", [ranking()]),
            ("Calendar month", [month()]),
            ("Concurrency", [concurrency(), spans()]),
        ],
    )


def _total(title: str, description: str, expression: str, **how: Any) -> kit.Stat:  # noqa: ANN401 - as kit.number has them
    return kit.number(
        title,
        description,
        f'SELECT {expression} AS "{title}" FROM meter.tenant_ranking({REPORT}) WHERE {_CHOSEN}',
        **how,
    )


def minutes() -> kit.Stat:
    """Minutes of all."""
    return _total(
        "Participant minutes",
        f"""Of the chosen tenants in the time range, as in bills. One participant for one hour is 60
        minutes. {kit.EDGES}""",
        "sum(participant_minutes)",
        decimals=0,
    )


def sessions() -> kit.Stat:
    """Sessions of all."""
    return _total(
        "Sessions begun",
        f"""Sessions of the chosen tenants that began in the time range. Those that began earlier
        and were still on are not counted. {kit.EDGES}""",
        "sum(sessions)::float8",
        decimals=0,
        size=(3, 4),
    )


def peak() -> kit.Stat:
    """Peak of all tenants together."""
    return kit.number(
        "Peak of the whole fleet",
        f"""Participants in the highest minute of the time range, of all tenants together, whatever
        tenants are chosen. The tenants' own peaks can be at different times, so their sum can be
        higher. Unknown if the hours of a part of the time range are no longer kept. {kit.EDGES}""",
        f"""
        SELECT peak_participants AS "Peak of the whole fleet"
        FROM meter.fleet_peak({REPORT})
        """,
        decimals=0,
        steps=((None, kit.YELLOW),),
    )


def coverage() -> kit.Stat:
    """The lowest coverage."""
    return _total(
        "Lowest coverage",
        f"""Share of the due time in which the servers of a tenant were seen, times the share of its
        sessions that they showed: the lowest of the chosen tenants. Below 99.5 %, check Data
        quality before you bill. {kit.EDGES}""",
        "min(coverage)",
        unit="percentunit",
        decimals=2,
        size=(3, 4),
        steps=kit.COVERAGE,
    )


def metered() -> kit.Stat:
    """The lowest metered share of the time."""
    return _total(
        "Lowest metered share",
        f"""Share of the time range, up to now, in which polls of a tenant's servers were due: the
        lowest of the chosen tenants. It is less than 100 % if metering began later or was switched
        off. Coverage does not show that: it is a share of the due time. {kit.EDGES}""",
        "min(metered_share)",
        unit="percentunit",
        decimals=1,
        size=(3, 4),
        steps=kit.METERED,
    )


def unassigned() -> kit.Stat:
    """Minutes of sessions that no rule matched."""
    return kit.number(
        "Unassigned minutes",
        f"""Participant minutes of sessions that no attribution rule matched, whatever tenants are
        chosen. This should be 0. Find the sessions in Rooms, and add a rule to the settings.
        {kit.EDGES}""",
        f"""
        SELECT coalesce(sum(participant_minutes), 0) AS "Unassigned minutes"
        FROM meter.tenant_ranking({REPORT})
        WHERE tenant = meter.default_tenant()
        """,
        decimals=0,
        size=(3, 4),
        steps=kit.NONE_IS_GOOD,
    )


def over_limit_tenants() -> kit.Stat:
    """Tenants that went over their limit."""
    return kit.number(
        "Tenants over their limit",
        f"""Chosen tenants that had more concurrent participants than their contract allowed, in at
        least one minute of the time range. Times over the limit lists the times. {kit.EDGES}""",
        f"""
        SELECT count(DISTINCT tenant) AS "Tenants over their limit"
        FROM meter.over_limit({REPORT}, ARRAY[${{tenant:sqlstring}}]::text[])
        """,
        decimals=0,
        steps=((None, kit.GREEN), (1.0, kit.ORANGE)),
    )


def ranking() -> kit.Table:
    """Ranking by participant minutes."""
    return kit.rows(
        "Tenants by participant minutes",
        f"""Share is the tenant's part of the minutes of all tenants. Peak is the highest minute.
        Limit is the number of participants that the contract allows at the end of the time range.
        Use of limit is the highest use of any contract in its own time: if the contract changed, it
        is not the peak divided by the limit. Coverage is the share of the due time in which the
        tenant's servers were seen, times the share of its sessions that they showed, and metered is
        the share of the time range that was due. Filled is the share of session time that was
        interpolated because they were not seen. {kit.EDGES}""",
        f"""
        SELECT
            tenant AS "name",
            title AS "tenant",
            participant_minutes AS "participant minutes",
            coverage AS "coverage",
            metered_share AS "metered",
            share AS "share",
            sessions AS "sessions begun",
            avg_session_size AS "mean size",
            max_session_size AS "largest",
            peak_participants AS "peak",
            peak_participants_at AS "peak at",
            participant_limit AS "limit",
            peak_use AS "use of limit",
            dialin_minutes AS "telephone minutes",
            breakout_minutes AS "breakout minutes",
            filled_share AS "filled"
        FROM meter.tenant_ranking({REPORT})
        WHERE {_CHOSEN}
        ORDER BY place
        """,
        decimals=0,
        size=(24, 10),
        columns=[
            kit.hidden("name"),
            Column("tenant", width=160, link=places.link("Tenant", places.TENANT, tenant="name")),
            Column("participant minutes", width=135),
            Column("coverage", unit="percentunit", decimals=2, width=85, steps=kit.COVERAGE),
            Column("metered", unit="percentunit", decimals=1, width=80, steps=kit.METERED),
            Column("share", unit="percentunit", decimals=1, gauge=True, width=100),
            Column("sessions begun", width=110),
            Column("mean size", decimals=1, width=85),
            Column("largest", width=70),
            Column("peak", width=70),
            Column("peak at", unit="dateTimeAsIso", width=150),
            Column("limit", width=60),
            Column("use of limit", unit="percentunit", width=90, steps=kit.USE),
            Column("telephone minutes", width=130),
            Column("breakout minutes", width=125),
            Column("filled", unit="percentunit", decimals=2, width=80),
        ],
    )


def month() -> kit.Table:
    """The month so far."""
    return kit.rows(
        "Month to date",
        f"""The calendar month in which the time range ends, up to that end. Projected is the
        minutes so far plus, for each day left, the mean of the same weekday in the last four
        weeks. Last month metered is the share of last month in which polls were due. Against
        last month is the change from last month to the projection, if all of last month was
        metered. Use is the share of the minutes that the contract allows in a month.
        {kit.EDGES}""",
        f"""
        SELECT
            tenant AS "name",
            title AS "tenant",
            participant_minutes AS "minutes so far",
            projected_minutes AS "projected",
            last_month_minutes AS "last month",
            last_month_metered_share AS "last month metered",
            change AS "against last month",
            month_minute_limit AS "agreed",
            use AS "use",
            projected_use AS "projected use",
            coverage AS "coverage"
        FROM meter.month_to_date({TO})
        WHERE {_CHOSEN}
        ORDER BY 3 DESC NULLS LAST, 1
        """,
        decimals=0,
        size=(24, 9),
        columns=[
            kit.hidden("name"),
            Column("tenant", width=190, link=places.link("Tenant", places.TENANT, tenant="name")),
            Column("last month metered", unit="percentunit", decimals=1, steps=kit.METERED),
            Column("against last month", unit="percentunit", decimals=1),
            Column("use", unit="percentunit", decimals=1, steps=kit.USE),
            Column("projected use", unit="percentunit", decimals=1, steps=kit.USE),
            Column("coverage", unit="percentunit", decimals=2, steps=kit.COVERAGE),
        ],
    )


def concurrency() -> kit.Series:
    """Participants of the tenants, stacked."""
    return kit.series(
        "Participants by tenant",
        f"""Mean of each step, stacked. {kit.STEPS} A gap means that the tenant's servers were not
        seen. The ranking has the peaks; the dashboard Tenant shows the limit of one tenant.""",
        f"""
        SELECT ts AS time, tenant AS metric, participants
        FROM meter.concurrency({FROM}, {TO}, {STEP}, ARRAY[${{tenant:sqlstring}}]::text[])
        ORDER BY ts, tenant
        """,
        stacked=True,
        decimals=0,
        size=(24, 9),
        legend=("mean", "max"),
        points=240,
    )


def spans() -> kit.Table:
    """Times over the limit."""
    return kit.rows(
        "Times over the limit",
        f"""Consecutive minutes in which a tenant had more participants than its contract
        allowed, the newest first, 500 at most. The limit is that of the time itself: a later
        change of the contract changes nothing here. Where minutes are no longer kept, the times
        are whole hours or days. {kit.EDGES}""",
        f"""
        SELECT
            tenant AS "tenant",
            over_since AS "from",
            over_until AS "to",
            minutes AS "minutes",
            peak_participants AS "peak",
            peak_participants_at AS "peak at",
            participant_limit AS "limit"
        FROM meter.over_limit({REPORT}, ARRAY[${{tenant:sqlstring}}]::text[])
        ORDER BY over_since DESC
        LIMIT 500
        """,
        decimals=0,
        size=(24, 7),
        columns=[
            Column("tenant", link=places.link("Tenant", places.TENANT, tenant="tenant")),
            Column("from", unit="dateTimeAsIso"),
            Column("to", unit="dateTimeAsIso"),
            Column("peak at", unit="dateTimeAsIso"),
            Column("peak", color=kit.ORANGE, more=kit.COLORED),
        ],
    )
