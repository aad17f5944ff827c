"""Whose meeting is it? The rules, in order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.metering.attribution import Attribution, origin
from collector.model import Meeting, Place
from collector.settings import AttributionSettings, ServerSettings
from tests.support.settings import make_server


def meeting(external_id: str = "room", **changes: Any) -> Meeting:  # noqa: ANN401 - any field
    """Return a meeting with invented figures."""
    values: dict[str, Any] = {
        "internal_id": f"{external_id}-internal",
        "external_id": external_id,
        "created_ms": 1_770_019_200_000,
        "participants": 3,
        "voice": 2,
        "video": 1,
        "listeners": 0,
        "dialins": 0,
        "breakout": False,
        "parent_internal_id": None,
        "recording": False,
        "metadata": {},
        **changes,
    }
    return Meeting(**values)


def attribution(*rules: dict[str, Any]) -> Attribution:
    """Return the attribution of these rules."""
    return Attribution(AttributionSettings.model_validate({"rules": rules}))


BBBLB = ({"type": "metadata", "key": "bbblb-tenant"}, {"type": "suffix"})


@pytest.fixture
def server() -> ServerSettings:
    """A server of nobody in particular."""
    return make_server("bbb1")


def test_server_rule_gives_the_servers_tenant() -> None:
    """All meetings of a server that has a tenant are that tenant's."""
    rules = attribution({"type": "server"}, {"type": "prefix", "prefix": "r", "tenant": "other"})
    assert rules.place(meeting(), make_server("a", tenant="acme"), None) == Place("acme", "room")
    assert rules.place(meeting(), make_server("b"), None) == Place("other", "room")


def test_no_rule_matches(server: ServerSettings) -> None:
    """What nobody claims is unassigned, which is not unknown: it is a tenant to look at."""
    assert attribution().place(meeting(), server, None) == Place("unassigned", "room")


def test_default_rules_trust_no_mark(server: ServerSettings) -> None:
    """Without rules in the settings, marks that a client could set count for nothing."""
    marked = meeting("room-bbblb-acme", metadata={"bbblb-tenant": "acme"})
    rules = Attribution(AttributionSettings())
    assert rules.place(marked, server, None).tenant == "unassigned"
    assert rules.metadata_keys == {"bbb-origin", "gl-listed"}


def test_bbblb_by_metadata_and_unscoped(server: ServerSettings) -> None:
    """BBBLB's metadata names the tenant, and its suffix is cut from the room's id."""
    marked = meeting("course-42-bbblb-acme", metadata={"bbblb-tenant": "acme"})
    assert attribution(*BBBLB).place(marked, server, None) == Place("acme", "course-42")
    assert attribution(BBBLB[0]).place(marked, server, None) == Place("acme", "course-42")


def test_suffix_is_split_from_the_right(server: ServerSettings) -> None:
    """A room's id may hold the separator itself; the last one counts, as BBBLB appends it."""
    marked = meeting("a-bbblb-evil-bbblb-acme")
    assert attribution(BBBLB[1]).place(marked, server, None) == Place("acme", "a-bbblb-evil")


@pytest.mark.parametrize("external_id", ["-bbblb-acme", "room-bbblb-", "room-bbblb-too.odd", "x"])
def test_suffix_of_another_form_does_not_match(server: ServerSettings, external_id: str) -> None:
    """What BBBLB would not have made is left as it is."""
    place = attribution(BBBLB[1]).place(meeting(external_id), server, None)
    assert place == Place("unassigned", external_id)


def test_metadata_by_table(server: ServerSettings) -> None:
    """With a table, only the values in it name tenants."""
    rules = attribution({"type": "metadata", "key": "Tenant-Id", "tenants": {"t1": "acme"}})
    assert rules.place(meeting(metadata={"tenant-id": "t1"}), server, None).tenant == "acme"
    assert rules.place(meeting(metadata={"tenant-id": "t2"}), server, None).tenant == "unassigned"


def test_metadata_value_that_is_no_name(server: ServerSettings) -> None:
    """A value that cannot name a tenant makes none."""
    rules = attribution({"type": "metadata", "key": "bbblb-tenant"})
    place = rules.place(meeting(metadata={"bbblb-tenant": "<b>x</b>"}), server, None)
    assert place.tenant == "unassigned"


def test_prefix_looks_at_the_unscoped_id(server: ServerSettings) -> None:
    """The prefix rule matches the beginning of the room's id."""
    rules = attribution({"type": "prefix", "prefix": "med-", "tenant": "medicine"})
    assert rules.place(meeting("med-1"), server, None).tenant == "medicine"
    assert rules.place(meeting("amed-1"), server, None).tenant == "unassigned"


def test_origin_is_a_table_of_hosts(server: ServerSettings) -> None:
    """Hosts are compared without case; a host that is not in the table names nobody."""
    rules = attribution({"type": "origin", "hosts": {"lms.example.edu": "law"}})
    marked = meeting(metadata={"bbb-origin-server-name": "LMS.example.edu"})
    assert rules.place(marked, server, None).tenant == "law"
    other = meeting(metadata={"bbb-origin-server-name": "evil.example.edu"})
    assert rules.place(other, server, None).tenant == "unassigned"


@pytest.mark.parametrize("entry", ["law.example.edu", "https://LAW.example.edu.:443/moodle "])
@pytest.mark.parametrize(
    "metadata",
    [
        {"bbb-origin-server-name": "Law.Example.EDU"},
        {"bbb-origin-server-name": "law.example.edu:8443"},
        {"bbb-origin-server-name": "https://law.example.edu"},
        {"bbb-origin-server-name": "https://law.example.edu/moodle/"},
        {"bbb-origin-server-name": "law.example.edu/"},
        {"bbb-origin-server-name": "law.example.edu."},
        {"bbb-origin-server-name": "\n  law.example.edu\n "},
        {"bbb-origin-server-common-name": "law.example.edu"},
        {"bbb-origin-server-name": "", "bbb-origin-server-common-name": "law.example.edu:80"},
        {
            "bbb-origin-server-name": "Law School",
            "bbb-origin-server-common-name": "law.example.edu",
        },
    ],
    ids=str,
)
def test_a_host_is_found_in_each_form(
    server: ServerSettings, entry: str, metadata: dict[str, str]
) -> None:
    """Table and metadata are compared in one form; the common name counts without a host."""
    rules = attribution({"type": "origin", "hosts": {entry: "law"}})
    assert metadata.keys() <= rules.metadata_keys
    assert rules.place(meeting(metadata=metadata), server, None).tenant == "law"


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"bbb-origin-server-name": "", "bbb-origin-server-common-name": ""},
        {"bbb-origin-server-name": "sub.law.example.edu"},
        {"bbb-origin-server-name": "law.example.edu@evil.example"},
        {"bbb-origin-server-name": "evil.example/law.example.edu"},
        {
            "bbb-origin-server-name": "other.example.edu",
            "bbb-origin-server-common-name": "law.example.edu",
        },
    ],
    ids=str,
)
def test_another_host_is_not_in_the_table(server: ServerSettings, metadata: dict[str, str]) -> None:
    """A host that is named goes before the common name, also if it is nobody's."""
    rules = attribution({"type": "origin", "hosts": {"law.example.edu": "law"}})
    assert rules.place(meeting(metadata=metadata), server, None).tenant == "unassigned"


@pytest.mark.parametrize("tenants", [{}, {" acme ": "acme"}])
def test_blanks_around_a_value_do_not_matter(
    server: ServerSettings, tenants: dict[str, str]
) -> None:
    """A load balancer may lay its answer out with line breaks inside of elements."""
    rules = attribution({"type": "metadata", "key": "tenant-id", "tenants": tenants})
    marked = meeting(metadata={"tenant-id": "\n  acme\n"})
    assert rules.place(marked, server, None).tenant == "acme"


def test_first_match_wins(server: ServerSettings) -> None:
    """Order decides."""
    first = {"type": "prefix", "prefix": "r", "tenant": "one"}
    second = {"type": "prefix", "prefix": "ro", "tenant": "two"}
    assert attribution(first, second).place(meeting(), server, None).tenant == "one"
    assert attribution(second, first).place(meeting(), server, None).tenant == "two"


def test_breakout_belongs_to_its_parent(server: ServerSettings) -> None:
    """A breakout has its parent's tenant and room: its own id is new each time."""
    rules = attribution(
        {"type": "prefix", "prefix": "med-", "tenant": "medicine"}, {"type": "parent"}
    )
    breakout = meeting("f00-17", breakout=True, parent_internal_id="parent-1")
    parent = Place("medicine", "med-1")
    assert rules.place(breakout, server, parent) == Place("medicine", "med-1")


def test_orphaned_breakout(server: ServerSettings) -> None:
    """A breakout whose parent was never seen is its own room; what it inherited is its tenant."""
    rules = attribution(*BBBLB, {"type": "parent"})
    breakout = meeting(
        "f00-17", breakout=True, parent_internal_id="gone", metadata={"bbblb-tenant": "acme"}
    )
    assert rules.place(breakout, server, None) == Place("acme", "f00-17")


def test_an_own_trusted_mark_goes_before_the_parents(server: ServerSettings) -> None:
    """Law names a meeting of acme as the parent of its breakout: law pays, for its own room."""
    breakout = meeting(
        "f00-17", breakout=True, parent_internal_id="x", metadata={"bbblb-tenant": "law"}
    )
    for rules in (
        attribution(*BBBLB, {"type": "parent"}),
        attribution({"type": "parent"}, *BBBLB),
    ):
        assert rules.place(breakout, server, Place("acme", "room")) == Place("law", "f00-17")
    # What clients can choose does not go before the parent.
    prefix = attribution({"type": "parent"}, {"type": "prefix", "prefix": "f", "tenant": "law"})
    assert prefix.place(breakout, server, Place("acme", "room")) == Place("acme", "room")


def test_only_wanted_metadata_keys_are_named() -> None:
    """The parser is told to keep what rules and `origin` look at, and nothing else."""
    rules = attribution(*BBBLB, {"type": "origin", "hosts": {}})
    product = {"bbb-origin", "gl-listed"}
    names = {"bbb-origin-server-name", "bbb-origin-server-common-name"}
    assert rules.metadata_keys == {"bbblb-tenant"} | names | product


@pytest.mark.parametrize(
    ("metadata", "product"),
    [
        ({}, None),
        ({"bbb-origin": "Moodle"}, "moodle"),
        ({"bbb-origin": " greenlight3 "}, "greenlight3"),
        ({"gl-listed": "false"}, "greenlight"),
        ({"gl-listed": "", "bbb-origin": ""}, "greenlight"),
        ({"gl-listed": "true", "bbb-origin": "moodle"}, "moodle"),
        ({"bbb-origin": "Ada Lovelace"}, "other"),
        ({"bbb-origin": "x" * 500}, "other"),
        ({"bbb-origin-server-name": "moodle.example.org"}, None),
    ],
)
def test_the_product_is_a_short_plain_word(metadata: dict[str, str], product: str | None) -> None:
    """What a client says of itself is stored only where it can name nobody."""
    assert origin(meeting("room", metadata=metadata)) == product


@given(room=st.text(min_size=1), tenant=st.from_regex(r"[a-zA-Z0-9]{1,16}", fullmatch=True))
def test_bbblb_scoping_is_undone(room: str, tenant: str) -> None:
    """Whatever the room is called, the id that BBBLB makes of it leads back to it."""
    server = ServerSettings.model_validate(
        {"name": "s", "url": "https://s.example.org", "secret": "x"}
    )
    scoped = meeting(f"{room}-bbblb-{tenant}", metadata={"bbblb-tenant": tenant})
    assert attribution(*BBBLB).place(scoped, server, None) == Place(tenant, room)


@given(st.text(), st.dictionaries(st.sampled_from(["bbblb-tenant", "tenant-id"]), st.text()))
def test_any_marks_give_one_valid_tenant(external_id: str, metadata: dict[str, str]) -> None:
    """Whatever a client sends, every meeting has a tenant whose name is one."""
    server = ServerSettings.model_validate(
        {"name": "s", "url": "https://s.example.org", "secret": "x"}
    )
    rules = attribution(*BBBLB, {"type": "metadata", "key": "tenant-id"}, {"type": "parent"})
    place = rules.place(meeting(external_id or "x", metadata=metadata), server, None)
    assert place.tenant == "unassigned" or place.tenant in {
        *(value.strip() for value in metadata.values()),
        external_id.rpartition("-bbblb-")[2],
    }
