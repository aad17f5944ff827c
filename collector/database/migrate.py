"""The schema is brought up to date: run-once files with a ledger, and files that run every time.

Everything happens in one transaction behind a lock. So an upgrade is complete or has no effect, and
several machines may try it at once.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import asyncpg
import structlog

from collector.database.days import (
    BAKED,
    DAYS_FILES,
    check_baked,
    compute_days,
    days_finished,
    drop_days,
    hour_of,
    unfinished_days,
)
from collector.database.pool import Connection, translated
from collector.database.timescale import look
from collector.errors import MigrationError
from collector.rollups import ROLLUPS
from collector.settings import Settings

log = structlog.get_logger(__name__)
T = TypeVar("T")

_LOCK = 0x6262626D65746572  # "bbbmeter" in ASCII: the key of the advisory lock
# Attempts while policies or collectors hold locks, and the pause between two of them.
_TRIES = 60
_TRY_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class SqlFile:
    """One file of the schema; `sha256` is of its text before settings are filled in."""

    name: str
    text: str
    sha256: str


def schema_dir() -> Path:
    """Return the folder of the SQL: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    packaged = package / "_schema"
    return packaged if packaged.is_dir() else package.parent / "schema"


def sql_files(folder: str) -> list[SqlFile]:
    """Return the files of `migrations` or `current`, in order."""
    return [
        SqlFile(path.name, text := path.read_text(encoding="utf-8"), _sha256(text))
        for path in sorted((schema_dir() / folder).glob("*.sql"))
    ]


def render(text: str, variables: Mapping[str, str]) -> str:
    """Fill the settings into a file's `${…}` placeholders. Raises KeyError for an unknown one."""
    return re.sub(r"\$\{(\w+)\}", lambda match: variables[match[1]], text)


def variables_of(settings: Settings) -> dict[str, str]:
    """Return the SQL texts for the schema's `${…}` placeholders."""
    return {
        "billing_timezone": _literal(settings.billing_timezone),
        "default_tenant": _literal(settings.attribution.default),
        "hour": hour_of(settings.billing_timezone),
        "large_session_participants": str(settings.large_session_participants),
        **{f"retention_{k}": str(v) for k, v in settings.retention},
        "refresh_policies": _values(
            (
                f"'{r.name}'",
                _sql(settings.refresh_days(r)),
                _sql(r.grain.delay),
                _sql(r.grain.every),
            )
            for r in ROLLUPS.values()
        ),
        "columnstore_policies": _values(
            (f"'{relation}'", str(days)) for relation, days in settings.columnstore_days.items()
        ),
        "retention_policies": _values(
            (f"'{relation}'", str(days)) for relation, days in settings.kept_days.items()
        ),
    }


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql(value: timedelta | int | None) -> str:
    if value is None:
        return "NULL"
    return f"interval '{value}'" if isinstance(value, timedelta) else str(value)


def _values(rows: Iterable[tuple[str, ...]]) -> str:
    """Return `rows` of SQL texts as what follows VALUES."""
    return ", ".join(f"({', '.join(row)})" for row in rows)


async def migrate(
    connection: Connection,
    settings: Settings,
    *,
    dry_run: bool = False,
    rebuild_days: bool = False,
) -> list[str]:
    """Bring the database to this version and these settings; return the applied run-once files.

    With `dry_run` nothing is changed. With `rebuild_days` the day rollups are rebuilt if the
    billing time zone or the size of a large session has changed.
    Raises MigrationError; then nothing was changed.
    """
    await _require_timescaledb(connection, create=not dry_run)

    async def attempt() -> list[SqlFile]:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            missing = _missing(await _ledger(connection))
            rebuilding = await check_baked(connection, settings, rebuild_days=rebuild_days)
            if not dry_run:
                await _apply(connection, settings, missing, rebuilding=rebuilding)
            return missing

    with translated("migrate"):
        missing = await _in_peace(attempt)
        if not dry_run:
            for rollup in await unfinished_days(connection):
                await _in_peace(partial(compute_days, connection, rollup))
            await days_finished(connection)
    return [file.name for file in missing]


async def missing_files(connection: Connection) -> list[str]:
    """Return the run-once files that the database lacks.

    Raises MigrationError where its ledger does not fit this version.
    """
    with translated("read the schema's version"):
        return [file.name for file in _missing(await _ledger(connection))]


async def require_current(connection: Connection) -> None:
    """Raise MigrationError unless the database has exactly this version's run-once files."""
    if missing := await missing_files(connection):
        msg = f"the database lacks {', '.join(missing)}: run `bbbmeter migrate`"
        raise MigrationError(msg)


async def _require_timescaledb(connection: Connection, *, create: bool) -> None:
    """Raise MigrationError without TimescaleDB's Community edition; first `create` the extension.

    With `create` false, a database without the extension is accepted.
    """
    found = await look(connection)
    if found.timescaledb is None:
        if not create:
            return  # a dry run shows what would happen after the extension was added
        with translated("add TimescaleDB"):
            try:
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
            except asyncpg.PostgresError as error:
                msg = (
                    "the database has no extension timescaledb, and bbbmeter could not create it: "
                    f"{error}"
                )
                raise MigrationError(msg) from error
        found = await look(connection)
    if found.refusal is not None:
        raise MigrationError(found.refusal)


async def _ledger(connection: Connection) -> dict[str, str]:
    """Return {file name: sha256} of the applied files; empty in a new database."""
    if await connection.fetchval("SELECT to_regclass('meter.migration')") is None:
        return {}
    rows = await connection.fetch("SELECT name, sha256 FROM meter.migration")
    return {row["name"]: row["sha256"] for row in rows}


def _missing(applied: Mapping[str, str]) -> list[SqlFile]:
    """Return the run-once files that are not applied yet.

    Raises MigrationError if a file was applied that this version does not have, or has otherwise.
    """
    files = sql_files("migrations")
    unknown = sorted(applied.keys() - {file.name for file in files})
    if unknown:
        msg = (
            f"the database is newer than this bbbmeter: it has {', '.join(unknown)}; "
            "upgrade bbbmeter"
        )
        raise MigrationError(msg)
    for file in files:
        if applied.get(file.name, file.sha256) != file.sha256:
            msg = (
                f"{file.name} was applied with different content from this bbbmeter's: "
                "use the release that applied it, or a later one"
            )
            raise MigrationError(msg)
    return [file for file in files if file.name not in applied]


async def _apply(
    connection: Connection, settings: Settings, missing: list[SqlFile], *, rebuilding: bool
) -> None:
    variables = variables_of(settings)
    await connection.execute("CREATE SCHEMA IF NOT EXISTS meter")
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS meter.migration (name text PRIMARY KEY, "
        "sha256 text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )
    if rebuilding:
        await drop_days(connection)
        for file in sql_files("migrations"):
            if file.name.endswith(DAYS_FILES) and file not in missing:
                await _execute(connection, file, variables)
    for file in missing:
        await _execute(connection, file, variables)
        await connection.execute(
            "INSERT INTO meter.migration (name, sha256) VALUES ($1, $2)", file.name, file.sha256
        )
    for file in sql_files("current"):
        await _execute(connection, file, variables)
    await connection.executemany(
        "INSERT INTO meter.setting (key, value) VALUES ($1, $2) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [(key, str(getattr(settings, key))) for key in BAKED],
    )


async def _execute(connection: Connection, file: SqlFile, variables: Mapping[str, str]) -> None:
    try:
        await connection.execute(render(file.text, variables))
    except asyncpg.DeadlockDetectedError:
        raise
    except asyncpg.PostgresError as error:
        msg = f"{file.name}: {error}"
        raise MigrationError(msg) from error
    log.debug("migration_applied", file=file.name)


async def _in_peace(attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `attempt`, repeated for about a minute if a lock is in its way.

    Policies and collectors hold locks that it needs, and may wait for locks that it holds.
    """
    for _ in range(_TRIES - 1):
        try:
            return await attempt()
        except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError) as error:
            log.info("migration_retried", reason=error.message)
            await asyncio.sleep(_TRY_PAUSE_S)
    return await attempt()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
