"""What dashboards and people read, against the raw rows: each figure computed a second way.

Long: all these tests read one made-up past, which takes 20 to 30 s to write for each file.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from collector.verify import verify
from tests.support.settings import PAST_RETENTION, make_settings

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
STEP = timedelta(minutes=5)


@pytest.fixture
async def reader(past: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the role that Grafana has."""
    connection = await asyncpg.connect(past)
    await connection.execute("SET ROLE bbbmeter_reader")
    yield connection
    await connection.close()


@pytest.fixture
def until() -> datetime:
    """The last full hour but one: all of it is over, whatever the minute."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - HOUR


async def by(reader: asyncpg.Connection, sql: str, *args: object) -> dict[Any, Any]:
    """Return the second column (the others, if more) by the first."""
    rows = await reader.fetch(sql, *args)
    return {row[0]: row[1] if len(row) == 2 else tuple(row)[1:] for row in rows}


def assert_near(found: Mapping[Any, Any], wanted: Mapping[Any, Any]) -> None:
    """The same keys, and the same numbers but for the last digits."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        assert found[key] == pytest.approx(value, rel=1e-9, abs=1e-9), key


async def test_the_fleet_in_steps(reader: asyncpg.Connection, until: datetime) -> None:
    """Means and peaks are those of the samples, coverage is that of the polls."""
    since = until - DAY
    query = "SELECT ts, {} FROM meter.fleet_concurrency($1, $2, $3) ORDER BY ts"
    found = await by(reader, query.format("participants, peak_participants"), since, until, STEP)
    wanted = await by(
        reader,
        """
        SELECT g.ts, coalesce(sum(m.seconds), 0) / 300.0, coalesce(max(m.seconds), 0) / 60.0
        FROM generate_series(
            $1::timestamptz, $2::timestamptz - interval '1 second', $3::interval
        ) AS g (ts)
        LEFT JOIN (
            SELECT
                date_trunc('minute', ts) AS minute,
                sum(participants::integer * seconds) AS seconds
            FROM meter.sample WHERE ts >= $1 AND ts < $2 AND NOT breakout GROUP BY 1
        ) AS m ON m.minute >= g.ts AND m.minute < g.ts + $3
        GROUP BY g.ts
        """,
        since,
        until,
        STEP,
    )
    assert len(found) == 288
    assert_near(found, {at: tuple(map(float, values)) for at, values in wanted.items()})
    coverage = await by(reader, query.format("coverage"), since, until, STEP)
    seen = await by(
        reader,
        """
        SELECT g.ts, coalesce(sum(p.seconds), 0)
        FROM generate_series(
            $1::timestamptz, $2::timestamptz - interval '1 second', $3::interval
        ) AS g (ts)
        LEFT JOIN meter.poll AS p ON p.ok AND p.ts >= g.ts AND p.ts < g.ts + $3
        GROUP BY g.ts
        """,
        since,
        until,
        STEP,
    )
    servers = await reader.fetchval("SELECT count(*) FROM meter.server")
    assert_near(coverage, {at: seconds / (300 * servers) for at, seconds in seen.items()})
    assert min(coverage.values()) < 1


@pytest.mark.parametrize("span", [DAY, 5 * DAY, 14 * DAY])
async def test_tenants_add_up_to_the_fleet(
    reader: asyncpg.Connection, until: datetime, span: timedelta
) -> None:
    """In steps of minutes, of hours, and of days."""
    until = until.replace(hour=0) if span == 14 * DAY else until
    wanted = HOUR if span == 5 * DAY else DAY if span == 14 * DAY else STEP
    query = (
        "SELECT ts, sum({0}), sum(breakout_participants) FROM meter.{1} "
        # The running step has no means.
        "WHERE participants IS NOT NULL GROUP BY ts"
    )
    fleet = await by(
        reader,
        query.format("participants", "fleet_concurrency($1, $2, $3)"),
        *(until - span, until, wanted),
    )
    tenants = await by(
        reader,
        query.format("participants", "concurrency($1, $2, $3)"),
        *(until - span, until, wanted),
    )
    assert_near(tenants, fleet)
    assert any(values[0] > 0 for values in fleet.values())


@pytest.mark.parametrize(
    ("step", "cut"),
    [(STEP, timedelta(minutes=3)), (6 * HOUR, 5 * HOUR), (DAY, timedelta(hours=7, minutes=1))],
)
@pytest.mark.parametrize(
    "query",
    [
        "SELECT ts, participants, coverage FROM meter.fleet_concurrency($1, $2, $3)",
        "SELECT ts || tenant, participants, coverage FROM meter.concurrency($1, $2, $3)",
        "SELECT ts || server, participants, coverage FROM meter.server_load($1, $2, $3)",
    ],
)
async def test_the_last_step_is_whole(
    reader: asyncpg.Connection, until: datetime, query: str, step: timedelta, cut: timedelta
) -> None:
    """A period that ends within a step that is over has the whole of it."""
    # Days are those of the billing zone.
    until = await reader.fetchval("SELECT meter.step_of($1, $2)", step, until - DAY)
    since = until - (DAY if step == STEP else 10 * DAY)
    whole = await by(reader, query, since, until, step)
    assert any(participants for participants, _ in whole.values())
    assert await by(reader, query, since, until - cut, step) == whole


async def test_one_tenant_is_asked_for(reader: asyncpg.Connection, until: datetime) -> None:
    """Its figures do not depend on who else is asked for; a tenant that is none has no rows."""
    query = (
        "SELECT ts, participants, peak_participants, coverage FROM meter.concurrency($1, $2, $3{}) "
        "WHERE tenant = 'law'"
    )
    span = (until - DAY, until, STEP)
    alone = await by(reader, query.format(", ARRAY['law']"), *span)
    assert alone == await by(reader, query.format(""), *span)
    assert len(alone) == 288
    nobody = await by(reader, query.format(", ARRAY['nobody']"), *span)
    assert nobody == {}


async def test_the_load_of_servers(reader: asyncpg.Connection, until: datetime) -> None:
    """Of one server in steps of minutes, and of all in hours."""
    wanted = await by(
        reader,
        """
        SELECT
            date_trunc('hour', p.ts),
            sum(p.participants * p.seconds)::double precision / sum(p.seconds) FILTER (WHERE p.ok),
            max(p.participants), avg(p.latency_ms) FILTER (WHERE p.ok)::double precision,
            coalesce(sum(p.seconds) FILTER (WHERE p.ok), 0) / 3600.0::double precision
        FROM meter.poll AS p
        INNER JOIN meter.server AS v ON p.server_id = v.id AND v.name = 'bbb02'
        WHERE p.ts >= $1 AND p.ts < $2
        GROUP BY 1
        """,
        until - 10 * DAY,
        until,
    )
    for servers in ("", ", ARRAY['bbb02']"):
        found = await by(
            reader,
            f"SELECT ts, participants, max_participants, latency_ms, coverage "  # noqa: S608
            f"FROM meter.server_load($1, $2, $3{servers}) WHERE server = 'bbb02'",
            *(until - 10 * DAY, until, HOUR),
        )
        assert_near(found, wanted)
    minutes = await reader.fetchval(
        "SELECT sum(participants * 300 * coverage) FROM meter.server_load($1, $2, $3)",
        *(until - DAY, until, STEP),
    )
    assert minutes == pytest.approx(
        await reader.fetchval(
            "SELECT sum(participants * seconds) FROM meter.poll WHERE ts >= $1 AND ts < $2",
            *(until - DAY, until),
        )
    )


async def test_the_ranking_is_the_report(reader: asyncpg.Connection, until: datetime) -> None:
    """With shares that add up to one."""
    span = (until - 5 * DAY, until)
    ranking = await reader.fetch("SELECT * FROM meter.tenant_ranking($1, $2)", *span)
    report = await by(
        reader, "SELECT tenant, participant_minutes FROM meter.tenant_report($1, $2)", *span
    )
    assert {row["tenant"]: row["participant_minutes"] for row in ranking} == report
    assert sum(row["share"] for row in ranking) == pytest.approx(1)
    minutes = [row["participant_minutes"] for row in ranking]
    assert minutes == sorted(minutes, reverse=True)
    assert [row["place"] for row in ranking][:3] == [1, 2, 3]


async def test_the_month_is_the_report(reader: asyncpg.Connection) -> None:
    """Up to the instant; and the projection lies above it, but for the last minute of a month."""
    instant = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    month = await by(
        reader,
        "SELECT tenant, participant_minutes, projected_minutes FROM meter.month_to_date($1)",
        instant,
    )
    report = await by(
        reader,
        "SELECT tenant, participant_minutes FROM meter.tenant_report("
        "meter.billing_trunc('month', $1), $1)",
        instant,
    )
    assert {tenant: so_far for tenant, (so_far, _) in month.items()} == report
    assert all(projected >= so_far for so_far, projected in month.values())


async def test_minutes_over_the_limit(reader: asyncpg.Connection, until: datetime) -> None:
    """As many as the samples have, all within the contract's time, with the same peak."""
    since = until - 12 * DAY
    found = await by(
        reader,
        "SELECT tenant, sum(minutes)::integer, max(peak_participants) "
        "FROM meter.over_limit($1, $2) GROUP BY tenant",
        *(since, until),
    )
    wanted = await by(
        reader,
        """
        SELECT t.name, count(*)::integer, max(m.seconds) / 60.0::double precision
        FROM (
            SELECT
                tenant_id, date_trunc('minute', ts) AS minute,
                sum(participants::integer * seconds) AS seconds
            FROM meter.sample WHERE ts >= $1 AND ts < $2 AND NOT breakout
            GROUP BY 1, 2
        ) AS m
        INNER JOIN meter.contract AS k
            ON m.tenant_id = k.tenant_id AND m.minute >= k.since
            AND (k.until IS NULL OR m.minute < k.until) AND m.seconds > k.participant_limit * 60
        INNER JOIN meter.tenant AS t ON m.tenant_id = t.id
        GROUP BY 1
        """,
        *(since, until),
    )
    assert wanted
    assert found == wanted
    spans = await reader.fetch(
        "SELECT * FROM meter.over_limit($1, $2, ARRAY['law']) ORDER BY over_since", since, until
    )
    for one, next_one in pairwise(spans):
        assert one["over_until"] < next_one["over_since"]
    # From the middle of a span on, only its rest.
    longest = max(spans, key=lambda span: span["minutes"])
    cut = longest["over_since"] + timedelta(minutes=1)
    rest = await reader.fetch("SELECT * FROM meter.over_limit($1, $2, ARRAY['law'])", cut, until)
    assert rest[0]["over_since"] == cut
    assert rest[0]["minutes"] == longest["minutes"] - 1


async def test_rooms_and_their_sessions(reader: asyncpg.Connection, until: datetime) -> None:
    """A room's figures are the sums of its sessions', breakouts apart."""
    span = (until - 7 * DAY, until)
    found = await by(
        reader,
        "SELECT (tenant, room)::text, sessions, participant_minutes, breakout_minutes, "
        "coalesce(max_session_size, 0) FROM meter.room_usage($1, $2)",
        *span,
    )
    wanted = await by(
        reader,
        """
        SELECT
            (tenant, room)::text,
            count(*) FILTER (WHERE NOT breakout),
            coalesce(sum(participant_minutes) FILTER (WHERE NOT breakout), 0),
            coalesce(sum(participant_minutes) FILTER (WHERE breakout), 0),
            coalesce(max(max_participants) FILTER (WHERE NOT breakout), 0)
        FROM meter.session_list($1, $2)
        WHERE started_at >= $1
        GROUP BY 1
        """,
        *span,
    )
    assert_near(found, wanted)
    assert any(breakout > 0 for _, _, breakout, _ in wanted.values())
    sessions = await reader.fetchval(
        "SELECT count(*) FROM meter.session "
        "WHERE started_at < $2 AND (ended_at > $1 OR ended_at IS NULL)",
        *span,
    )
    assert sessions == await reader.fetchval(
        "SELECT count(*) FROM meter.session_list($1, $2)", *span
    )


async def test_the_course_of_a_session(reader: asyncpg.Connection) -> None:
    """Every sample; from a longer one than six hours, hours with the same sum."""
    row = await reader.fetchrow(
        "SELECT session_id, started_at, ended_at FROM meter.session "
        "WHERE ended_at IS NOT NULL AND filled_seconds > 0 "
        "ORDER BY participant_seconds DESC LIMIT 1"
    )
    assert row is not None
    number, began, ended = row
    query = "SELECT ts, participants, filled FROM meter.session_course($1, $2, $3)"
    found = await by(reader, query, str(number), began - HOUR, ended + HOUR)
    samples = await by(
        reader,
        "SELECT ts, participants::double precision, filled FROM meter.sample WHERE session_id = $1",
        number,
    )
    assert found == samples
    half = began + (ended - began) / 2
    assert await by(reader, query, str(number), half, ended + HOUR) == {
        ts: values for ts, values in samples.items() if ts >= half
    }
    for nonsense in ("", "0", "-1", "1e3", "99999999999999999999", "x"):
        assert await by(reader, query, nonsense, began, ended) == {}


async def test_sessions_of_the_fleet(reader: asyncpg.Connection, until: datetime) -> None:
    """Turnover, sizes and origins are those of the sessions, hour by hour."""
    span = (until - 6 * DAY, until)
    session = "FROM meter.session WHERE NOT breakout AND {0} >= $1 AND {0} < $2"
    turnover = await reader.fetch("SELECT * FROM meter.fleet_turnover($1, $2, $3)", *span, HOUR)
    for column, at in (("began", "started_at"), ("ended", "ended_at")):
        wanted = await by(
            reader,
            f"SELECT date_trunc('hour', {at}), count(*) {session.format(at)} GROUP BY 1",
            *span,
        )
        assert {row["ts"]: row[column] for row in turnover if row[column]} == wanted
    sizes = await by(
        reader,
        "SELECT size, sum(sessions)::integer FROM meter.fleet_sizes($1, $2, $3) GROUP BY size",
        *(*span, HOUR),
    )
    bounds = [1, 2, 3, 6, 11, 21, 51, 101, 201]
    wanted_sizes = dict.fromkeys(bounds, 0)
    for (most,) in await reader.fetch(
        f"SELECT max_participants {session.format('started_at')}", *span
    ):
        wanted_sizes[max(bound for bound in bounds if bound <= max(most or 1, 1))] += 1
    assert sizes == {size: number for size, number in wanted_sizes.items() if number}
    origins = await by(
        reader,
        "SELECT origin, sum(sessions)::integer, sum(participant_minutes) "
        "FROM meter.fleet_origins($1, $2, $3) GROUP BY origin",
        *(*span, DAY / 24),
    )
    wanted = await by(
        reader,
        "SELECT coalesce(origin, 'unknown'), count(*)::integer, "
        f"sum(participant_seconds) / 60.0::double precision {session.format('started_at')} "
        "GROUP BY 1",
        *span,
    )
    assert_near(origins, wanted)
    assert len(wanted) > 2
    classes = await by(
        reader,
        "SELECT tenant_id, count(*) FROM meter.session_starts($1, $2, ARRAY['law']) GROUP BY 1",
        *span,
    )
    assert list(classes.values()) == [
        await reader.fetchval(
            f"SELECT count(*) {session.format('started_at')} AND tenant_id = "  # noqa: S608
            "(SELECT id FROM meter.tenant WHERE name = 'law')",
            *span,
        )
    ]


async def test_polls_by_how_they_ended(reader: asyncpg.Connection, until: datetime) -> None:
    """Failures by kind, and the others by latency, of all servers and of one."""
    span = (until - 6 * DAY, until)
    for servers in (None, ["bbb01"]):
        chosen = "p.ts >= $1 AND p.ts < $2 AND ($3::text[] IS NULL OR v.name = ANY($3))"
        polls = f"FROM meter.poll AS p JOIN meter.server AS v ON p.server_id = v.id WHERE {chosen}"
        found = await by(
            reader,
            "SELECT outcome, sum(polls)::integer FROM meter.poll_failures($1, $2, '1 hour', $3) "
            "GROUP BY outcome",
            *(*span, servers),
        )
        wanted = await by(
            reader,
            f"SELECT outcome, count(*)::integer {polls} AND NOT ok GROUP BY outcome",
            *(*span, servers),
        )
        assert wanted
        assert found == wanted
        latencies = await by(
            reader,
            "SELECT latency_ms, sum(polls)::integer "
            "FROM meter.poll_latencies($1, $2, '1 hour', $3) GROUP BY 1",
            *(*span, servers),
        )
        bounds = [0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000]
        counted = dict.fromkeys(bounds, 0)
        for (latency,) in await reader.fetch(f"SELECT latency_ms {polls} AND ok", *span, servers):
            counted[max(bound for bound in bounds if bound <= latency)] += 1
        assert latencies == {bound: number for bound, number in counted.items() if number}


async def test_the_report_of_servers(reader: asyncpg.Connection, until: datetime) -> None:
    """Each server's polls, failures, minutes and coverage."""
    span = (until - 12 * DAY, until)
    found = await by(
        reader,
        "SELECT server, polls, failed_polls, measured_participant_minutes, max_participants, "
        "coverage "
        "FROM meter.server_report($1, $2)",
        *span,
    )
    wanted = await by(
        reader,
        """
        SELECT
            v.name, count(*), count(*) FILTER (WHERE NOT p.ok),
            sum(p.participants * p.seconds) / 60.0::double precision, max(p.participants),
            sum(p.seconds) FILTER (WHERE p.ok)
            / extract(EPOCH FROM $2::timestamptz - $1::timestamptz)::double precision
        FROM meter.poll AS p INNER JOIN meter.server AS v ON p.server_id = v.id
        WHERE p.ts >= $1 AND p.ts < $2 GROUP BY 1
        """,
        *span,
    )
    assert_near(found, wanted)
    shares = await reader.fetchval("SELECT sum(share) FROM meter.server_report($1, $2)", *span)
    assert shares == pytest.approx(1)
    quantiles = await by(
        reader, "SELECT server, latency_p95_ms FROM meter.server_report($1, $2)", *span
    )
    exact = await by(
        reader,
        "SELECT v.name, percentile_cont(0.95) WITHIN GROUP (ORDER BY p.latency_ms) "
        "FROM meter.poll AS p INNER JOIN meter.server AS v ON p.server_id = v.id "
        "WHERE p.ok AND p.ts >= $1 AND p.ts < $2 GROUP BY 1",
        *span,
    )
    # By classes, of which one is at most 2.5 times as wide as the one before.
    for server, latency in exact.items():
        assert latency / 2.5 < quantiles[server] < latency * 2.5


async def test_outages(reader: asyncpg.Connection, until: datetime) -> None:
    """That of the made-up past is there: to the poll within two days of it, else by hours."""
    spans = await reader.fetch(
        "SELECT * FROM meter.outages($1, $2) ORDER BY failed_polls DESC", until - 14 * DAY, until
    )
    away = spans[0]
    assert away["outcome"]
    assert away["down_until"] - away["down_since"] >= 2 * HOUR
    near = await reader.fetch(
        "SELECT * FROM meter.outages($1, $2) ORDER BY failed_polls DESC",
        away["down_since"] - 6 * HOUR,
        away["down_until"] + 6 * HOUR,
    )
    exact = near[0]
    assert exact["server"] == away["server"]
    failed = await reader.fetch(
        "SELECT p.ts, p.seconds FROM meter.poll AS p "
        "INNER JOIN meter.server AS v ON p.server_id = v.id AND v.name = $1 "
        "WHERE NOT p.ok AND p.ts >= $2 AND p.ts < $3 ORDER BY p.ts",
        *(exact["server"], exact["down_since"], exact["down_until"]),
    )
    assert exact["failed_polls"] == len(failed)
    assert exact["down_since"] == failed[0]["ts"]
    assert exact["down_until"] == failed[-1]["ts"] + timedelta(seconds=failed[-1]["seconds"])


async def test_storage_is_what_the_database_says(reader: asyncpg.Connection, past: str) -> None:
    """Each table and rollup once, with its size."""
    found = await by(reader, "SELECT relation, bytes FROM meter.disk_usage()")
    admin = await asyncpg.connect(past)
    wanted = await admin.fetchval("SELECT public.hypertable_size('meter.sample')")
    await admin.close()
    # That of the empty table above all chunks is not counted.
    assert found["sample"] == pytest.approx(wanted, rel=0.01)
    assert {"poll", "session", "usage_1m", "start_1h"} <= found.keys()


async def test_the_past_is_sound(past: str) -> None:
    """What is read here fits together, by the checks that production data go through."""
    settings = make_settings(retention=PAST_RETENTION)
    async with asyncpg.create_pool(past, min_size=1, max_size=2) as pool:
        results = await verify(pool, settings, second_look_s=0)
    found = {result.name: result for result in results}
    # The tests' policies are switched off, nothing puts chunks into columns, and polls saw all.
    unseen = [name for name in found if "unseen" in name]
    for name in ("policies", "jobs", "chunks", "late data", *unseen):
        del found[name]
    assert {name: (r.note, r.findings) for name, r in found.items() if not r.ok} == {}
    assert all(result.examined for result in found.values())
