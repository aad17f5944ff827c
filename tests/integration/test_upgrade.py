"""From the schema of each version that was released, or is about to be, to today's.

`tests/upgrade/<version>/schema` is a copy of the folder `schema` of that version. It never changes.
"""

import re
from pathlib import Path

import asyncpg
import pytest

from collector.database import migrate as migration
from collector.database.migrate import migrate, require_current
from collector.rollups import ROLLUPS, TABLES_KEPT_AS
from tests.support.catalog import catalog
from tests.support.repository import ROOT
from tests.support.settings import make_settings

VERSIONS = sorted(path.parent for path in (ROOT / "tests" / "upgrade").glob("*/schema"))


def test_there_is_a_version_to_upgrade_from() -> None:
    """The tests below have something to do."""
    assert VERSIONS


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_released_migrations_are_frozen(version: Path) -> None:
    """A run-once file never changes: databases have applied it, and know its SHA-256."""
    for released in sorted((version / "schema" / "migrations").glob("*.sql")):
        assert (ROOT / "schema" / "migrations" / released.name).read_bytes() == (
            released.read_bytes()
        ), released.name


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
async def test_an_upgrade_gives_the_schema_of_a_new_database(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, version: Path
) -> None:
    """Tables, rollups, functions, comments, grants and policies are the same, and it is current."""
    # Rolled back and not dropped: the jobs of a schema that exists can be running.
    await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    transaction = connection.transaction()
    await transaction.start()
    await migrate(connection, make_settings())
    fresh = await catalog(connection)
    await transaction.rollback()
    with monkeypatch.context() as patch:
        patch.setattr(migration, "schema_dir", lambda: version / "schema")
        # The policies of that version.
        text = "".join(path.read_text() for path in (version / "schema").rglob("*.sql"))
        for names in (ROLLUPS, TABLES_KEPT_AS):
            for name in [name for name in names if f"meter.{name}" not in text]:
                patch.delitem(names, name)
        await migrate(connection, make_settings())
    await migrate(connection, make_settings())
    await require_current(connection)
    upgraded = await catalog(connection)
    for part, rows in fresh.items():
        assert _without_numbers(upgraded[part]) == _without_numbers(rows), part


def _without_numbers(rows: list[tuple[object, ...]]) -> list[str]:
    """Return rows without the numbers that the database gives to hypertables."""
    return [re.sub(r"(_hypertable_|cagg_watermark\()\d+", r"\1", repr(row)) for row in rows]
