"""Checks which TimescaleDB a database has, and whether bbbmeter can use it."""

from dataclasses import dataclass

from collector.database.pool import Connection, translated

_FOUND = """
SELECT
    current_setting('server_version') AS postgres,
    (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb') AS timescaledb,
    current_setting('timescaledb.license', TRUE) AS license
"""
_EDITIONS = {"timescale": "Community", "apache": "Apache"}


@dataclass(frozen=True, slots=True)
class Found:
    """The versions of a database. `timescaledb` is None without the extension.

    `license` is TimescaleDB's setting; None unless its library is loaded.
    """

    postgres: str
    timescaledb: str | None
    license: str | None

    @property
    def refusal(self) -> str | None:
        """The reason why bbbmeter cannot use this database; None if it can."""
        if self.timescaledb is None:
            return "this database has no TimescaleDB yet: run `bbbmeter migrate`, which adds it"
        if self.license == "apache":
            return (
                "this database has TimescaleDB's Apache edition, which has no continuous "
                "aggregates: install the Community edition (timescaledb.license = 'timescale')"
            )
        return None

    def __str__(self) -> str:
        """Return the versions as one line of text."""
        text = f"PostgreSQL {self.postgres.split()[0]}"
        if self.timescaledb is None:
            return text
        edition = _EDITIONS.get(self.license or "", self.license or "unknown")
        return f"{text}, TimescaleDB {self.timescaledb}, {edition} edition"


async def look(connection: Connection) -> Found:
    """Return the versions of the database. Raises DatabaseError."""
    with translated("look for TimescaleDB"):
        row = await connection.fetchrow(_FOUND)
    assert row is not None  # noqa: S101 - a SELECT without FROM always has a row
    return Found(row["postgres"], row["timescaledb"], row["license"])
