"""What is called unreachable never matches, and what is not can match: by trying sessions."""

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.metering.attribution import Attribution
from collector.settings import AttributionSettings, Rule
from collector.settings.reach import unreachable
from collector.sources.polling.parser import parse_meetings
from tests.support.meetings import answer_xml, meeting_xml
from tests.support.settings import make_server

SERVER = make_server("bbb1")
# Few letters, so that texts often begin, end or overlap with each other.
IDS = st.text("ab-", min_size=1, max_size=8)
SUFFIXES = st.text("ab", min_size=1, max_size=3)
SEPARATORS = st.text("ab-", min_size=1, max_size=3)


def tables(entries: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Return lists of different entries for a table."""
    return st.lists(entries, min_size=1, max_size=3, unique=True)


RULES = st.lists(
    st.one_of(
        st.tuples(st.just("prefix"), st.just(""), st.lists(IDS, min_size=1, max_size=1)),
        st.tuples(st.just("suffix"), SEPARATORS, tables(SUFFIXES)),
        st.tuples(st.just("metadata"), st.sampled_from("xy"), tables(st.text("ab", min_size=1))),
    ),
    min_size=2,
    max_size=4,
)


def attribution(drawn: list[tuple[str, str, list[str]]]) -> AttributionSettings:
    """Return settings in which each entry of each rule has a tenant of its own."""
    rules: list[dict[str, Any]] = []
    for number, (kind, text, entries) in enumerate(drawn, 1):
        table = {entry: f"t{number}.{entry.replace('-', '_')}" for entry in entries}
        if kind == "prefix":
            rules.append({"type": kind, "prefix": entries[0], "tenant": f"t{number}.x"})
        elif kind == "suffix":
            # A suffix with the separator in it is refused before the rules are compared.
            table = {k: t for k, t in table.items() if not (text + k).rfind(text)}
            rules.append({"type": kind, "separator": text, "tenants": table or {"z": "t0.z"}})
        else:
            rules.append({"type": kind, "key": text, "tenants": table})
    return AttributionSettings.model_validate({"rules": rules})


def dead_tenants(rules: tuple[Rule, ...]) -> set[str]:
    """Return the tenants that no session can have, by the problems that were found."""
    dead: set[str] = set()
    for problem in unreachable(rules):
        number = int(re.findall(r"rules\[(\d+)\]", problem)[0])
        entry = re.search(r"tenants: '([^']*)'", problem)
        rule: Any = rules[number - 1]
        if entry:
            dead.add(rule.tenants[entry[1]])
        else:
            dead |= {rule.tenant} if rule.type == "prefix" else set(rule.tenants.values())
    return dead


def tenant_of(rules: AttributionSettings, external_id: str, metadata: dict[str, str]) -> str:
    """Return the tenant of a session with this id and metadata."""
    (read,) = parse_meetings(answer_xml(meeting_xml())).meetings
    meeting = read._replace(external_id=external_id, metadata=metadata)
    return Attribution(rules).place(meeting, SERVER, None).tenant


@settings(max_examples=300, deadline=None)
@given(RULES, st.text("ab-", min_size=1, max_size=12), st.text("ab", max_size=3))
def test_what_is_unreachable_never_matches(
    drawn: list[tuple[str, str, list[str]]], external_id: str, value: str
) -> None:
    """No session has the tenant of an entry that is refused."""
    rules = attribution(drawn)
    for metadata in ({}, {"x": value}, {"y": value}, {"x": value, "y": value}):
        assert tenant_of(rules, external_id, metadata) not in dead_tenants(rules.rules)


@settings(max_examples=300, deadline=None)
@given(RULES)
def test_of_two_rules_that_are_allowed_both_can_match(
    drawn: list[tuple[str, str, list[str]]],
) -> None:
    """An entry that is not refused has a session that only it and its own type could decide."""
    rules = attribution(drawn)
    dead = dead_tenants(rules.rules)
    for number, rule in enumerate(rules.rules):
        alike = [other for other in rules.rules[: number + 1] if other.type == rule.type]
        alone = AttributionSettings.model_validate(
            {"rules": [other.model_dump() for other in alike]}
        )
        if rule.type == "suffix":
            for suffix, tenant in rule.tenants.items():
                ids = [f"{head}{rule.separator}{suffix}" for head in ("z.", "z-.", "za.", "zb.")]
                assert tenant in dead or tenant in {tenant_of(alone, one, {}) for one in ids}
        elif rule.type == "metadata":
            for value, tenant in rule.tenants.items():
                assert tenant in dead or tenant_of(alone, "id", {rule.key: value}) == tenant
        elif rule.type == "prefix":
            assert rule.tenant in dead or tenant_of(alone, rule.prefix, {}) == rule.tenant
