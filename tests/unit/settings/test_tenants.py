"""The rules that find a session's tenant."""

import pytest

from collector.settings import MetadataRule
from tests.support.settings import Load, Problems


class TestAttribution:
    """The rules."""

    def test_rules_keep_their_order(self, load: Load) -> None:
        """The first match wins, so the order is the operator's."""
        settings = load(
            '[attribution]\nrules = [{type = "parent"}, {type = "prefix", prefix = "x", '
            'tenant = "law"}, {type = "suffix"}, {type = "origin", hosts = {"h" = "law"}}]'
        )
        assert [r.type for r in settings.attribution.rules] == [
            "parent",
            "prefix",
            "suffix",
            "origin",
        ]

    def test_a_metadata_key_is_compared_in_lower_case(self) -> None:
        """BigBlueButton answers with the keys in lower case."""
        assert MetadataRule(type="metadata", key="BBBLB-Tenant").key == "bbblb-tenant"

    @pytest.mark.parametrize(
        "rule",
        [
            '{type = "magic"}',
            '{key = "x"}',
            '{type = "metadata"}',
            '{type = "metadata", key = ""}',
            '{type = "metadata", key = "x", tenants = {a = "no name"}}',
            '{type = "suffix", separator = ""}',
            '{type = "prefix", prefix = "", tenant = "law"}',
            '{type = "origin"}',
            '{type = "parent", tenant = "law"}',
        ],
    )
    def test_a_broken_rule_is_named_by_its_place(self, problems: Problems, rule: str) -> None:
        """Unknown types, missing keys, and tenants that can be none."""
        (problem,) = problems(f'[attribution]\nrules = [{{type = "server"}}, {rule}]')
        assert problem.startswith("attribution.rules[2]")
