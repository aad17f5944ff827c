"""Which names of servers and tenants are valid."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.settings import is_tenant_name
from tests.support.settings import Problems


class TestNames:
    """Names of servers and tenants."""

    @given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
    def test_what_the_message_describes_is_a_name(self, name: str) -> None:
        """1 to 64 letters, digits, dots, underscores and hyphens, not at the beginning."""
        assert is_tenant_name(name)

    @pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "a" * 65, "٣"])
    def test_others_are_not(self, name: str, problems: Problems) -> None:
        """Nothing that would need quoting anywhere."""
        assert not is_tenant_name(name)
        (problem,) = problems(f"[[tenant]]\nname = {json.dumps(name)}\n")
        assert "must be 1 to 64 letters" in problem
