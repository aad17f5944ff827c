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
        """All tenants side by side. Breakout rooms are included only in their own column. The time
        range is rounded to whole minutes, or to hours or days where it is long or old.""",
        since="now-7d",
        refresh="5m",
        variables=[kit.tenants()],
        sections=[
            (None, [minutes(), sessions(), peak(), coverage(), unassigned(), over_limit_tenants()]),
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
        "Of the chosen tenants in the time range. One participant for one hour is 60 minutes.",
        "sum(participant_minutes)",
        decimals=0,
    )


def sessions() -> kit.Stat:
    """Sessions of all."""
    return _total(
        "Sessions",
        "Sessions of the chosen tenants that began in the time range.",
        "sum(sessions)::float8",
        decimals=0,
    )


def peak() -> kit.Stat:
    """Peak of all tenants together."""
    return kit.number(
        "Peak participants",
        """The highest minute of the whole fleet in the time range. The tenants' own peaks can
        be at different times, so their sum can be higher.""",
        f"""
        SELECT max(peak_participants) AS "Peak participants"
        FROM meter.fleet_concurrency({FROM}, {TO}, {STEP})
        """,
        decimals=0,
        steps=((None, kit.YELLOW),),
    )


def coverage() -> kit.Stat:
    """The lowest coverage."""
    return _total(
        "Lowest coverage",
        """Share of the due time in which the servers of a tenant were seen: the lowest of the
        chosen tenants. Below 99.5 %, check Data quality before you bill. Usage in the rest of the
        time is missing from the figures.""",
        "min(coverage)",
        unit="percentunit",
        decimals=2,
        steps=kit.COVERAGE,
    )


def unassigned() -> kit.Stat:
    """Minutes of sessions that no rule matched."""
    return kit.number(
        "Unassigned",
        """Participant minutes of sessions that no attribution rule matched. This should be 0. Find
        the sessions in Rooms, and add a rule to the settings.""",
        f"""
        SELECT coalesce(sum(participant_minutes), 0) AS "Unassigned"
        FROM meter.tenant_ranking({REPORT})
        WHERE tenant = meter.default_tenant()
        """,
        decimals=0,
        steps=kit.NONE_IS_GOOD,
    )


def over_limit_tenants() -> kit.Stat:
    """Tenants that went over their limit."""
    return kit.number(
        "Tenants over their limit",
        """Chosen tenants that had more concurrent participants than their contract allowed, in at
        least one minute of the time range. Times over the limit lists the times.""",
        f"""
        SELECT count(DISTINCT tenant) AS "Tenants over their limit"
        FROM meter.over_limit({FROM}, {TO}, ARRAY[${{tenant:sqlstring}}]::text[])
        """,
        decimals=0,
        steps=((None, kit.GREEN), (1.0, kit.ORANGE)),
    )


def ranking() -> kit.Table:
    """Ranking by participant minutes."""
    return kit.rows(
        "Tenants by participant minutes",
        """Share is the tenant's part of the minutes of all tenants. Peak is the highest minute.
        Limit is the number of participants that the contract allows at the end of the time range;
        use of limit is the peak divided by it. Coverage is the share of the due time in which the
        tenant's servers were seen. Filled is the share of session time that was interpolated
        because polls were missing or failed.""",
        f"""
        SELECT
            tenant AS "name",
            title AS "tenant",
            participant_minutes AS "participant minutes",
            coverage AS "coverage",
            share AS "share",
            sessions AS "sessions",
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
            Column("share", unit="percentunit", decimals=1, gauge=True, width=140),
            Column("sessions", width=80),
            Column("mean size", decimals=1, width=85),
            Column("largest", width=70),
            Column("peak", width=70),
            Column("peak at", unit="dateTimeAsIso", width=160),
            Column("limit", width=65),
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
        """The calendar month in which the time range ends, up to that end. Projected is the minutes
        so far plus, for each day left, the mean of the same weekday in the last four weeks. Against
        last month is the change from the whole last month to the projection. Use is the share of
        the minutes that the contract allows in a month.""",
        f"""
        SELECT
            tenant AS "name",
            title AS "tenant",
            participant_minutes AS "minutes so far",
            projected_minutes AS "projected",
            last_month_minutes AS "last month, whole",
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
        """Mean of each step, stacked. A gap means that the tenant's servers were not seen. The
        ranking has the peaks; the dashboard Tenant shows the limit of one tenant.""",
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
        """Consecutive minutes in which a tenant had more participants than its contract allowed,
        the newest first, 500 at most. The limit is that of the time itself: a later change of the
        contract changes nothing here. Where minutes are no longer kept, the times are whole
        hours.""",
        f"""
        SELECT
            tenant AS "tenant",
            over_since AS "from",
            over_until AS "to",
            minutes AS "minutes",
            peak_participants AS "peak",
            peak_participants_at AS "peak at",
            participant_limit AS "limit"
        FROM meter.over_limit({FROM}, {TO}, ARRAY[${{tenant:sqlstring}}]::text[])
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
