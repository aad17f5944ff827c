"""Clients can make up values of a mark: the tenants that they make are bounded."""

from collector.metering.pipeline import Pipeline
from collector.metering.tenants import KnownTenants
from tests.support.polls import meeting, ok
from tests.support.settings import make_settings

OPEN = [{"type": "metadata", "key": "school"}]


def test_a_bound_is_for_new_names() -> None:
    """Names that exist are admitted always, also more than the bound allows."""
    known = KnownTenants()
    known.add(["a", "b", "c"])
    known.most = 2
    assert known.admit("a")
    assert not known.admit("d")
    assert (known.admit("c"), known.refused_sessions) == (True, 1)
    known.most = 4
    assert known.admit("d")
    assert not known.admit("e")


def test_sessions_beyond_the_bound_belong_to_the_default_tenant() -> None:
    """They count there, visibly; those of known tenants go on as before."""
    pipeline = Pipeline(make_settings(attribution={"rules": OPEN, "max_tenants": 2}))
    rooms = [meeting(f"room{n}", metadata={"school": f"s{n}"}) for n in range(5)]
    for at_s in (0, 30):
        samples = pipeline.process(ok(at_s, *rooms)).samples
        assert [sample.tenant for sample in samples] == ["s0", "s1"] + ["unassigned"] * 3
    assert pipeline.tenants.refused_sessions == 3
    again = meeting("new", metadata={"school": "s1"})
    assert pipeline.process(ok(60, again)).samples[0].tenant == "s1"


def test_a_table_needs_no_bound() -> None:
    """What the operator wrote down is not refused, nor are the tenants of the settings."""
    rules = [{"type": "metadata", "key": "school", "tenants": {"x": "one", "y": "two"}}, *OPEN]
    settings = make_settings(
        tenant=[{"name": "mine"}], attribution={"rules": rules[:1], "max_tenants": 1}
    )
    pipeline = Pipeline(settings)
    rooms = [meeting(mark, metadata={"school": mark}) for mark in ("x", "y")]
    assert [s.tenant for s in pipeline.process(ok(0, *rooms)).samples] == ["one", "two"]
    settings = make_settings(
        tenant=[{"name": "mine"}], attribution={"rules": OPEN, "max_tenants": 1}
    )
    room = meeting(metadata={"school": "mine"})
    assert Pipeline(settings).process(ok(0, room)).samples[0].tenant == "mine"
