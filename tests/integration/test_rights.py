"""Rights that everybody has in a new database, and that readers and tenants must not have."""

import uuid
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from collector.database.migrate import schema_dir
from collector.database.roles import grant_sql
from tests.support.database import migrate_unscheduled
from tests.support.roles import FORBIDDEN, PASSWORD, House, make_login
from tests.support.settings import make_settings

# What an owner of the database can take away.
BY_THE_OWNER = {
    "a temporary table": "CREATE TEMPORARY TABLE filling AS SELECT 1",
    "a temporary function": "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a table in public": "CREATE TABLE public.mine (a integer)",
    "a function in public": "CREATE FUNCTION public.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "a schema": "CREATE SCHEMA mine",
}
A_JOB = "_timescaledb_functions.policy_job_stat_history_retention"
# What belongs to a superuser.
BY_A_SUPERUSER = {
    "a job": f"SELECT public.add_job('{A_JOB}', interval '1 second')",
    "running a job": "CALL public.run_job(1)",
    "a large object": "SELECT lo_create(0)",
    "a large object by its old name": "SELECT lo_creat(-1)",
    "a large object with content": "SELECT lo_from_bytea(0, 'x')",
    "a message in the log of changes": "SELECT pg_logical_emit_message(FALSE, 'x', 'y')",
    "binary, too": "SELECT pg_logical_emit_message(FALSE, 'x', 'y'::bytea)",
    "the lock of migrate": "SELECT pg_advisory_lock(7089063215889708402)",
    "all the locks there are": "SELECT pg_try_advisory_xact_lock(g) FROM generate_series(1, 9) g",
}
ALL = BY_THE_OWNER | BY_A_SUPERUSER


async def let_in(connection: asyncpg.Connection, attacks: dict[str, str]) -> list[str]:
    """Return the attacks that are not refused for want of a right; nothing of them stays."""
    found = []
    for attack, statement in attacks.items():
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(statement)
            found.append(attack)
        except FORBIDDEN:
            pass
        except asyncpg.PostgresError as error:
            found.append(f"{attack}: {error}")
        await transaction.rollback()
    return found


@pytest.mark.parametrize("role", ["bbbmeter_reader", "bbbmeter_writer", "bbbmeter_tenant"])
async def test_rights_of_everybody_are_taken_away(
    house: House, logins: Iterator[str], role: str
) -> None:
    """Where a superuser migrates, neither readers nor collectors nor tenants can do any of it."""
    login = await make_login(house.feed, next(logins), role)
    async with house.enter(login) as connection:
        assert await let_in(connection, ALL) == []


async def test_temporary_files_are_limited_by_the_login(
    house: House, logins: Iterator[str]
) -> None:
    """The limit that docs/threat-model.md gives a login holds, and the login cannot undo it."""
    if not house.native:
        pytest.skip("the embedded engine applies no settings of a login")
    login = await make_login(house.feed, next(logins), house.role)
    await house.feed.pool.execute(f"ALTER ROLE {login} SET temp_file_limit = '1MB'")
    async with house.enter(login) as connection:
        with pytest.raises(FORBIDDEN):
            await connection.execute("SET temp_file_limit = -1")
        with pytest.raises(asyncpg.ConfigurationLimitExceededError):
            await connection.fetch("SELECT g FROM generate_series(1, 1000000) AS g ORDER BY -g")


async def test_an_owner_takes_away_what_it_may(
    empty_dsn: str,
    _embedded_dsn: str | None,  # noqa: PT019 - its value says which engine it is
) -> None:
    """Migrating as the owner works again and again, also after a superuser ran 96_public.sql.

    A tenant is refused everything of TimescaleDB from the first time on; the rest follows when a
    superuser runs that file.
    """
    if _embedded_dsn is not None:
        pytest.skip("the embedded engine has one user")
    names = [f"t_{uuid.uuid4().hex}" for _ in range(4)]
    owner, reader, tenant, role = names
    admin = await asyncpg.connect(empty_dsn)
    database = await admin.fetchval("SELECT quote_ident(current_database())")
    for login in (owner, reader, tenant):
        await admin.execute(f"CREATE ROLE {login} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
    await admin.execute(f"ALTER ROLE {reader} NOCREATEROLE")
    await admin.execute(f"ALTER ROLE {tenant} NOCREATEROLE")
    await admin.execute(f"ALTER DATABASE {database} OWNER TO {owner}")

    async def enter(login: str) -> asyncpg.Connection:
        url = urlsplit(empty_dsn)
        netloc = f"{login}:{PASSWORD}@{url.netloc.rpartition('@')[2]}"
        return await asyncpg.connect(urlunsplit(url._replace(netloc=netloc)))

    try:
        own = await enter(owner)
        for _ in range(2):
            await migrate_unscheduled(own, make_settings())
        await admin.execute("INSERT INTO meter.tenant (name) VALUES ('arts')")
        await admin.execute(grant_sql("arts", role))
        await admin.execute(f"GRANT {role} TO {tenant}")
        await admin.execute(f"GRANT bbbmeter_reader TO {reader}")
        reads, asks = await enter(reader), await enter(tenant)
        jobs = {name: BY_A_SUPERUSER[name] for name in ("a job", "running a job")}
        assert await let_in(asks, BY_THE_OWNER | jobs) == []
        assert await let_in(reads, BY_THE_OWNER) == []
        assert "a large object" in await let_in(asks, BY_A_SUPERUSER)

        public = (schema_dir() / "current" / "96_public.sql").read_text(encoding="utf-8")
        for _ in range(2):
            await admin.execute(public)
        assert await let_in(asks, ALL) == []
        assert await let_in(reads, ALL) == []
        await migrate_unscheduled(own, make_settings())
        for job in await own.fetch(
            "SELECT job_id FROM timescaledb_information.jobs WHERE job_id >= 1000"
        ):
            await own.execute(f"CALL public.run_job({job['job_id']})")
        assert await asks.fetchval("SELECT name FROM meter.my_tenant") == "arts"
        assert await reads.fetch("SELECT * FROM meter.disk_usage()") == []
        assert await reads.fetch("SELECT * FROM meter.server_1h") == []
        for connection in (own, reads, asks):
            await connection.close()
    finally:
        await admin.execute(f"ALTER DATABASE {database} OWNER TO CURRENT_USER")
        for name in reversed(names):
            if await admin.fetchval("SELECT to_regrole($1)", name) is not None:
                await admin.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
                await admin.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
        await admin.close()
