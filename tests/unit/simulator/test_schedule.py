"""Which sessions there are: in which room, how long, how large, on which server."""

from collections import Counter, defaultdict
from datetime import timedelta
from itertools import pairwise

import pytest

from collector.simulator import Fleet
from tests.support.fleets import START, TENANTS, plan


class TestSessions:
    """Sessions of a day, as the truth has them."""

    def test_a_room_has_one_session_at_a_time(self) -> None:
        """On the whole fleet a room's sessions follow each other, and rooms are used again."""
        by_room = defaultdict(list)
        for session in Fleet(plan()).truth(START, START + timedelta(days=1)).sessions:
            if not session.breakout:
                by_room[session.tenant, session.room].append(session)
        for sessions in by_room.values():
            sessions.sort(key=lambda session: session.start)
            assert all(one.end <= two.start for one, two in pairwise(sessions))
        assert max(map(len, by_room.values())) > 3

    def test_sizes_and_lengths(self) -> None:
        """Concurrency is as planned; lengths and sizes have their short, long and large ones."""
        fleet = Fleet(plan(concurrent_sessions=60, mean_length_s=1800, max_length_s=28_800))
        truth = fleet.truth(START, START + timedelta(days=1))
        mean = sum(t.session_seconds for t in truth.tenants.values()) / 86_400
        assert mean == pytest.approx(60, rel=0.15)
        mains = [session for session in truth.sessions if not session.breakout]
        minutes = [(session.end - session.start).total_seconds() / 60 for session in mains]
        assert sum(m < 0.5 for m in minutes) > 10
        assert sum(m > 120 for m in minutes) > 10
        assert sum(session.max_participants > 100 for session in mains) > 10

    def test_placement_spreads_the_load(self) -> None:
        """Servers get about as many participants each, and tenants about their shares."""
        truth = Fleet(plan(large_share=0, huge_share=0)).truth(START, START + timedelta(days=1))
        load: Counter[str] = Counter()
        for session in truth.sessions:
            load[session.server] += int(session.participant_seconds)
        assert max(load.values()) < 1.3 * min(load.values())
        sessions = [truth.tenants[tenant.name].sessions for tenant in TENANTS]
        assert sessions[0] > 1.5 * sessions[1] > sessions[5] > 0
