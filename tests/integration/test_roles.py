"""The database's roles, tried by getting out of them: reader, writer, and a tenant's own.

On a server, each attack comes from a login of its own. The embedded engine has one session for all
its clients, so the role is SET there, and attacks that would just take it off again are left out.
"""

from collections.abc import Iterator

import asyncpg
import pytest

from tests.support.roles import FORBIDDEN, OF_OTHERS, VIEWS, House, make_login

# -- how a tenant tries to get out --------------------------------------------------------------

# Each is refused: for want of a right, or because that which it is about is not there for it.
REFUSED = {
    "a table": "SELECT * FROM meter.tenant",
    "samples": "SELECT count(*) FROM meter.sample",
    "polls": "SELECT sum(participants) FROM meter.poll",
    "the map of roles": "SELECT * FROM meter.tenant_role",
    "servers": "SELECT name FROM meter.server",
    "a rollup": "SELECT * FROM meter.usage_1d",
    "a row type": "SELECT (s).* FROM meter.session AS s",
    "a copy": "COPY meter.room TO STDOUT",
    "a plan": "EXPLAIN ANALYZE SELECT * FROM meter.session",
    "the report": "SELECT * FROM meter.tenant_report('2026-03-02', '2026-03-03')",
    "usage by room": "SELECT * FROM meter.usage_by('2026-03-02', '2026-03-03', 'room')",
    "what the report is made of": "SELECT * FROM meter.usage_between('2026-03-02', '2026-03-03')",
    "sessions of all": "SELECT * FROM meter.sessions_between('2026-03-02', '2026-03-03')",
    "coverage of all": "SELECT * FROM meter.server_coverage('2026-03-02', '2026-03-03')",
    "statistics": "SELECT * FROM pg_statistic",
    "a sequence": "SELECT last_value FROM meter.tenant_id_seq",
    "a file": "SELECT pg_read_file('PG_VERSION')",
    "a folder": "SELECT pg_ls_dir('.')",
    "a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "a row for itself": "INSERT INTO meter.tenant_role SELECT current_user, 2",
    "another's row": "UPDATE meter.tenant_role SET tenant_id = 2",
    "writing through a view": "UPDATE meter.my_session SET participant_seconds = 0",
    "inserting through a view": "INSERT INTO meter.my_room (tenant_id) VALUES (2)",
    "deleting through a view": "DELETE FROM meter.my_sample",
    "locking out": "DO $$ BEGIN LOCK TABLE meter.my_sample IN ACCESS EXCLUSIVE MODE; END $$",
    "a view without a barrier": "ALTER VIEW meter.my_sample SET (security_barrier = FALSE)",
    "another view": "CREATE OR REPLACE VIEW meter.my_sample AS SELECT * FROM meter.sample",
    "a view of its own": "CREATE VIEW meter.mine AS SELECT 1",
    "a function in the path": "CREATE FUNCTION public.time_bucket(text, timestamptz) "
    "RETURNS timestamptz LANGUAGE sql AS 'SELECT $2'",
    "a schema": "CREATE SCHEMA mine",
    "an extension": "DROP EXTENSION timescaledb CASCADE",
    "a role": "CREATE ROLE mallory SUPERUSER",
    "more rights": "ALTER ROLE CURRENT_USER SUPERUSER",
    "a role that reads": "GRANT bbbmeter_reader TO CURRENT_USER",
    "the function's rights": "ALTER FUNCTION meter.my_tenants() SECURITY INVOKER",
    "retention": "SELECT public.add_retention_policy('meter.sample', interval '1 day')",
    "dropping": "SELECT public.drop_chunks('meter.sample', older_than => now())",
    "columns": "SELECT public.decompress_chunk(c) FROM public.show_chunks('meter.sample') AS c",
    "refreshing": "CALL public.refresh_continuous_aggregate('meter.usage_1m', NULL, NULL)",
    "a policy": "SELECT public.alter_job(job_id, scheduled => FALSE) "
    "FROM timescaledb_information.jobs WHERE hypertable_name = 'sample'",
    "the server's settings": "ALTER SYSTEM SET work_mem = '1GB'",
    "triggers off": "SET session_replication_role = 'replica'",
    "a library": "LOAD '/tmp/evil.so'",
}
# These would only take off the role that was SET in the embedded engine.
REFUSED_TO_A_LOGIN = {
    "the reader": "SET ROLE bbbmeter_reader",
    "the writer by its setting": "SELECT set_config('role', 'bbbmeter_writer', FALSE)",
    "the superuser": "SET SESSION AUTHORIZATION postgres",
    "the superuser's role": "SET ROLE postgres",
}


async def test_a_tenant_is_refused(house: House) -> None:
    """What is not its own, or would change anything, is refused, and the refusal names nothing."""
    let_in = []
    async with house.enter(house.login) as connection:
        for attack, statement in REFUSED.items():
            try:
                await connection.execute(statement)
                let_in.append(attack)
            except (FORBIDDEN, asyncpg.ObjectNotInPrerequisiteStateError) as refused:
                require_nothing_of_others(str(refused))  # the second one: a view cannot be written
    assert let_in == []


async def test_a_tenant_cannot_become_somebody_else(house: House) -> None:
    """Neither by SET ROLE nor by the setting behind it; tried where it is a login of its own."""
    if not house.native:
        pytest.skip("the embedded engine has one session, which can take off any role")
    async with house.enter(house.login) as connection:
        for attack in REFUSED_TO_A_LOGIN.values():
            with pytest.raises(FORBIDDEN):
                await connection.execute(attack)
        # Its own group, and what it is without any: there is nothing more in either.
        for role in ("bbbmeter_tenant", house.role, "NONE"):
            await connection.execute(f"SET ROLE {role}")
            rows = await connection.fetch("SELECT * FROM meter.my_sample")
            assert {row["tenant_id"] for row in rows} <= {house.own}


async def test_no_chunk_or_inner_view_is_open(house: House) -> None:
    """What lies behind tables and rollups, in schemas that everybody may use, is refused too."""
    relations = await house.feed.pool.fetch(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relname ~ '^my_' AS own "
        "FROM pg_class AS c INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid "
        "WHERE c.relkind IN ('r', 'v', 'p', 'm') AND (n.nspname = 'meter' "
        "OR (n.nspname = '_timescaledb_internal' AND c.relname ~ 'hyper|view|chunk'))"
    )
    assert len([name for name, _ in relations if "_timescaledb_internal" in name]) > 20
    let_in = []
    async with house.enter(house.login) as connection:
        for name, own in relations:
            if own:
                continue
            try:
                await connection.execute(f"SELECT * FROM {name}")  # noqa: S608
                let_in.append(name)
            except (FORBIDDEN, asyncpg.InternalServerError) as refused:  # or it cannot be planned
                require_nothing_of_others(str(refused))
        assert let_in == []
        open_to_it = await connection.fetch(
            "SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'meter'::regnamespace "
            "AND has_function_privilege(p.oid, 'EXECUTE') ORDER BY 1"
        )
        assert {row[0] for row in open_to_it} == {
            "my_coverage",
            "my_tenants",
            "my_usage",
            "my_contract",
            *VIEWS,
        }
        assert await connection.fetchval("SELECT count(*) FROM pg_largeobject_metadata") == 0


def require_nothing_of_others(text: str) -> None:
    """It holds neither names nor figures of another tenant."""
    assert not [mark for mark in OF_OTHERS if mark in text], text


# Each may answer, or fail; but neither answer, nor error, nor notice may tell of others.
LEAKS = {
    "everything": [f"SELECT * FROM meter.{view}" for view in VIEWS],  # noqa: S608
    "a function that tells": [
        (
            "CREATE FUNCTION pg_temp.leak(anything text) RETURNS boolean LANGUAGE plpgsql "
            "COST 0.0000001 AS $$ BEGIN RAISE NOTICE '%', anything; RETURN TRUE; END $$"
        ),
        *(f"SELECT * FROM meter.{view} AS x WHERE pg_temp.leak(x::text)" for view in VIEWS),  # noqa: S608
    ],
    "an operator that tells": [
        (
            "CREATE FUNCTION pg_temp.same(a integer, b integer) RETURNS boolean LANGUAGE plpgsql "
            "AS $$ BEGIN RAISE NOTICE '% %', a, b; RETURN TRUE; END $$"
        ),
        (
            "CREATE OPERATOR pg_temp.=== "
            "(FUNCTION = pg_temp.same, LEFTARG = integer, RIGHTARG = integer)"
        ),
        "SELECT * FROM meter.my_sample WHERE participants::integer OPERATOR(pg_temp.===) 1",
    ],
    "a cast that fails": ["SELECT * FROM meter.my_room WHERE external_id::integer = 1"],
    "an error that tells": [
        "SELECT * FROM meter.my_sample WHERE 1 / (participants - 7777) > 0",
        "SELECT * FROM meter.my_session WHERE (1 / (max_participants - 8888)) IS NOT NULL",
        "SELECT count(*) FROM meter.my_usage_1m WHERE (1 / (max_session_size - 7777)) IS NOT NULL",
    ],
    "tables in its own schema": [
        "CREATE TEMPORARY TABLE tenant_role (role text, tenant_id integer)",
        "INSERT INTO tenant_role SELECT current_user, g FROM generate_series(1, 9) AS g",
        "SET search_path = pg_temp, meter, public",
        "SELECT meter.my_tenants()",
        "SELECT * FROM meter.my_usage('2026-03-02', '2026-03-04')",
    ],
    "functions in its own schema": [
        (
            "CREATE FUNCTION pg_temp.pg_has_role(name, oid, text) RETURNS boolean "
            "LANGUAGE sql AS 'SELECT TRUE'"
        ),
        (
            "CREATE FUNCTION pg_temp.to_regrole(text) RETURNS regrole "
            "LANGUAGE sql AS 'SELECT ''postgres''::regrole'"
        ),
        "SET search_path = pg_temp, pg_catalog, public",
        "SELECT meter.my_tenants()",
        "SELECT * FROM meter.my_sample",
        "SELECT * FROM meter.my_usage('2026-03-02', '2026-03-04')",
    ],
    "a bad period": [
        "SELECT * FROM meter.my_usage('2026-03-02', '2026-03-04', 'week')",
        "SELECT * FROM meter.my_usage('1900-01-01 00:00:30', '2026-03-04')",
        "SELECT * FROM meter.my_coverage('2026-03-02', '2026-03-04', 'day')",
    ],
    "statistics": [
        "SELECT x::text FROM pg_stats AS x",
        "SELECT x::text FROM pg_stats_ext AS x",
        "SELECT query, client_addr FROM pg_stat_activity",
        "SELECT x::text FROM pg_sequences AS x",
        "SELECT x::text FROM pg_prepared_xacts AS x",
        "SELECT x::text FROM pg_cursors AS x",
    ],
    "catalogs": [
        "SELECT x::text FROM timescaledb_information.hypertables AS x",
        "SELECT x::text FROM timescaledb_information.jobs AS x",
        "SELECT x::text FROM timescaledb_information.job_errors AS x",
        "SELECT x::text FROM timescaledb_information.job_history AS x",
        "SELECT hypertable_name, range_start FROM timescaledb_information.chunks",
        "SELECT rolname, rolpassword FROM pg_roles",
        "SELECT nspname FROM pg_namespace",
        "SELECT prosrc FROM pg_proc WHERE pronamespace = 'meter'::regnamespace",
        "SELECT obj_description(oid) FROM pg_class",
        "SELECT datname FROM pg_database",
        "SELECT setconfig FROM pg_db_role_setting",
        "SELECT x::text FROM information_schema.columns AS x WHERE table_schema = 'meter'",
    ],
}


async def test_a_tenant_learns_nothing_of_others(house: House) -> None:
    """Whatever it asks, what comes back has its own rows in it and no name or figure of others."""
    for attack, statements in LEAKS.items():
        said: list[str] = []
        async with house.enter(house.login) as connection:
            connection.add_log_listener(lambda _, notice, said=said: said.append(str(notice)))
            for statement in statements:
                try:
                    rows = await connection.fetch(statement)
                except asyncpg.PostgresError as error:
                    said.append(str(error.as_dict()))
                    continue
                said += [str(tuple(row.values())) for row in rows]
                assert {row["tenant_id"] for row in rows if "tenant_id" in row} <= {house.own}
            await clean(connection)
        if attack != "statistics":
            assert said, f"{attack}: nothing was tried"
        # Sizes and object ids can have any digits: figures are looked for where rows are asked for.
        marks = OF_OTHERS[:4] if attack in {"statistics", "catalogs"} else OF_OTHERS
        leaks = [line for line in said if any(mark in line for mark in marks)]
        assert leaks == [], attack


async def clean(connection: asyncpg.Connection) -> None:
    """Take away what the attack made: in the embedded engine, the session goes on."""
    await connection.execute("RESET search_path")
    await connection.execute("DISCARD TEMP")


async def test_what_the_owner_asks_is_not_shown(house: House) -> None:
    """Another's statement, which could hold names, does not show in pg_stat_activity."""
    async with house.feed.pool.acquire() as owner, house.enter(house.login) as connection:
        await owner.fetch("SELECT name FROM meter.tenant WHERE name = 'lawyers'")
        shown = await connection.fetch(
            "SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        )
        require_nothing_of_others(repr(shown))


# -- a collector and a reader -------------------------------------------------------------------

OF_NEITHER = (
    "DELETE FROM meter.poll",
    "DELETE FROM meter.session",
    "UPDATE meter.sample SET participants = 0",
    "UPDATE meter.poll SET ok = TRUE",
    "TRUNCATE meter.sample",
    "DROP TABLE meter.sample",
    "DROP VIEW meter.my_sample",
    "ALTER TABLE meter.poll DROP COLUMN error",
    "CREATE TABLE meter.mine (a integer)",
    "CREATE FUNCTION meter.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE ROLE mallory",
    "GRANT bbbmeter_tenant TO CURRENT_USER",
    "INSERT INTO meter.tenant_role VALUES ('bbbmeter_reader', 1)",
    "SELECT * FROM meter.tenant_role",
    "SELECT * FROM meter.my_usage(now(), now())",
    "UPDATE meter.migration SET sha256 = ''",
    "UPDATE meter.setting SET value = ''",
    "SELECT public.drop_chunks('meter.sample', older_than => now())",
    "SELECT meter.set_retention('meter.sample', 1)",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
)


@pytest.mark.parametrize("role", ["bbbmeter_reader", "bbbmeter_writer"])
async def test_neither_reader_nor_writer_unmakes_anything(
    house: House, logins: Iterator[str], role: str
) -> None:
    """Nobody who reads or collects can delete, change what was polled, or make anything."""
    login = await make_login(house.feed, next(logins), role)
    before = await house.feed.pool.fetchval("SELECT count(*) FROM meter.sample")
    async with house.enter(login) as connection:
        for attack in OF_NEITHER:
            with pytest.raises(FORBIDDEN):
                await connection.execute(attack)
        writes = [
            "INSERT INTO meter.poll SELECT * FROM meter.poll LIMIT 0",
            "UPDATE meter.tenant SET title = '' WHERE FALSE",
        ]
        for statement in writes:
            if role == "bbbmeter_writer":
                await connection.execute(statement)
            else:
                with pytest.raises(FORBIDDEN):
                    await connection.execute(statement)
    assert await house.feed.pool.fetchval("SELECT count(*) FROM meter.sample") == before
