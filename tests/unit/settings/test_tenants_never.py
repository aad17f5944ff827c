"""Rules and entries that can never match are refused, with the reason."""

import json

import pytest

from collector.settings import tenants
from collector.sources.polling import parser
from tests.support.settings import SERVER, Load, Problems


def rules(*entries: dict[str, object]) -> str:
    """Return the settings with these rules, as text."""
    lines = []
    for entry in entries:
        lines.append("[[attribution.rules]]")
        for key, value in entry.items():
            if isinstance(value, dict):
                pairs = ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items())
                lines.append(f"{key} = {{ {pairs} }}")
            else:
                lines.append(f"{key} = {json.dumps(value)}")
    return "\n".join(lines)


def metadata(key: str = "tenant-id", **table: str) -> dict[str, object]:
    """Return a rule `metadata`."""
    return {"type": "metadata", "key": key, **({"tenants": table} if table else {})}


def suffix(separator: str = "-bbblb-", **table: str) -> dict[str, object]:
    """Return a rule `suffix`."""
    rule: dict[str, object] = {"type": "suffix", "separator": separator}
    return {**rule, "tenants": table} if table else rule


def prefix(text: str, tenant: str = "law") -> dict[str, object]:
    """Return a rule `prefix`."""
    return {"type": "prefix", "prefix": text, "tenant": tenant}


def origin(*hosts: str, tenant: str = "law") -> dict[str, object]:
    """Return a rule `origin`."""
    return {"type": "origin", "hosts": dict.fromkeys(hosts, tenant)}


class TestEntries:
    """Entries that no session could match, whatever the other rules are."""

    @pytest.mark.parametrize(
        ("rule", "reason"),
        [
            (metadata("bbblb_tenant"), "'bbblb_tenant' is not a metadata key"),
            (metadata("meta_tenant-id"), "letters, digits and '-'"),
            (metadata("1tenant"), "begin with a letter"),
            (metadata("tenant id"), "is not a metadata key"),
            (metadata("tenänt"), "is not a metadata key"),
            (metadata(""), "is not a metadata key"),
            (metadata(**{"": "law"}), "an empty value"),
            (metadata(**{"  ": "law"}), "an empty value"),
            (metadata(**{"x" * 513: "law"}), "longer than 512 characters"),
            (metadata(**{"a\x00": "law"}), "a character that XML does not allow"),
            (suffix(**{"faculty-law": "law"}), "'faculty-law' is not 1 to 16 letters and digits"),
            (suffix(**{"x" * 17: "law"}), "is not 1 to 16 letters and digits"),
            (suffix(**{"": "law"}), "'' is not 1 to 16 letters and digits"),
            (suffix(jurä="law"), "is not 1 to 16 letters and digits"),
            (suffix("x", axb="law"), "'axb' can never match: an id that ends with 'xaxb' is "),
            (suffix("aa", ab="law"), "'ab' can never match: an id that ends with 'aaab' is "),
            (suffix(""), "separator: is empty"),
            (suffix("-\x01-"), "separator: has a control character"),
            (suffix("-" * 511), "separator: is longer than 510 characters"),
            (prefix(""), "rules[2].prefix: is empty"),
            (prefix("a\x07"), "prefix: has a control character"),
            (prefix("a\x85"), "prefix: has a control character"),
            (prefix("x" * 513), "prefix: is longer than 512 characters"),
            (origin(), "rules[2].hosts: is empty"),
            (origin("lms example"), "'lms example' is not a valid host"),
            (origin("*.example.edu"), "'*.example.edu' is not a valid host"),
            (origin("lms.example.edu, b.example.edu"), "is not a valid host"),
            (origin("https://"), "'https://' is not a valid host"),
            (origin("300.1.2.3"), "'300.1.2.3' is not a valid host"),
        ],
        ids=str,
    )
    def test_it_is_refused(self, problems: Problems, rule: dict[str, object], reason: str) -> None:
        """The message names the place in the file and says why it can never match."""
        (problem,) = problems(rules({"type": "server"}, rule))
        assert problem.startswith("attribution.rules[2].")
        assert reason in problem

    @pytest.mark.parametrize(
        "rule",
        [
            metadata("B3S-Frontend"),
            metadata(" tenant-id "),
            metadata("x"),
            metadata(**{"Faculty of Law": "law", "ä": "med", "x" * 512: "arts"}),
            suffix(**{"x" * 16: "law", "X": "med", "0": "arts"}),
            suffix("x", law="law"),
            suffix(" "),
            prefix("-"),
            prefix("x" * 512),
            origin("lms", "localhost", "10.0.0.1", "::1", "my_lms.example", "hörsaal.example"),
        ],
        ids=str,
    )
    def test_the_merely_unusual_is_allowed(self, load: Load, rule: dict[str, object]) -> None:
        """What a session could have is not refused."""
        assert len(load(rules(rule)).attribution.rules) == 1

    def test_the_limit_of_a_text_is_the_parsers(self) -> None:
        """A longer id or value in an answer is not read."""
        assert tenants.MAX_TEXT == parser._MAX_TEXT

    def test_both_sides_have_one_form(self, load: Load) -> None:
        """Hosts, keys and values of metadata are stored in the form in which they are compared."""
        settings = load(
            rules(
                metadata(" Tenant-ID", **{" t1 ": "law"}),
                origin("https://LMS.example.edu:8443/x", "lms.example.edu."),
            )
        )
        first, second = settings.attribution.rules
        assert (first.key, first.tenants) == ("tenant-id", {"t1": "law"})  # type: ignore[union-attr]
        assert second.hosts == {"lms.example.edu": "law"}  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("rule", "reason"),
        [
            (
                {"type": "origin", "hosts": {"LMS.example": "law", "https://lms.example/": "med"}},
                (
                    "hosts: 'LMS.example' and 'https://lms.example/' are the same host, but have "
                    "different tenants"
                ),
            ),
            (
                {"type": "metadata", "key": "k", "tenants": {"t1": "law", "t1 ": "med"}},
                "tenants: 't1' and 't1 ' are the same value, but have different tenants",
            ),
        ],
    )
    def test_two_entries_that_become_one_are_refused(
        self, problems: Problems, rule: dict[str, object], reason: str
    ) -> None:
        """Only one of two tenants could ever be found."""
        (problem,) = problems(rules(rule))
        assert problem == f"attribution.rules[1].{reason}"


class TestRules:
    """Rules that an earlier rule leaves nothing to match."""

    @pytest.mark.parametrize(
        ("first", "second", "problem"),
        [
            ({"type": "server"}, {"type": "server"}, ": can never match: rules[1] matches first"),
            ({"type": "parent"}, {"type": "parent"}, ": can never match: rules[1] matches first"),
            (
                prefix("med-"),
                prefix("med-x", "med"),
                (
                    ".prefix: 'med-x' can never match: rules[1] matches every id that begins with "
                    "'med-'; put the longer prefix first"
                ),
            ),
            (prefix("m"), prefix("m"), ".prefix: 'm' can never match: rules[1] matches"),
            (metadata(), metadata(), ": can never match: rules[1] matches first"),
            (
                metadata(),
                metadata(t1="law"),
                ".tenants: 't1' can never match: rules[1] matches it first",
            ),
            (
                metadata(t1="law"),
                metadata("Tenant-Id", t1="med", t2="med"),
                ".tenants: 't1' can never match: rules[1] matches it first",
            ),
            (suffix(), suffix(), ": can never match: rules[1] matches first"),
            (suffix("-"), suffix("-bbblb-"), ": can never match: rules[1] matches first"),
            (suffix(law="a"), suffix(law="b", med="b"), ".tenants: 'law' can never match: "),
            (suffix("-", law="a"), suffix("--", law="b"), ".tenants: 'law' can never match: "),
            (suffix(), suffix(law="b"), ".tenants: 'law' can never match: rules[1] matches it"),
            (
                origin("lms.example"),
                origin("https://LMS.example", "b.example", tenant="med"),
                ".hosts: 'lms.example' can never match: rules[1] matches it first",
            ),
        ],
        ids=str,
    )
    def test_it_is_refused(
        self,
        problems: Problems,
        first: dict[str, object],
        second: dict[str, object],
        problem: str,
    ) -> None:
        """Both rules are named, also if others stand between them."""
        between: dict[str, object] = {"type": "prefix", "prefix": "unrelated", "tenant": "arts"}
        (found,) = problems(rules(first, between, second))
        assert found.startswith(f"attribution.rules[3]{problem}")

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (prefix("med-x"), prefix("med-")),
            (prefix("med-"), prefix("Med-")),
            (metadata("a"), metadata("b")),
            (metadata(t1="law"), metadata()),
            (metadata(t1="law"), metadata(t2="law")),
            (metadata(), metadata(**{"Faculty of Law": "law"})),
            (suffix("-bbblb-"), suffix("-")),
            (suffix("x"), suffix("yx")),
            (suffix(law="law"), suffix()),
            (suffix(), metadata("bbblb-tenant")),
            (origin("a.example"), origin("b.example")),
            ({"type": "server"}, {"type": "parent"}),
        ],
        ids=str,
    )
    def test_a_rule_that_can_still_match_is_allowed(
        self, load: Load, first: dict[str, object], second: dict[str, object]
    ) -> None:
        """Sessions are left for the second rule."""
        assert len(load(rules(first, second)).attribution.rules) == 2

    def test_a_servers_tenant_needs_its_rule(self, load: Load, problems: Problems) -> None:
        """Without a rule `server`, the tenant of a server would be found for no session."""
        server = SERVER + 'tenant = "law"\n'
        assert problems(server + rules(prefix("med-"))) == [
            (
                "server[bbb1].tenant: has no effect without a rule of type server; add one to "
                "attribution.rules, or remove the tenant"
            )
        ]
        for text in (server, server + rules({"type": "server"})):
            assert load(text).server[0].tenant == "law"

    def test_a_rule_server_without_tenants_is_allowed(self, load: Load) -> None:
        """It is one of the two default rules."""
        for text in (SERVER, SERVER + rules({"type": "server"})):
            assert load(text).server[0].tenant is None
