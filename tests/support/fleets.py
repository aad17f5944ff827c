"""Simulated fleets for tests: a plan, and the contents of their servers' answers."""

import random
from datetime import UTC, datetime, timedelta

from lxml import etree

from collector.simulator import Fleet, FleetPlan
from collector.simulator.people import Person
from collector.simulator.plan import sim_tenants

START = datetime(2026, 3, 2, 8, tzinfo=UTC)
TENANTS = sim_tenants(6)
MILLISECOND = timedelta(milliseconds=1)


def plan(seed: int = 1, **changes: object) -> FleetPlan:
    """Return a plan of a small, busy fleet with every kind of session."""
    given: dict[str, object] = {
        "start": START,
        "end": START + timedelta(days=1),
        "tenants": TENANTS,
        "servers": 3,
        "concurrent_sessions": 15,
        "mean_length_s": 900,
        "max_length_s": 7200,
        "large_share": 0.02,
        "breakout_share": 0.4,
        "dialin_share": 0.4,
        **changes,
    }
    return FleetPlan(seed=seed, **given)  # type: ignore[arg-type]


def meetings_at(fleet: Fleet, at: datetime) -> list[tuple[str, etree._Element]]:
    """Return (server, `<meeting>`) of the whole fleet at `at`, parsed strictly."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return [
        (server, meeting)
        for server in fleet.plan.server_names
        for meeting in etree.fromstring(fleet.answer(server, at), parser).iter("meeting")
    ]


def text(element: etree._Element, tag: str) -> str:
    """Return the text of a child element, which must exist."""
    found = element.findtext(tag)
    assert found is not None
    return found


def count(meeting: etree._Element, tag: str) -> int:
    """Return a count without thousands separators."""
    return int(text(meeting, tag).replace(",", ""))


def speakers(meeting: etree._Element) -> set[str]:
    """Return the user ids of the people in the voice conference."""
    attendees = meeting.iter("attendee")
    return {text(a, "userID") for a in attendees if text(a, "hasJoinedVoice") == "true"}


def moments(seed: int, number: int, within: timedelta) -> list[datetime]:
    """Return random instants in order, in whole milliseconds."""
    rng = random.Random(seed)
    most_ms = int(within / MILLISECOND)
    return sorted(START + rng.randrange(most_ms) * MILLISECOND for _ in range(number))


def person(user_id: str, name: str, role: str = "VIEWER", **more: object) -> Person:
    """Return a person for tests."""
    return Person(user_id, name, role, **more)  # type: ignore[arg-type]
