"""A fleet's plan: the rhythm of its days, the demo's plan, and plans that make no sense."""

from datetime import timedelta

import pytest

from collector.simulator import Fleet, FleetPlan, Rhythm, SimTenant
from collector.simulator.plan import epoch_ms
from tests.support.fleets import START, TENANTS, plan


class TestSessions:
    """What a plan asks for is what its fleet does."""

    def test_rhythm(self) -> None:
        """Days are busier than nights in the time zone, and weekends are quiet."""
        rhythm = Rhythm(amplitude=0.9, time_zone="Europe/Berlin", weekend=0.2)
        hours = [START + timedelta(hours=hour) for hour in range(168)]
        factors = [rhythm.at(epoch_ms(hour)) for hour in hours]
        assert sum(factors) / 168 == pytest.approx(1, rel=0.01)
        assert max(factors) <= rhythm.highest
        assert hours[factors.index(max(factors))].hour == 12  # 13 h in Berlin's winter
        fleet = Fleet(plan(end=START + timedelta(days=7), rhythm=rhythm))
        monday = fleet.truth(START, START + timedelta(hours=8))
        sunday = fleet.truth(START + timedelta(days=6), START + timedelta(days=6, hours=8))
        assert len(monday.sessions) > 2 * len(sunday.sessions)

    def test_lively_within_80_seconds(self) -> None:
        """The demo's plan shows every kind of event within 80 seconds."""
        until = START + timedelta(seconds=80)
        lively = FleetPlan.lively(seed=1, start=START, end=until, tenants=TENANTS)
        fleet = Fleet(lively)
        whole = [m for m in fleet.meetings(START, until) if m.start_ms >= epoch_ms(START)]
        over = [meeting for meeting in whole if meeting.end_ms < epoch_ms(until)]
        assert len(over) > 5
        assert any(meeting.sequence for meeting in whole)
        truth = fleet.truth(START, until)
        assert all(tenant.participant_seconds > 0 for tenant in truth.tenants.values())
        assert sum(tenant.dialin_seconds for tenant in truth.tenants.values()) > 0
        mean = sum(t.session_seconds for t in truth.tenants.values()) / 80
        assert mean == pytest.approx(lively.concurrent_sessions, rel=0.4)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"start": START.replace(tzinfo=None)}, "start must have a time zone"),
        ({"end": START}, "end must be after start"),
        ({"servers": 0}, "servers must be at least 1"),
        ({"tenants": ()}, "tenants must have at least one entry"),
        ({"tenants": TENANTS * 2}, "differ in name"),
        ({"tenants": (SimTenant("a", "moodle", 0),)}, "share above 0"),
        ({"concurrent_sessions": 0}, "concurrent_sessions"),
        ({"mean_size": 0.5}, "mean_size"),
        ({"min_length_s": 100}, "empty_linger_s"),
    ],
)
def test_senseless_plans(changes: dict[str, object], problem: str) -> None:
    """A plan that makes no sense is refused with the field's name."""
    with pytest.raises(ValueError, match=problem):
        plan(seed=1, **changes)
