"""The marks by which a meeting's tenant can be found."""

from datetime import timedelta

from collector.metering.attribution import Attribution
from collector.model import Place
from collector.settings import AttributionSettings, ServerSettings
from collector.simulator import Fleet, SimTenant
from collector.simulator.marks import attribution_rules
from collector.simulator.plan import MARKS
from collector.sources.polling.parser import parse_meetings
from tests.support.fleets import MILLISECOND, START, TENANTS, plan


class TestMarks:
    """Tenants can be told from the answers."""

    def test_the_collector_finds_tenant_and_room(self) -> None:
        """The collector's parser and rules give every meeting the truth's tenant and room."""
        tenants = (*TENANTS, SimTenant("north-2", "prefix"))
        assert {tenant.mark for tenant in tenants} == set(MARKS)
        fleet = Fleet(plan(tenants=tenants, concurrent_sessions=60))
        at = START + timedelta(hours=1)
        true = {s.internal_id: s for s in fleet.truth(at, at + MILLISECOND).sessions}
        rules = AttributionSettings.model_validate({"rules": attribution_rules(tenants)})
        attribution = Attribution(rules)
        found: dict[str, Place] = {}
        for name in fleet.plan.server_names:
            server = ServerSettings.model_validate(
                {"name": name, "url": "http://127.0.0.1/", "secret": "s"}
            )
            answer = parse_meetings(fleet.answer(name, at), metadata_keys=attribution.metadata_keys)
            assert not answer.skipped
            for meeting in answer.meetings:
                found[meeting.internal_id] = attribution.place(
                    meeting, server, found.get(meeting.parent_internal_id or "")
                )
                ours = true[meeting.internal_id]
                if ours.tenant == "acme" and not meeting.breakout:
                    assert meeting.external_id == f"{ours.room}-bbblb-acme"
        assert found == {key: Place(s.tenant, s.room) for key, s in true.items()}
        assert {place.tenant for place in found.values()} == {t.name for t in tenants}
