"""SQL that gives a tenant a separate database role.

The role sees only the tenant's rows, through the views and functions `meter.my_…`
(schema/current/97_tenants.sql). This module changes nothing: an administrator reads and runs the
SQL.
"""

import re

from collector.database.pool import Connection, translated
from collector.errors import UsageError
from collector.settings import is_tenant_name

# Only plain names: people type them, and other programs have them in their settings.
_ROLE_NAME = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")

_ROLE = """
SELECT coalesce(
    (SELECT min(r.role) FROM meter.tenant_role AS r WHERE r.tenant_id = t.id),
    current_database() || '_tenant_' || t.id
)
FROM meter.tenant AS t
WHERE t.name = $1
"""

_GRANT = """\
-- Lets the role {role} read the rows of the tenant {tenant}, and no others.
-- Run it as the owner of the schema meter, who may create roles. It can be run again.
BEGIN;
DO $grant$
BEGIN
    IF NOT EXISTS (SELECT FROM meter.tenant WHERE name = {tenant}) THEN
        RAISE EXCEPTION 'there is no such tenant in the database';
    END IF;
    IF to_regrole({name}) IS NULL THEN
        CREATE ROLE {role} NOLOGIN;
    ELSIF NOT EXISTS (
        SELECT FROM meter.tenant_role AS r INNER JOIN meter.tenant AS t ON r.tenant_id = t.id
        WHERE r.role = {name} AND t.name = {tenant}
    ) THEN
        RAISE EXCEPTION 'this role exists already and does not belong to this tenant';
    END IF;
    IF has_schema_privilege({name}, 'public', 'CREATE') THEN
        RAISE EXCEPTION 'everybody may create functions in the schema public'
            USING HINT = 'REVOKE CREATE ON SCHEMA public FROM PUBLIC';
    END IF;
END
$grant$;
GRANT bbbmeter_tenant TO {role};
INSERT INTO meter.tenant_role (role, tenant_id)
SELECT {name}, id FROM meter.tenant WHERE name = {tenant}
ON CONFLICT DO NOTHING;
COMMIT;
-- Then grant the role to each login that needs it: GRANT {role} TO somebody;
-- As a superuser, limit the login: ALTER ROLE somebody CONNECTION LIMIT 4;
-- ALTER ROLE somebody SET temp_file_limit = '256MB';
"""

_REVOKE = """\
-- Takes the role {role} away from the tenant {tenant}. It can be run again.
BEGIN;
DO $revoke$
BEGIN
    IF to_regrole({name}) IS NOT NULL AND NOT EXISTS (
        SELECT FROM meter.tenant_role AS r INNER JOIN meter.tenant AS t ON r.tenant_id = t.id
        WHERE r.role = {name} AND t.name = {tenant}
    ) THEN
        RAISE EXCEPTION 'this role does not belong to this tenant';
    END IF;
END
$revoke$;
DELETE FROM meter.tenant_role WHERE role = {name};
DROP ROLE IF EXISTS {role};
COMMIT;
"""


async def role_of(connection: Connection, tenant: str) -> str:
    """Return the name of the tenant's role: the existing one, else one made from its number.

    Every user of a database server sees the names of all roles, so they contain no tenant's name.
    Raises UsageError if there is no such tenant, and DatabaseError.
    """
    with translated("look up the tenant"):
        role: str | None = await connection.fetchval(_ROLE, tenant)
    if role is None:
        raise UsageError([f"there is no tenant {tenant!r} in the database"], "tenant")
    return role


def grant_sql(tenant: str, role: str) -> str:
    """Return SQL that creates `role` and lets it see the rows of `tenant`, and no others.

    Raises ValueError if `tenant` cannot be a tenant's name, or if `role` is not a plain name.
    """
    return _fill(_GRANT, tenant, role)


def revoke_sql(tenant: str, role: str) -> str:
    """Return SQL that undoes `grant_sql`. Raises ValueError as `grant_sql` does."""
    return _fill(_REVOKE, tenant, role)


def _fill(template: str, tenant: str, role: str) -> str:
    if not is_tenant_name(tenant):
        msg = f"{tenant!r} cannot be a tenant's name"
        raise ValueError(msg)
    if not _ROLE_NAME.fullmatch(role):
        msg = (
            f"{role!r} is not a valid role name: use 1 to 63 lower-case letters, digits and _, not "
            "beginning with a digit or pg_; name another role with --role"
        )
        raise ValueError(msg)
    # Both names were checked: they contain no character that must be escaped inside the quotes.
    return template.format(tenant=f"'{tenant}'", name=f"'{role}'", role=f'"{role}"')
