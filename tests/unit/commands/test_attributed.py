"""What `bbbmeter check` says of tenants."""

import tomllib

from collector.commands.attributed import Attributed
from collector.model import Meeting
from tests.support.polls import meeting
from tests.support.settings import make_server, make_settings

SERVER = make_server("bbb1")


def marked(name: str, **metadata: str) -> Meeting:
    """Return a meeting with these metadata; `_` stands for `-`."""
    marks = {key.replace("_", "-"): value for key, value in metadata.items()}
    return meeting(name)._replace(metadata=marks)


def test_without_sessions_nothing_is_said() -> None:
    """Then nothing is known."""
    attributed = Attributed(make_settings(server=[SERVER]))
    assert [*attributed.add(SERVER, [])] == []
    assert [*attributed.lines()] == []


def test_marks_that_give_no_tenant() -> None:
    """Each with the rule to paste; a rule says how many sessions it matches."""
    rules = [{"type": "metadata", "key": "b3s-frontend"}, {"type": "parent"}]
    attributed = Attributed(make_settings(server=[SERVER], attribution={"rules": rules}))
    meetings = [
        marked("a", b3s_frontend="music"),
        *(marked(f"b{n}", bbblb_tenant=f"t{n}") for n in range(5)),
        marked("c", tenant_id="a-number", bbb_origin_server_name="moodle.example"),
        marked("d", bbb_origin_server_name="https://Moodle.example/"),
        marked("e")._replace(external_id="room-bbblb-arts"),
        marked("f"),
        marked("g")._replace(breakout=True),
    ]
    without, marks = attributed.add(SERVER, meetings)
    assert without == "9 without a tenant"
    assert marks == (
        "marks that give none: bbb-origin-server-name (moodle.example), "
        "bbblb-tenant (t0, t1, t2 and 2 more), meetingID …-bbblb- (arts), tenant-id (a-number)"
    )
    matched, unmatched, origin, bbblb, suffix, scalelite = attributed.lines()
    assert matched == "rule 1 (metadata b3s-frontend): 1 session"
    assert unmatched == "no rule: 9 sessions, which count as unassigned"
    to_read, add = "to read {}, add to attribution.rules: ", "NAME OF THE TENANT"
    assert origin == (
        to_read.format("bbb-origin-server-name (clients can set it freely)")
        + f'{{ type = "origin", hosts = {{ "moodle.example" = "{add}" }} }}'
    )
    assert bbblb == (to_read.format("bbblb-tenant") + '{ type = "metadata", key = "bbblb-tenant" }')
    assert suffix == to_read.format("meetingID …-bbblb-") + '{ type = "suffix" }'
    assert scalelite == (
        to_read.format("tenant-id")
        + f'{{ type = "metadata", key = "tenant-id", tenants = {{ "a-number" = "{add}" }} }}'
    )


def test_a_table_without_an_entry() -> None:
    """The rule is there, and lacks a value."""
    rules = [{"type": "metadata", "key": "tenant-id", "tenants": {"one": "law"}}]
    attributed = Attributed(make_settings(server=[SERVER], attribution={"rules": rules}))
    meetings = [marked("a", tenant_id="one"), marked("b", tenant_id="two")]
    assert [*attributed.add(SERVER, meetings)] == [
        "1 without a tenant",
        "marks that give none: tenant-id (two)",
    ]
    assert [*attributed.lines()][-1] == "rule 1 reads tenant-id, but has no tenant for two"


def test_what_is_pasted_works() -> None:
    """With the rules that are proposed, no session is left."""
    meetings = [
        marked("b", bbblb_tenant="acme"),
        marked("c", tenant_id="a-number"),
        marked("d", bbb_origin_server_name="moodle.example"),
        marked("e")._replace(external_id="room-bbblb-arts"),
        marked("f", b3s_frontend="law"),
    ]
    attributed = Attributed(make_settings(server=[SERVER]))
    assert len([*attributed.add(SERVER, meetings)]) == 2
    found = [line.partition("attribution.rules: ")[2] for line in attributed.lines()]
    text = f"rules = [{', '.join(filter(None, found))}]".replace("NAME OF THE TENANT", "one")
    attributed = Attributed(make_settings(server=[SERVER], attribution=tomllib.loads(text)))
    assert [*attributed.add(SERVER, meetings)] == []
