"""The database: connections, the embedded engine, the schema, and its maintenance.

`pool` lends connections and translates the driver's errors. `engine` runs the embedded
TimescaleDB. `migrate` brings the schema up to date. `upkeep` refreshes rollups, settles late data
and vacuums.
"""

from collector.database.pool import Connection, borrowed, open_pool, translated

__all__ = ["Connection", "borrowed", "open_pool", "translated"]
