"""Names of tenants and roles that get no SQL."""

import pytest

from collector.database.roles import grant_sql, revoke_sql


@pytest.mark.parametrize(
    "tenant", ["", "a'b", 'a"b', "a;b", "a\nb", "$grant$", "a b", "a\\", "x" * 65]
)
def test_what_cannot_name_a_tenant_gets_no_sql(tenant: str) -> None:
    """A name that would have to be escaped never reaches the SQL."""
    with pytest.raises(ValueError, match="tenant's name"):
        grant_sql(tenant, "role")


@pytest.mark.parametrize("role", ["", "A", "1a", "a-b", 'a"', "a'", "a b", "pg_x", "x" * 64, "ä"])
def test_what_is_no_plain_role_gets_no_sql(role: str) -> None:
    """Roles have plain names: others could end the SQL's quotes, or be cut off by PostgreSQL."""
    with pytest.raises(ValueError, match="--role"):
        revoke_sql("arts", role)
