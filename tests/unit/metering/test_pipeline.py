"""From poll results to batches: polls, samples, announced sessions, filled gaps."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from collector.metering.pipeline import Pipeline
from collector.model import LastPoll, session_id
from collector.settings import ServerSettings, Settings
from collector.simulator.plan import epoch_ms
from tests.support.polls import START, failed, meeting, ok
from tests.support.settings import make_server, make_settings

SERVER = ServerSettings(name="bbb1", url="https://bbb1.example.org/", secret=SecretStr("invented"))


@pytest.fixture
def pipeline() -> Pipeline:
    """A pipeline with one server, bbb1, and 30 s ticks."""
    return Pipeline(make_settings())


def test_a_failed_poll_is_a_row_without_figures(pipeline: Pipeline) -> None:
    """Failed is not zero: the totals are unknown, and there are no samples."""
    batch = pipeline.process(failed(0))
    (poll,) = batch.polls
    assert (poll.ok, poll.outcome, poll.seconds) == (False, "timeout", 30)
    assert poll.sessions is poll.participants is poll.voice is poll.breakouts is None
    assert not batch.samples
    assert not batch.sessions


def test_totals_of_a_poll_leave_breakouts_apart(pipeline: Pipeline) -> None:
    """Who is in a breakout is in the parent too, and must not count twice."""
    breakout = meeting("b", 2, breakout=True, parent_internal_id="room-internal")
    (poll,) = pipeline.process(ok(0, meeting(), breakout)).polls
    assert (poll.sessions, poll.breakouts, poll.participants) == (1, 1, 3)


def test_an_empty_server_is_zero(pipeline: Pipeline) -> None:
    """A server that answers with no meetings has zero of them: that is known."""
    (poll,) = pipeline.process(ok(0)).polls
    assert (poll.ok, poll.sessions, poll.participants) == (True, 0, 0)


def test_a_session_is_announced_once(pipeline: Pipeline) -> None:
    """A session comes with the poll in which it appears, and again when it comes back."""
    assert [len(pipeline.process(ok(t, meeting())).sessions) for t in (0, 30, 60)] == [1, 0, 0]
    assert not pipeline.process(ok(90)).sessions
    assert len(pipeline.process(ok(120, meeting())).sessions) == 1


def test_sessions_are_announced_again_after_a_poll_that_was_not_stored(pipeline: Pipeline) -> None:
    """What was announced with a poll that another collector's fenced off is announced again."""
    pipeline.process(ok(0, meeting()))
    pipeline.forget_sessions("bbb1")
    assert len(pipeline.process(ok(30, meeting())).sessions) == 1


def test_what_a_session_says(pipeline: Pipeline) -> None:
    """Start is BBB's createTime; names stay out."""
    (session,) = pipeline.process(ok(0, meeting())).sessions
    assert session.started_at == START - timedelta(minutes=5)
    assert session.session_id == session_id(
        "bbb1", "unassigned", "room-internal", epoch_ms(session.started_at)
    )
    assert (session.room, session.room_name, session.recording) == ("room", None, True)


def test_room_names_only_if_asked_for() -> None:
    """With store_room_names a room has its name, but a breakout's name is not its parent's."""
    pipeline = Pipeline(make_settings(store_room_names=True))
    breakout = meeting("b", breakout=True, parent_internal_id="room-internal", name="Group 1")
    sessions = pipeline.process(ok(0, breakout, meeting())).sessions
    assert {s.breakout: s.room_name for s in sessions} == {False: "Analysis I", True: None}
    assert {s.room for s in sessions} == {"room"}


def test_gaps_are_filled_from_the_last_successful_poll(pipeline: Pipeline) -> None:
    """Failed polls and missing ticks alike are filled when the server answers again."""
    pipeline.process(ok(0, meeting(participants=2)))
    pipeline.process(failed(30))
    batch = pipeline.process(ok(120, meeting(participants=10)))
    assert [(s.filled, s.participants) for s in batch.samples] == [
        (False, 10),
        (True, 4),
        (True, 6),
        (True, 8),
    ]


def test_a_result_out_of_order_does_not_bend_the_memory(pipeline: Pipeline) -> None:
    """An old tick's result after a newer one fills nothing and is not taken for the last."""
    pipeline.process(ok(60, meeting()))
    assert len(pipeline.process(ok(0, meeting())).samples) == 1
    assert len(pipeline.process(ok(90, meeting())).samples) == 1


def test_restored_polls_are_gone_on_from(pipeline: Pipeline) -> None:
    """After a restart the hole is filled, and known sessions are not announced again."""
    before = pipeline.process(ok(0, meeting(participants=2)))
    pipeline.forget("bbb1")
    pipeline.restore("bbb1", LastPoll(START, 30, before.samples))
    batch = pipeline.process(ok(60, meeting(participants=4)))
    assert [s.participants for s in batch.samples] == [4, 3]
    assert not batch.sessions


def test_a_sessions_tenant_is_fixed_at_first_sight() -> None:
    """A change of rules, or of marks, counts for the next session: bills are not split."""
    pipeline = Pipeline(make_settings())
    assert pipeline.process(ok(0, meeting())).samples[0].tenant == "unassigned"
    rules = [{"type": "prefix", "prefix": "room", "tenant": "acme"}]
    pipeline.configure(make_settings(attribution={"rules": rules}))
    assert pipeline.process(ok(30, meeting())).samples[0].tenant == "unassigned"
    assert pipeline.process(ok(60, meeting("room2"))).samples[0].tenant == "acme"


def test_orphaned_breakout_keeps_its_place() -> None:
    """A breakout that outlives its parent stays with the parent's tenant and room."""
    rules = [{"type": "prefix", "prefix": "room", "tenant": "acme"}, {"type": "parent"}]
    pipeline = Pipeline(make_settings(attribution={"rules": rules}))
    breakout = meeting("b", breakout=True, parent_internal_id="room-internal")
    for batch in (pipeline.process(ok(0, meeting(), breakout)), pipeline.process(ok(30, breakout))):
        assert {s.tenant for s in batch.samples} == {"acme"}


@pytest.mark.parametrize(("name", "enabled"), [("bbb2", True), ("bbb1", False)])
def test_a_server_that_left_the_settings_is_forgotten(
    name: str,
    enabled: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """When a server comes back or is enabled again, nothing is filled, and sessions are new."""
    pipeline = Pipeline(make_settings())
    pipeline.process(ok(0, meeting()))
    pipeline.configure(make_settings(server=[make_server(name, enabled=enabled)]))
    pipeline.configure(make_settings())
    batch = pipeline.process(ok(60, meeting()))
    assert (len(batch.samples), len(batch.sessions)) == (1, 1)


def test_a_partial_poll_says_so(pipeline: Pipeline) -> None:
    """Meetings that could not be read are counted in the poll."""
    (poll,) = pipeline.process(ok(0, meeting(), skipped=2, outcome="partial")).polls
    assert (poll.ok, poll.outcome, poll.skipped, poll.sessions) == (True, "partial", 2, 1)


@pytest.mark.parametrize(
    ("created_s", "skew_s", "started_s"),
    [
        (-300, None, -300),
        (-300, 0.4, -300),
        (-300, 9.9, -300),  # within what a Date header and the network leave open
        (-300, 3600.3, -3900),
        (3300, 3600.3, -300),
        (-7500, -7200.4, -300),
        (20, None, 20),  # after the tick, before the server was asked
        (31, None, 0),  # ahead of us, and the server does not say how far
        (3300, 5.0, 0),  # set right meanwhile
        (-400 * 86_400, 0.0, 0),  # booted with a clock that was not set
        (-300 * 86_400, 0.0, -300 * 86_400),
    ],
)
def test_a_session_starts_by_our_clock(
    pipeline: Pipeline, created_s: int, skew_s: float | None, started_s: int
) -> None:
    """A server's clock that is off moves no session; a start that cannot be is the tick."""
    created_at = START + timedelta(seconds=created_s)
    result = ok(0, meeting(created_ms=epoch_ms(created_at)), clock_skew_s=skew_s)
    (session,) = pipeline.process(result).sessions
    assert session.started_at == START + timedelta(seconds=started_s)


@given(
    created_at=st.datetimes(datetime(2010, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis wants it
    skew_s=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    tick=st.integers(1_262_304_000 // 30, 4_102_444_800 // 30),
)
def test_no_session_starts_when_none_can(
    created_at: datetime, skew_s: float | None, tick: int
) -> None:
    """Whatever the clocks say: not after the tick's end, nor more than a year before the tick."""
    ts = datetime.fromtimestamp(30 * tick, UTC)
    pipeline = Pipeline(Settings(server=(SERVER,)))
    result = replace(ok(0, meeting(created_ms=epoch_ms(created_at))), ts=ts, clock_skew_s=skew_s)
    (session,) = pipeline.process(result).sessions
    assert ts - timedelta(days=366) <= session.started_at <= ts + timedelta(seconds=30)
    assert session.started_at.tzinfo is UTC


@given(
    age_s=st.floats(0, 300 * 86_400),
    skew_s=st.integers(-50_000_000, 50_000_000),
    error_s=st.floats(-2, 2),
)
def test_a_wrong_clock_moves_no_start(age_s: float, skew_s: int, error_s: float) -> None:
    """However far off a clock is, a start is as good as the Date header that corrects it."""
    created_at = START - timedelta(seconds=age_s - skew_s)
    pipeline = Pipeline(Settings(server=(SERVER,)))
    result = ok(0, meeting(created_ms=epoch_ms(created_at)), clock_skew_s=skew_s + error_s)
    (session,) = pipeline.process(result).sessions
    off_s = (session.started_at - START).total_seconds() + age_s
    assert abs(off_s) <= (2.51 if abs(skew_s) > 12 else 12)
