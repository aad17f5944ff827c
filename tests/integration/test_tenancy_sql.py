"""Whose a server was is a fact with a time: a change of it leaves past figures as they were."""

from datetime import datetime, timedelta

import asyncpg
import pytest

from collector.database import migrate as migration
from collector.database.migrate import migrate
from collector.rollups import ROLLUPS, TABLES_KEPT_AS
from tests.support.feed import Feed, MakeFeed
from tests.support.reports import HOUR, MINUTE, at, report, usage
from tests.support.repository import ROOT
from tests.support.settings import KEEP_ALL, make_settings

T = at("2026-03-02 10:00")


async def coverage(feed: Feed, since: datetime, until: datetime) -> dict[str, float | None]:
    """Return the coverage of each tenant."""
    return {t: row["coverage"] for t, row in (await report(feed, since, until)).items()}


async def play(
    feed: Feed, since: datetime, until: datetime, *servers: str, failed: timedelta = timedelta(0)
) -> None:
    """Poll `servers` in [since, until); the polls of the first `failed` of it fail."""
    ticks = list(feed.ticks(since, until))
    lost = {(server, ts) for server in servers for ts in ticks if ts < since + failed}
    await feed.play(servers, ticks, failed=lost)


async def test_a_moved_server_leaves_the_past_as_it_was(feed: Feed) -> None:
    """Last month's coverage is that of the tenant who had the server then."""
    await feed.due(T, s1="acme", s2="law")
    await play(feed, T, T + HOUR, "s1", failed=30 * MINUTE)
    await play(feed, T, T + HOUR, "s2")
    await feed.due(T + HOUR, s1="acme", s2="law")
    before = {"acme": 0.5, "law": 1}
    assert await coverage(feed, T, T + HOUR) == before
    await feed.due(T + 2 * HOUR, s1="law", s2="law")
    await play(feed, T + 2 * HOUR, T + 3 * HOUR, "s1", "s2")
    assert await coverage(feed, T, T + HOUR) == before
    assert await coverage(feed, T + 2 * HOUR, T + 3 * HOUR) == {"acme": None, "law": 1}
    # A tenant whose last server left uses the shared ones again, and none is there.
    row = await feed.pool.fetchrow("SELECT tenant FROM meter.server_now WHERE server = 's1'")
    assert row is not None
    assert row["tenant"] == "law"


async def test_a_server_counts_for_each_tenant_with_its_own_time(feed: Feed) -> None:
    """In a period with a change, each tenant gets the due and covered time of its own part."""
    await feed.due(T, s1="acme", s2="law", shared=None)
    await play(feed, T, T + HOUR, "s1", failed=15 * MINUTE)
    move = T + 40 * MINUTE
    await feed.due(move, s1="law", s2=None, shared=None)
    await play(feed, T, T + HOUR, "s2", "shared")
    await feed.due(T + HOUR)
    whole = await coverage(feed, T, T + HOUR)
    # acme had s1 for 40 minutes, of which 25 were covered.
    assert whole["acme"] == pytest.approx(25 / 40)
    # law had s2 for 40 minutes and s1 for 20.
    assert whole["law"] == 1
    assert (await coverage(feed, T, move))["acme"] == pytest.approx(25 / 40)
    # Who has no server of its own uses the shared ones: s2 is one since the change.
    assert (await coverage(feed, move, T + HOUR))["acme"] == 1
    rows = await feed.pool.fetch(
        "SELECT c.server, t.name, c.due_seconds, c.covered_seconds "
        "FROM meter.tenancy_coverage($1, $2) AS c LEFT JOIN meter.tenant AS t "
        "ON c.tenant_id = t.id ORDER BY 1, 2",
        T,
        T + HOUR,
    )
    assert [tuple(row) for row in rows] == [
        ("s1", "acme", 2400, 1500),
        ("s1", "law", 1200, 1200),
        ("s2", "law", 2400, 2400),
        ("s2", None, 1200, 1200),
        ("shared", None, 3600, 3600),
    ]


async def test_a_change_within_a_minute_is_shared_by_time(feed: Feed) -> None:
    """Ticks are not full minutes: the minute of the change is divided by time."""
    await feed.due(T, s1="acme")
    await play(feed, T, T + 10 * MINUTE, "s1")
    await feed.due(T + 5 * MINUTE + timedelta(seconds=30), s1="law")
    await feed.due(T + 10 * MINUTE)
    rows = await feed.pool.fetch(
        "SELECT due_seconds, covered_seconds FROM meter.tenancy_coverage($1, $2) ORDER BY 1",
        T,
        T + 10 * MINUTE,
    )
    assert [tuple(row) for row in rows] == [(270, 270), (330, 330)]


async def test_a_month_has_the_same_coverage_alone_and_among_others(feed: Feed) -> None:
    """By day and by month, each period has the coverage of a report of that period alone."""
    days = [at("2026-03-30") - 2 * HOUR + n * 24 * HOUR for n in range(4)]  # midnights in Berlin
    await feed.due(days[0], s1=None, s2="law")
    ticks = [t for day in days for t in feed.ticks(day, day + HOUR)]
    failed = {("s1", t) for t in ticks if t.minute < 15} | {("s2", t) for t in ticks if t < days[1]}
    await feed.play(["s1", "s2"], ticks, failed=failed)
    move = days[1] + HOUR / 2
    await feed.due(move, s1="acme", s2="law")
    await feed.due(days[3], s1="acme", s2="acme")
    await feed.due(days[3] + HOUR)
    await feed.refresh()
    rows = await usage(feed, days[0], days[3] + HOUR, "day")
    for row in rows:
        until = min(row["period"] + 24 * HOUR, days[3] + HOUR)
        alone = (await report(feed, row["period"], until))[row["tenant"]]
        assert row["coverage"] == pytest.approx(alone["coverage"]), row
    for row in await usage(feed, days[0], days[3] + HOUR, "month"):
        since = max(row["period"], days[0])
        until = days[2] if since == days[0] else days[3] + HOUR
        alone = (await report(feed, since, until))[row["tenant"]]
        assert row["coverage"] == pytest.approx(alone["coverage"]), row
    steps = await feed.pool.fetch(
        "SELECT * FROM meter.concurrency($1, $2, '1 hour', ARRAY['acme', 'law'])",
        days[0],
        days[3] + HOUR,
    )
    found = {(row["tenant"], row["ts"]): row["coverage"] for row in steps}
    assert found["law", days[0]] == 0
    assert found["law", days[1]] == 1
    # acme used the shared s1 until it became its own, in the middle of this step.
    assert found["acme", days[1]] == pytest.approx(0.75)
    assert found["acme", days[3]] == pytest.approx((0.75 + 1) / 2)


async def test_last_month_can_still_be_reported_without_its_polls(make_feed: MakeFeed) -> None:
    """Polls are kept for days, hours for longer: the hour of the change is divided by time."""
    kept = KEEP_ALL | {"poll": 5, "sample": 5}
    feed = await make_feed(make_settings(retention=kept))
    old = at("2026-03-02 23:00")  # midnight in Berlin
    await feed.due(old, s1="acme")
    await play(feed, old, old + 24 * HOUR, "s1", failed=3 * HOUR)
    await feed.due(old + 10 * HOUR + 30 * MINUTE, s1="law")
    await feed.due(old + 24 * HOUR)
    await feed.refresh()
    before = await coverage(feed, old, old + 24 * HOUR)
    assert before == {"acme": pytest.approx(7.5 / 10.5), "law": 1}
    for relation in ("sample", "poll"):
        await feed.pool.execute(
            "SELECT public.drop_chunks($1::regclass, older_than => now() - interval '5 days')",
            f"meter.{relation}",
        )
    assert await coverage(feed, old, old + 24 * HOUR) == before


async def test_an_upgrade_takes_the_present_tenant_for_all_time(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database of the first version knows no history: its tenants hold for the past too."""
    with monkeypatch.context() as patch:
        old = ROOT / "tests/upgrade/0.1.0/schema"
        patch.setattr(migration, "schema_dir", lambda: old)
        # The policies of that version.
        text = "".join(path.read_text() for path in old.rglob("*.sql"))
        for names in (ROLLUPS, TABLES_KEPT_AS):
            for name in [name for name in names if f"meter.{name}" not in text]:
                patch.delitem(names, name)
        await migrate(connection, make_settings())
    await connection.execute(
        "INSERT INTO meter.tenant (name) VALUES ('acme');"
        "INSERT INTO meter.server (name, tenant_id) VALUES ('s1', 1), ('s2', NULL)"
    )
    await migrate(connection, make_settings())
    rows = await connection.fetch(
        "SELECT v.name, w.since = '-infinity' AS always, w.until, w.tenant_id "
        "FROM meter.server_tenant AS w "
        "INNER JOIN meter.server AS v ON w.server_id = v.id ORDER BY 1"
    )
    assert [tuple(row) for row in rows] == [("s1", True, None, 1), ("s2", True, None, None)]
