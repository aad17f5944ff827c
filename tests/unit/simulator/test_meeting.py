"""What happens in a meeting, as its server lists it."""

from datetime import timedelta

from collector.simulator import Fleet
from collector.simulator.render import MeetingView
from tests.support.fleets import START, meetings_at, moments, plan, speakers, text


class TestSessions:
    """Breakouts, empty meetings, and who is in a meeting when."""

    def test_breakouts(self) -> None:
        """A breakout runs beside its parent, with its metadata, and its people are in both."""
        fleet = Fleet(plan())
        seen = 0
        for at in moments(7, 30, timedelta(hours=3)):
            listed = meetings_at(fleet, at)
            mains = {(s, text(m, "internalMeetingID")): m for s, m in listed}
            for server, meeting in listed:
                if text(meeting, "isBreakout") == "false":
                    continue
                parent = mains[server, text(meeting, "parentMeetingID")]
                assert text(parent, "isBreakout") == "false"
                metadata = [(e.tag, e.text) for e in meeting.iterfind("metadata/*")]
                assert metadata == [(e.tag, e.text) for e in parent.iterfind("metadata/*")]
                ids = [e.text for e in parent.iterfind("breakoutRooms/breakout")]
                assert text(meeting, "meetingID") in ids
                assert len(text(meeting, "meetingID").split("-")[0]) == 40
                inside = {u.text.rpartition("-")[0] for u in meeting.iter("userID") if u.text}
                assert inside <= {u.text for u in parent.iter("userID")}
                moved = {user.rpartition("-")[0] for user in speakers(meeting)}
                assert not moved & speakers(parent)
                seen += len(moved)
        assert seen > 50

    def test_a_parent_lists_its_breakouts_while_they_run(self) -> None:
        """`breakoutRooms` appears with the first breakout and goes with the last."""
        meetings = list(Fleet(plan()).meetings(START, START + timedelta(hours=6)))
        parents = [meeting for meeting in meetings if meeting.breakouts]
        for parent in parents:
            view = MeetingView(parent)
            first_ms = min(breakout.start_ms for breakout in parent.breakouts)
            last_ms = max(breakout.end_ms for breakout in parent.breakouts)
            assert b"<breakoutRooms>" not in view.at(first_ms - 1)
            assert view.at(first_ms).count(b"<breakout>") == 1
            assert view.at(last_ms - 1).count(b"<breakout>") == len(parent.breakouts)
            assert b"<breakoutRooms>" not in view.at(last_ms)
        assert parents

    def test_empty_sessions_linger(self) -> None:
        """A meeting stays listed 5 minutes if nobody joins, 1 minute after the last one left."""
        unjoined, ended, lingering = 0, 0, 0
        for meeting in Fleet(plan()).meetings(START, START + timedelta(days=1)):
            last_left_ms = max((stay.left_ms for stay in meeting.stays), default=None)
            if meeting.sequence:
                continue
            if last_left_ms is None:
                assert meeting.end_ms - meeting.start_ms == 300_000
                unjoined += 1
            elif last_left_ms == meeting.end_ms:
                ended += 1
            else:
                assert meeting.end_ms - last_left_ms == 60_000
                lingering += 1
                view = MeetingView(meeting)
                xml = view.at(meeting.end_ms - 1)
                assert b"<participantCount>0<" in xml
                assert not view.at(meeting.end_ms)
        assert min(unjoined, ended, lingering) > 10

    def test_stays_are_consistent(self) -> None:
        """Nobody is in a meeting before or after it, nor speaks while not listed."""
        for meeting in Fleet(plan()).meetings(START, START + timedelta(hours=6)):
            joins = [stay.join_ms for stay in meeting.stays]
            assert joins == sorted(joins)
            for stay in meeting.stays:
                assert meeting.start_ms < stay.join_ms < stay.left_ms <= stay.gone_ms
                assert stay.gone_ms <= meeting.end_ms
                for start_ms, end_ms in (*stay.voice, *stay.listening, *stay.video):
                    assert stay.join_ms <= start_ms <= end_ms <= stay.gone_ms
