"""The parser: what it says of meetings that are unreadable, contradictory or implausible."""

import itertools
from typing import Any

import pytest

from collector.errors import ImplausibleError
from collector.model import MAX_COUNT, Answer
from collector.sources.polling import bounds
from collector.sources.polling.parser import parse_meetings
from tests.support.meetings import CREATED_MS, ID, answer_xml, identity, meeting_xml, only

ONE, TWO = identity(1), identity(2)
UNREADABLE: dict[str, Any] = {"participantCount": "many"}


def ids(answer: Answer) -> tuple[list[str], int, set[str], set[str]]:
    """Return what an answer says, by internal ids."""
    found = [meeting.internal_id for meeting in answer.meetings]
    return found, answer.skipped, set(answer.unread), set(answer.doubtful)


# -- joined ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "joined"), [("true", True), ("false", False), ("", None), ("maybe", None)]
)
def test_whether_anybody_ever_joined(text: str, joined: bool | None) -> None:  # noqa: FBT001
    """It is what the server says, and unknown where the server says something else."""
    body = answer_xml(meeting_xml(participantCount=0, hasUserJoined=text))
    assert only(parse_meetings(body)).joined is joined


def test_joined_is_unknown_without_the_element() -> None:
    """Balancers leave the element out, and unknown is not no."""
    body = answer_xml(meeting_xml(participantCount=0, drop="hasUserJoined"))
    assert only(parse_meetings(body)).joined is None


@pytest.mark.parametrize("text", ["false", "", "maybe"])
def test_who_is_in_has_joined(text: str) -> None:
    """A meeting with participants was joined, whatever the element says."""
    assert only(parse_meetings(answer_xml(meeting_xml(hasUserJoined=text)))).joined is True
    assert only(parse_meetings(answer_xml(meeting_xml(drop="hasUserJoined")))).joined is True


# -- unreadable meetings -----------------------------------------------------------------------


def test_ids_of_unreadable_meetings() -> None:
    """Whatever makes a meeting unreadable, its id is reported if it can be read."""
    body = answer_xml(
        meeting_xml(internalMeetingID=ONE, **UNREADABLE),
        meeting_xml(internalMeetingID=TWO, add="<participantCount>9</participantCount>"),
        meeting_xml(internalMeetingID="", **UNREADABLE),
        meeting_xml(add=f"<internalMeetingID>{ONE}</internalMeetingID>"),
        meeting_xml(internalMeetingID=identity(3)),
    )
    assert ids(parse_meetings(body)) == ([identity(3)], 4, {ONE, TWO}, set())


def test_ids_of_malformed_meetings() -> None:
    """The id of a malformed meeting is reported if the meeting has exactly one."""
    malformed = meeting_xml(internalMeetingID=ONE, meetingName="NAME")
    other = f"<internalMeetingID>{TWO}</internalMeetingID>"
    for name, unread in {
        "<&": {ONE},
        "&b;": {ONE},
        f"{other}<&": set(),
        "<internalMeetingID><&": set(),
    }.items():
        body = answer_xml(malformed.replace("NAME", name), meeting_xml())
        assert ids(parse_meetings(body)) == ([ID], 1, unread, set()), name
    body = answer_xml(malformed.replace("NAME", "<&").replace(ONE, "a&amp;b"), meeting_xml())
    assert ids(parse_meetings(body)) == ([ID], 1, {"a&b"}, set())
    body = answer_xml(malformed.replace("NAME", "<&").replace(ONE, "a&b;"), meeting_xml())
    assert ids(parse_meetings(body)) == ([ID], 1, set(), set())


def test_an_unreadable_meeting_twice_is_one() -> None:
    """Meetings are counted by their ids, if they have one."""
    unreadable = meeting_xml(internalMeetingID=ONE, **UNREADABLE)
    without_id = meeting_xml(internalMeetingID="")
    body = answer_xml(unreadable, unreadable, without_id, without_id)
    assert ids(parse_meetings(body)) == ([], 3, {ONE}, set())


# -- the same meeting twice --------------------------------------------------------------------


def test_equal_copies_are_one_meeting() -> None:
    """A meeting that is twice in the answer with the same content is not doubtful."""
    assert ids(parse_meetings(answer_xml(meeting_xml(), meeting_xml()))) == ([ID], 0, set(), set())


@pytest.mark.parametrize("counts", [[4, 5], [5, 4], [4, 5, 3], [5, 4, 4], [4, 5, 5], [0, 5]])
def test_the_copy_with_the_most_participants_is_taken(counts: list[int]) -> None:
    """A meeting that is in the answer with different counts is taken once, and is doubtful."""
    copies = [
        meeting_xml(participantCount=count, meetingID=f"room{number}")
        for number, count in enumerate(counts)
    ]
    answer = parse_meetings(answer_xml(*copies, meeting_xml(internalMeetingID=ONE)))
    assert ids(answer) == ([ID, ONE], 0, set(), {ID})
    assert answer.meetings[0].participants == 5
    assert answer.meetings[0].external_id == f"room{counts.index(5)}"  # the first of equals
    assert answer.partial


def test_one_internal_id_with_several_creations_is_several_meetings() -> None:
    """Clients choose the internal ids of breakouts: the oldest meeting that is none keeps its own.

    They keep their ids in any order of the answer.
    """
    meeting, younger = (
        meeting_xml(createTime=CREATED_MS + 500),
        meeting_xml(createTime=CREATED_MS + 900),
    )
    stolen = [
        meeting_xml(createTime=CREATED_MS + n, participantCount=n, isBreakout="true")
        for n in (1, 2)
    ]
    again = meeting_xml(createTime=CREATED_MS + 2, participantCount=9, isBreakout="true")
    for order in itertools.permutations([meeting, younger, *stolen]):
        answer = parse_meetings(answer_xml(*order, again))
        found = {
            m.internal_id: (m.created_ms - CREATED_MS, m.participants) for m in answer.meetings
        }
        count = found[ID][1]
        assert found == {
            ID: (500, count),
            f"{ID}#{CREATED_MS + 900}": (900, count),
            f"{ID}#{CREATED_MS + 1}": (1, 1),
            f"{ID}#{CREATED_MS + 2}": (2, 9),
        }
        assert (answer.skipped, set(answer.doubtful)) == (0, {f"{ID}#{CREATED_MS + 2}"})


def test_a_copy_that_cannot_be_read_makes_doubtful() -> None:
    """A meeting that is in the answer both readable and unreadable is read."""
    for copies in (
        [meeting_xml(), meeting_xml(**UNREADABLE)],
        [meeting_xml(**UNREADABLE), meeting_xml()],
    ):
        assert ids(parse_meetings(answer_xml(*copies))) == ([ID], 0, set(), {ID})


def test_a_copy_that_has_ended_makes_doubtful() -> None:
    """A meeting that is in the answer both running and ended is taken as running."""
    ended = meeting_xml(hasBeenForciblyEnded="true")
    for copies in ([meeting_xml(), ended], [ended, meeting_xml()]):
        assert ids(parse_meetings(answer_xml(*copies))) == ([ID], 0, set(), {ID})
    assert ids(parse_meetings(answer_xml(ended, ended))) == ([], 0, set(), set())


def test_a_certain_answer_is_not_partial() -> None:
    """An answer is partial only with something skipped or doubtful."""
    assert not parse_meetings(answer_xml(meeting_xml())).partial
    assert parse_meetings(answer_xml(meeting_xml(**UNREADABLE))).partial


# -- totals ------------------------------------------------------------------------------------

ELEMENTS = {
    "participants": "participantCount",
    "voice": "voiceParticipantCount",
    "video": "videoCount",
    "listeners": "listenerCount",
    "moderators": "moderatorCount",
}
FULL, LAST = divmod(bounds.MAX_TOTAL, MAX_COUNT)


def meetings_with(element: str, counts: list[int]) -> bytes:
    """Render a meeting for each of `counts`."""
    changes: list[dict[str, Any]] = [{element: count} for count in counts]
    return answer_xml(
        *(
            meeting_xml(internalMeetingID=identity(number), **change)
            for number, change in enumerate(changes)
        )
    )


@pytest.mark.parametrize("name", ELEMENTS)
def test_each_total_is_bounded(name: str) -> None:
    """A million is possible, and one more is not a server's answer."""
    counts = [MAX_COUNT] * FULL
    answer = parse_meetings(meetings_with(ELEMENTS[name], [*counts, LAST]))
    assert sum(getattr(meeting, name) for meeting in answer.meetings) == bounds.MAX_TOTAL
    with pytest.raises(ImplausibleError, match=f"{name} of all meetings together are more than"):
        parse_meetings(meetings_with(ELEMENTS[name], [*counts, LAST + 1]))


def test_dial_ins_are_bounded() -> None:
    """A server can write any number of attendees without listing them."""
    body = meetings_with("videoCount", [0] * (FULL + 1)).replace(
        b"<attendees>\n", b"<attendees>%d" % MAX_COUNT
    )
    with pytest.raises(ImplausibleError, match="dialins"):
        parse_meetings(body)


def test_unknown_counts_add_nothing() -> None:
    """A server without moderators has no total of them."""
    body = answer_xml(
        *(meeting_xml(internalMeetingID=identity(n), drop="moderatorCount") for n in range(40))
    )
    assert len(parse_meetings(body).meetings) == 40


@pytest.mark.parametrize("readable", [True, False])
def test_the_number_of_meetings_is_bounded(
    monkeypatch: pytest.MonkeyPatch, *, readable: bool
) -> None:
    """Unreadable meetings count too."""
    monkeypatch.setattr(bounds, "MAX_MEETINGS", 3)
    count = 1 if readable else -1
    assert parse_meetings(meetings_with("participantCount", [count] * 3)).partial is not readable
    with pytest.raises(ImplausibleError, match="more than 3 meetings"):
        parse_meetings(meetings_with("participantCount", [count] * 4))
