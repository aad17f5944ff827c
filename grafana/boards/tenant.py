"""Tenant: one tenant's usage over time, its usual sizes and hours, its rooms."""

from typing import Any

from grafana_foundation_sdk.models import dashboard as models

from grafana.boards import kit, places
from grafana.boards.kit import FROM, REPORT, STEP, TO, Column

_TENANT = "${tenant:sqlstring}"
_ARRAY = f"ARRAY[{_TENANT}]::text[]"
_HOURS = range(24)


def board() -> models.Dashboard:
    """Return the dashboard."""
    return kit.board(
        places.TENANT,
        "Tenant",
        f"One tenant. Breakout rooms are included only where a panel names them. {kit.EDGES}",
        since="now-30d",
        refresh="5m",
        variables=[kit.choice("tenant", "Tenant", kit.TENANTS)],
        sections=[
            (None, [minutes(), sessions(), peak(), peak_at(), coverage(), metered(), month_use()]),
            ("Over time", [daily(), concurrency(), apart()]),
            ("Patterns", [sizes(), lengths(), origins(), week()]),
            ("Rooms", [rooms(), spans()]),
        ],
    )


def _figure(title: str, description: str, column: str, **how: Any) -> kit.Stat:  # noqa: ANN401 - as kit.number has them
    return kit.number(
        title,
        description,
        f"""
        SELECT {column} AS "{title}"
        FROM meter.tenant_ranking({REPORT})
        WHERE tenant = {_TENANT}
        """,
        **how,
    )


def minutes() -> kit.Stat:
    """Participant minutes."""
    return _figure(
        "Participant minutes",
        f"""In the time range, as in bills. One participant for one hour is 60 minutes.
        {kit.EDGES}""",
        "participant_minutes",
        decimals=0,
    )


def sessions() -> kit.Stat:
    """Sessions."""
    return _figure(
        "Sessions begun",
        f"""Sessions that began in the time range. Those that began earlier and were still on are
        not counted. {kit.EDGES}""",
        "sessions::float8",
        decimals=0,
        size=(3, 4),
    )


def peak() -> kit.Stat:
    """Peak."""
    return _figure(
        "Peak participants",
        f"""The highest minute of the time range, over all rooms and servers together.
        {kit.EDGES}""",
        "peak_participants",
        decimals=0,
        size=(3, 4),
        steps=((None, kit.YELLOW),),
    )


def peak_at() -> kit.Stat:
    """When the peak was."""
    return kit.word(
        "Peak at",
        "The first minute with the peak number of participants.",
        f"""
        SELECT peak_participants_at AS "Peak at"
        FROM meter.tenant_ranking({REPORT})
        WHERE tenant = {_TENANT}
        """,
        unit="dateTimeAsIso",
    )


def coverage() -> kit.Stat:
    """Coverage."""
    return _figure(
        "Coverage",
        f"""Share of the due time in which this tenant's servers were seen, times the share of its
        sessions that they showed. Below 99.5 %, check Data quality before you bill. Of the rest,
        short gaps are filled, and other usage is missing from the figures. {kit.EDGES}""",
        "coverage",
        unit="percentunit",
        decimals=2,
        size=(3, 4),
        steps=kit.COVERAGE,
    )


def metered() -> kit.Stat:
    """Metered share of the time."""
    return _figure(
        "Metered share",
        f"""Share of the time range, up to now, in which polls of this tenant's servers were due. It
        is less than 100 % if metering began later or was switched off. Coverage does not show that:
        it is a share of the due time. {kit.EDGES}""",
        "metered_share",
        unit="percentunit",
        decimals=1,
        size=(3, 4),
        steps=kit.METERED,
    )


def month_use() -> kit.Stat:
    """Use of the month's minutes."""
    return kit.number(
        "Use of the month's minutes",
        """Participant minutes of the calendar month in which the time range ends, up to that end,
        as a share of those that the contract allows. The dashboard Tenants has a projection for
        the whole month.""",
        f"""
        SELECT use AS "Use of the month's minutes"
        FROM meter.month_to_date({TO})
        WHERE tenant = {_TENANT}
        """,
        unit="percentunit",
        decimals=1,
        size=(4, 4),
        steps=kit.USE,
        no_value="no contract",
    )


def daily() -> kit.Series:
    """Minutes of each day."""
    return kit.series(
        "Participant minutes per day",
        f"""Days of the billing time zone. The first and the last bar have only the part of their
        day that is in the time range, so that the bars add up to Participant minutes. The line
        is the coverage of each day: where it is low, the bar of that day is too low. The minutes
        of moderators are part of all minutes, and missing on days on which a server did not
        report them. {kit.EDGES}""",
        f"""
        SELECT
            period AS time,
            participant_minutes AS "participant minutes",
            moderator_minutes AS "of them moderators",
            coverage AS "coverage"
        FROM meter.tenant_usage({REPORT}, 'day')
        WHERE tenant = {_TENANT}
        ORDER BY period
        """,
        bars=True,
        decimals=0,
        size=(24, 8),
        columns=[
            Column("participant minutes", color=kit.GREEN),
            Column(
                "coverage",
                unit="percentunit",
                color=kit.GREY,
                more={
                    "custom.drawStyle": "line",
                    "custom.fillOpacity": 0,
                    "custom.axisPlacement": "right",
                    "min": 0,
                    "max": 1,
                },
            ),
        ],
    )


def concurrency() -> kit.Series:
    """Participants with the limit."""
    return kit.series(
        "Concurrent participants",
        f"""Mean of each step and the highest minute in it. {kit.STEPS} The running step has only
        its highest minute so far. The red line is the limit that the contract had at that time.
        A gap means that the tenant's servers were not seen.""",
        f"""
        SELECT
            ts AS time,
            peak_participants AS "highest minute",
            participants AS "mean",
            participant_limit AS "limit"
        FROM meter.concurrency({FROM}, {TO}, {STEP}, {_ARRAY})
        ORDER BY ts
        """,
        decimals=0,
        size=(12, 8),
        columns=[
            Column("mean", color=kit.GREEN),
            Column("highest minute", color=kit.YELLOW, more={"custom.fillOpacity": 0}),
            Column("limit", color=kit.RED, more={"custom.fillOpacity": 0, "custom.lineWidth": 2}),
        ],
    )


def apart() -> kit.Series:
    """Breakout rooms and dial-in."""
    return kit.series(
        "Breakout rooms and telephone",
        f"""Participant minutes per day; the first and the last bar have only the part of their day
        that is in the time range. Users in a breakout room are also in the parent room, and count
        there. Telephone minutes are part of the participant minutes.
        {kit.EDGES}""",
        f"""
        SELECT
            period AS time,
            breakout_minutes AS "in breakout rooms",
            dialin_minutes AS "by telephone"
        FROM meter.tenant_usage({REPORT}, 'day')
        WHERE tenant = {_TENANT}
        ORDER BY period
        """,
        bars=True,
        decimals=0,
        size=(12, 8),
    )


def _classes(title: str, description: str, kind: str) -> kit.Bars:
    return kit.bars(
        title,
        description,
        f"""
        SELECT {kind}_label AS "class", count(*) AS "sessions"
        FROM meter.session_starts({REPORT}, {_ARRAY})
        GROUP BY {kind}_class, {kind}_label
        ORDER BY {kind}_class
        """,
        x="class",
        columns=[Column("sessions", decimals=0, color=kit.BLUE)],
    )


def sizes() -> kit.Bars:
    """Sessions by size."""
    return _classes(
        "Sessions begun, by size",
        "Sessions that began in the time range, by their largest number of participants.",
        "size",
    )


def lengths() -> kit.Bars:
    """Sessions by duration."""
    return _classes(
        "Sessions begun, by duration",
        "Sessions that began in the time range, by how long they lasted.",
        "length",
    )


def origins() -> kit.Bars:
    """Sessions by the product that created them."""
    return kit.bars(
        "Sessions begun, by origin",
        """Sessions that began in the time range, by the product that created them: the ten most
        frequent. Products name themselves (bbb-origin); unknown means no name.""",
        f"""
        SELECT origin AS "origin", count(*) AS "sessions"
        FROM meter.session_starts({REPORT}, {_ARRAY})
        GROUP BY origin
        ORDER BY 2 DESC, 1
        LIMIT 10
        """,
        x="origin",
        horizontal=True,
        columns=[Column("sessions", decimals=0, color=kit.BLUE)],
    )


def week() -> kit.Table:
    """Sessions by weekday and hour."""
    hours = ",\n            ".join(
        f'coalesce(sum(sessions) FILTER (WHERE hour = {hour}), 0) AS "{hour:02}"' for hour in _HOURS
    )
    return kit.rows(
        "Sessions begun, by weekday and hour",
        f"""How many sessions of the time range began in each hour of the week, in the billing time
        zone. An hour in which none began can still be full of people: before you plan maintenance,
        look at the concurrent participants too. {kit.SESSIONS_KEPT}""",
        f"""
        SELECT
            w.name AS "day",
            {hours}
        FROM unnest(ARRAY['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'])
            WITH ORDINALITY AS w (name, number)
        LEFT JOIN (
            -- Quarters of an hour first: some zones are not whole hours from UTC.
            SELECT
                extract(ISODOW FROM q.at AT TIME ZONE meter.billing_timezone()) AS weekday,
                extract(HOUR FROM q.at AT TIME ZONE meter.billing_timezone()) AS hour,
                q.sessions
            FROM (
                SELECT public.time_bucket('15 min', started_at) AS at, count(*) AS sessions
                FROM meter.session_starts({REPORT}, {_ARRAY})
                GROUP BY 1
            ) AS q
        ) AS s ON w.number = s.weekday
        GROUP BY w.number, w.name
        ORDER BY w.number
        """,
        decimals=0,
        size=(24, 8),
        columns=[
            Column("day", width=60),
            *(
                Column(
                    f"{hour:02}",
                    more={
                        "color": {"mode": "continuous-GrYlRd"},
                        "custom.align": "center",
                        "custom.minWidth": 40,
                        "custom.cellOptions": {"type": "color-background", "mode": "basic"},
                    },
                )
                for hour in _HOURS
            ),
        ],
    )


def rooms() -> kit.Table:
    """The rooms with the most minutes."""
    return kit.rows(
        "Top rooms",
        f"""The 50 rooms with the most participant minutes, from sessions that began in the time
        range, each counted up to its end. {kit.SESSIONS_KEPT}""",
        f"""
        SELECT
            tenant AS "tenant",
            room AS "id",
            coalesce(nullif(room_name, ''), room) AS "room",
            sessions AS "sessions begun",
            participant_minutes AS "their participant minutes",
            max_session_size AS "largest",
            avg_session_size AS "mean size",
            breakout_minutes AS "breakout minutes",
            last_active_at AS "last active"
        FROM meter.room_usage({REPORT}, {_TENANT})
        ORDER BY participant_minutes DESC
        LIMIT 50
        """,
        decimals=0,
        size=(24, 10),
        columns=[
            kit.hidden("tenant"),
            kit.hidden("id"),
            Column("room", link=places.link("Room", places.ROOM, tenant="tenant", room="id")),
            Column("mean size", decimals=1),
            Column("last active", unit="dateTimeAsIso"),
        ],
    )


def spans() -> kit.Table:
    """Times over the limit."""
    return kit.rows(
        "Times over the limit",
        f"""Consecutive minutes with more participants than the contract allowed at that time,
        the newest first, 500 at most. Where minutes are no longer kept, the times are whole
        hours or days. {kit.EDGES}""",
        f"""
        SELECT
            over_since AS "from",
            over_until AS "to",
            minutes AS "minutes",
            peak_participants AS "peak",
            peak_participants_at AS "peak at",
            participant_limit AS "limit"
        FROM meter.over_limit({REPORT}, {_ARRAY})
        ORDER BY over_since DESC
        LIMIT 500
        """,
        decimals=0,
        size=(24, 7),
        columns=[
            Column("from", unit="dateTimeAsIso"),
            Column("to", unit="dateTimeAsIso"),
            Column("peak at", unit="dateTimeAsIso"),
        ],
    )
