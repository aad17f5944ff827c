"""Coverage: which polls were due and came, and what is unknown without them."""

from datetime import UTC, datetime, timedelta

import pytest

from collector.reports.figures import FIGURES
from tests.support.feed import Feed, Run
from tests.support.meetings import answer_xml
from tests.support.meter import Meter, T, meeting
from tests.support.reports import HOUR, MINUTE, at, by, report, usage
from tests.support.settings import make_server, make_settings


async def test_coverage_counts_failed_and_missing_polls(feed: Feed) -> None:
    """A server that fails and a collector that is down are holes alike; filling hides neither."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None)
    failed = {("bbb1", ts) for ts in feed.ticks(t, t + 6 * MINUTE)}
    missed = {("bbb1", ts) for ts in feed.ticks(t + 30 * MINUTE, t + 42 * MINUTE)}
    steady = Run("bbb1", "arts", "r", t, t + HOUR, 2)
    batch = feed.batch(["bbb1"], feed.ticks(t, t + HOUR), [steady], failed=failed, missed=missed)
    batch.samples += [
        feed.sample(steady, ts, poll_ts=t + 42 * MINUTE)
        for ts in feed.ticks(t + 40 * MINUTE, t + 42 * MINUTE)
    ]
    await feed.writer.write(batch)
    await feed.due(t + HOUR)
    figures = (await report(feed, t, t + HOUR))["arts"]
    assert figures["coverage"] == pytest.approx(42 / 60)
    assert figures["participant_minutes"] == 2 * 44
    assert figures["filled_share"] == pytest.approx(2 / 44)
    (server,) = await feed.pool.fetch("SELECT * FROM meter.server_coverage($1, $2)", t, t + HOUR)
    assert (server["due_seconds"], server["covered_seconds"]) == (3600, 42 * 60)


async def test_coverage_begins_and_ends_with_a_server(feed: Feed) -> None:
    """No poll is due before a server is there or when it has gone, and again when it is back."""
    t = at("2026-03-02 10:00")
    await feed.due(t, bbb1=None)
    await feed.due(t + 30 * MINUTE, bbb1=None, bbb2=None)
    await feed.due(t + 40 * MINUTE, bbb2=None)
    await feed.due(t + 50 * MINUTE, bbb1=None, bbb2=None)
    await feed.play(["bbb1"], feed.ticks(t, t + 40 * MINUTE))
    await feed.play(["bbb1"], feed.ticks(t + 50 * MINUTE, t + 55 * MINUTE))
    await feed.play(["bbb2"], feed.ticks(t + 30 * MINUTE, t + HOUR))
    await feed.due(t + HOUR)
    query = "SELECT * FROM meter.server_coverage($1, $2)"
    rows = {row["server"]: row for row in await feed.pool.fetch(query, t, t + 2 * HOUR)}
    assert (rows["bbb1"]["due_seconds"], rows["bbb1"]["coverage"]) == (50 * 60, 45 / 50)
    assert (rows["bbb2"]["due_seconds"], rows["bbb2"]["coverage"]) == (30 * 60, 1)
    assert await feed.pool.fetch(query, t - HOUR, t) == []
    (one,) = await feed.pool.fetch(query, t + 40 * MINUTE, t + 50 * MINUTE)
    assert one["server"] == "bbb2"


async def test_a_server_that_is_back_at_the_same_tick_is_due(feed: Feed) -> None:
    """Taking a server out and putting it back within one tick leaves it due all along."""
    t = at("2026-03-02 10:00")
    for tick in (t, t + HOUR):
        await feed.due(tick, bbb1=None)
        await feed.due(tick)
        await feed.due(tick, bbb1=None)
    spans = await feed.pool.fetch("SELECT since, until FROM meter.server_due")
    assert [tuple(span) for span in spans] == [(t, None)]


async def test_coverage_of_a_tenant_is_that_of_its_servers(feed: Feed) -> None:
    """Shared servers count for who has no server, and for who has one but was on a shared one."""
    t = at("2026-03-02 10:00")
    await feed.due(t, shared1=None, shared2=None, own="arts", theirs="law")
    failed = {("shared1", ts) for ts in feed.ticks(t, t + 30 * MINUTE)}
    failed |= {("own", ts) for ts in feed.ticks(t, t + 15 * MINUTE)}
    runs = [
        Run("shared2", "law", "r", t, t + MINUTE),
        Run("shared2", "music", "r", t, t + MINUTE),
    ]
    servers = ("shared1", "shared2", "own", "theirs")
    await feed.play(servers, feed.ticks(t, t + HOUR), runs, failed=failed)
    await feed.due(t + HOUR)
    figures = await report(feed, t, t + HOUR)
    assert {tenant: row["coverage"] for tenant, row in figures.items()} == {
        "arts": pytest.approx(0.75),
        "law": pytest.approx((0.5 + 1 + 1) / 3),
        "music": pytest.approx((0.5 + 1) / 2),
    }


async def test_unknown_is_not_zero(feed: Feed) -> None:
    """Figures are NULL where no poll of the tenant's servers succeeded, and 0 where one did."""
    t = at("2026-03-02 10:00")
    await feed.due(t, dead="arts", idle="law")
    failed = {("dead", ts) for ts in feed.ticks(t, t + HOUR)}
    await feed.play(("dead", "idle"), feed.ticks(t, t + HOUR), failed=failed)
    await feed.due(t + HOUR)
    names = {figure.name for figure in FIGURES}
    figures = await report(feed, t, t + HOUR)
    assert {k for k in names if figures["arts"][k] is not None} == {"coverage"}
    assert figures["arts"]["coverage"] == 0
    nothing_to_tell = {
        "avg_session_minutes",
        "max_session_minutes",
        "avg_session_size",
        "peak_participants_at",
        "filled_share",
    }
    assert {k for k in names if figures["law"][k] is None} == nothing_to_tell
    assert figures["law"]["coverage"] == 1
    assert all(figures["law"][k] == 0 for k in names - nothing_to_tell - {"coverage"})
    before = await report(feed, t - HOUR, t)
    assert all(row[k] is None for row in before.values() for k in names)
    days = await usage(feed, t - 24 * HOUR, t + HOUR, "day")
    assert [row["participant_minutes"] for row in days if row["tenant"] == "law"] == [None, 0]


async def test_a_report_can_end_in_the_future(feed: Feed) -> None:
    """What is still to come is neither due nor counted."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    begin = now - 30 * MINUTE
    await feed.due(begin, bbb1=None)
    # A little more than has passed, so that the test may take its time.
    run = Run("bbb1", "arts", "r", begin, begin + 10 * MINUTE, 3)
    await feed.play(["bbb1"], feed.ticks(begin, now + MINUTE), [run])
    for until in (now + 20 * MINUTE, now + timedelta(days=40)):
        for figures in (
            (await report(feed, begin, until))["arts"],
            (await by(feed, begin, until, "tenant"))[0],
        ):
            assert figures["coverage"] == 1
            assert figures["participant_minutes"] == 30
    ahead = await report(feed, now + timedelta(days=1), now + timedelta(days=2))
    assert ahead["arts"]["coverage"] is None
    assert ahead["arts"]["participant_minutes"] is None


@pytest.mark.parametrize("wanted", ["1 minute", "1 hour"])
async def test_charts_have_the_coverage_of_reports(feed: Feed, wanted: str) -> None:
    """Also where polls did not show a session: of a known tenant, and of any one."""
    await feed.due(T, bbb1=None, bbb2="law")
    rules = [{"type": "metadata", "key": "bbblb-tenant"}, {"type": "server"}]
    servers = [make_server("bbb1"), make_server("bbb2", tenant="law")]
    meter = Meter(feed, make_settings(server=servers, attribution={"rules": rules}))
    law = meeting("b", 5, tenant="law")
    unread = answer_xml(meeting("a", 10, participantCount="many"), law)
    nameless = answer_xml(meeting("a", 10), law, "<meeting><createTime>1</createTime></meeting>")
    for ts in feed.ticks(T, T + HOUR + 2 * MINUTE):
        minute = (ts - T) / MINUTE
        answer: bytes | None = answer_xml(meeting("a", 10), law)
        if 5 <= minute < 9:
            answer = unread
        elif 20 <= minute < 26:
            answer = nameless
        elif 40 <= minute < 45:
            answer = None
        await meter.poll(ts, answer)
        await meter.poll(ts, None if minute < 3 else answer_xml(), "bbb2")
    await meter.update()
    of_chart = "SELECT avg(coverage) FROM meter.{} WHERE ts >= $1 AND ts < $2"
    # The mean of quotients is not exactly the quotient of sums.
    near = 0.0005 if wanted == "1 hour" else 0.03
    for tenant in ("acme", "law"):
        reported = await feed.pool.fetchval(
            "SELECT coverage FROM meter.tenant_report($1, $2) WHERE tenant = $3",
            T,
            T + HOUR,
            tenant,
        )
        chart = f"concurrency($1, $2, '{wanted}', ARRAY['{tenant}'])"
        shown = await feed.pool.fetchval(of_chart.format(chart), T, T + HOUR)
        assert shown == pytest.approx(reported, abs=near)
        assert reported < 0.97
    reported = await feed.pool.fetchval(
        "SELECT sum(coverage * due_seconds) / sum(due_seconds) FROM meter.server_coverage($1, $2)",
        T,
        T + HOUR,
    )
    chart = f"fleet_concurrency($1, $2, '{wanted}')"
    shown = await feed.pool.fetchval(of_chart.format(chart), T, T + HOUR)
    assert shown == pytest.approx(reported, abs=near)
