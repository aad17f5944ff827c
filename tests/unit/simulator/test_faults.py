"""Faults that change what an answer lists, as the collector's own parser reads it."""

from datetime import UTC, datetime, timedelta

import pytest

from collector.errors import ImplausibleError
from collector.model import Answer
from collector.simulator.faults import FaultKind, distort
from collector.simulator.fleet import Fleet
from collector.simulator.plan import FleetPlan, sim_tenants
from collector.simulator.render import NO_MEETINGS, joined
from collector.sources.polling.parser import parse_meetings

START = datetime(2026, 2, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
PLAN = FleetPlan(
    seed=3,
    start=START,
    end=START + 4 * HOUR,
    tenants=sim_tenants(3),
    servers=2,
    concurrent_sessions=40,
    breakout_share=0.6,
    unjoined_share=0.3,
    unjoined_linger_s=3000,
)


@pytest.fixture(scope="module")
def body() -> bytes:
    """An answer with breakouts, and with a room that nobody has joined."""
    return Fleet(PLAN).answer("sim01", START + HOUR)


@pytest.fixture
def true(body: bytes) -> Answer:
    """What it says without a fault."""
    answer = parse_meetings(body)
    assert not answer.partial
    assert any(meeting.breakout for meeting in answer.meetings)
    assert {meeting.joined for meeting in answer.meetings} == {True, False}
    return answer


def seen(body: bytes, *kinds: FaultKind) -> Answer:
    """Return what the parser reads of the answer with these faults."""
    return parse_meetings(distort(body, kinds))


def test_twice(body: bytes, true: Answer) -> None:
    """The oldest meeting is doubtful, with the larger number."""
    answer = seen(body, "twice")
    oldest = true.meetings[0]
    assert answer.doubtful == {oldest.internal_id}
    assert len(answer.meetings) == len(true.meetings)
    found = next(m for m in answer.meetings if m.internal_id == oldest.internal_id)
    assert found.participants == oldest.participants + 1


def test_hidden(body: bytes, true: Answer) -> None:
    """The others are as ever."""
    assert seen(body, "hidden").meetings == true.meetings[1:]
    assert seen(NO_MEETINGS, "hidden", "twice", "unread", "huge") == parse_meetings(NO_MEETINGS)


def test_unread(body: bytes, true: Answer) -> None:
    """It is known which one could not be read."""
    answer = seen(body, "unread")
    assert (answer.skipped, [*answer.unread]) == (1, [true.meetings[0].internal_id])
    assert answer.meetings == true.meetings[1:]


def test_repeated(body: bytes, true: Answer) -> None:
    """The same meeting again says nothing new."""
    answer = seen(body, "repeated")
    assert not answer.partial
    assert sorted(answer.meetings) == sorted(true.meetings)


def test_several(body: bytes, true: Answer) -> None:
    """Each fault of one meeting has its own: the first is hidden, the second cannot be read."""
    answer = seen(body, "repeated", "twice", "unread", "hidden")
    first, second, third, fourth, *others = true.meetings
    assert [*answer.unread] == [second.internal_id]
    assert answer.doubtful == {third.internal_id}
    more = third._replace(participants=third.participants + 1)
    assert sorted(answer.meetings) == sorted([more, fourth, *others])
    assert first not in answer.meetings


def test_deserted(body: bytes, true: Answer) -> None:
    """Only parents of breakouts count less."""
    parents = {meeting.parent_internal_id for meeting in true.meetings}
    for before, after in zip(true.meetings, seen(body, "deserted").meetings, strict=True):
        assert after == before._replace(
            participants=1 if before.internal_id in parents else before.participants
        )


def test_orphans(body: bytes, true: Answer) -> None:
    """Their parents are nowhere."""
    answer = seen(body, "orphans")
    known = {meeting.internal_id for meeting in answer.meetings}
    breakouts = [meeting for meeting in answer.meetings if meeting.breakout]
    assert len(breakouts) == sum(meeting.breakout for meeting in true.meetings)
    assert all(meeting.parent_internal_id not in known for meeting in breakouts)


def test_unjoined(body: bytes, true: Answer) -> None:
    """Of a meeting without participants, nobody says whether somebody has joined."""
    answer = seen(body, "unjoined")
    for before, after in zip(true.meetings, answer.meetings, strict=True):
        assert after == before._replace(joined=True if before.participants else None)


def test_huge(body: bytes) -> None:
    """The answer is not believed."""
    with pytest.raises(ImplausibleError):
        seen(body, "huge")


def test_joined_answers(body: bytes, true: Answer) -> None:
    """A load balancer's answer has the meetings of all its servers."""
    other = Fleet(PLAN).answer("sim02", START + HOUR)
    both = parse_meetings(joined([body, NO_MEETINGS, other]))
    assert both.meetings == true.meetings + parse_meetings(other).meetings
    assert joined([NO_MEETINGS, NO_MEETINGS]) == NO_MEETINGS
    assert joined([body]) == body
