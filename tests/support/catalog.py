"""The schema of bbbmeter as the database's catalog describes it."""

from typing import Any

import asyncpg

_CATALOG = {
    "columns": """
        SELECT c.relname, c.relkind::text, a.attnum, a.attname, a.attnotnull, a.attidentity::text,
            format_type(a.atttypid, a.atttypmod) AS type, pg_get_expr(d.adbin, d.adrelid) AS def
        FROM pg_class AS c
        INNER JOIN pg_attribute AS a ON c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_attrdef AS d ON c.oid = d.adrelid AND a.attnum = d.adnum
        WHERE c.relnamespace = 'meter'::regnamespace ORDER BY c.relname, a.attnum
    """,
    "grants": """
        SELECT c.relname, c.relacl::text FROM pg_class AS c
        WHERE c.relnamespace = 'meter'::regnamespace ORDER BY c.relname
    """,
    "indexes": "SELECT * FROM pg_indexes WHERE schemaname = 'meter' ORDER BY indexname",
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) AS def
        FROM pg_constraint WHERE connamespace = 'meter'::regnamespace ORDER BY 1, 2
    """,
    "views": "SELECT * FROM pg_views WHERE schemaname = 'meter' ORDER BY viewname",
    "functions": """
        SELECT pg_get_functiondef(oid) AS def, proacl::text
        FROM pg_proc WHERE pronamespace = 'meter'::regnamespace ORDER BY proname
    """,
    "comments": """
        SELECT x.classoid::regclass::text, x.objsubid, x.description FROM pg_description AS x
        LEFT JOIN pg_class AS c ON x.objoid = c.oid AND x.classoid = 'pg_class'::regclass
        LEFT JOIN pg_proc AS p ON x.objoid = p.oid AND x.classoid = 'pg_proc'::regclass
        WHERE coalesce(c.relnamespace, p.pronamespace) = 'meter'::regnamespace ORDER BY 3, 1, 2
    """,
    "rollups": """
        SELECT view_name, materialized_only, compression_enabled, view_definition
        FROM timescaledb_information.continuous_aggregates ORDER BY 1
    """,
    "hypertables": """
        SELECT hypertable_name, num_dimensions, compression_enabled
        FROM timescaledb_information.hypertables WHERE hypertable_schema = 'meter' ORDER BY 1
    """,
    "policies": """
        SELECT coalesce(v.view_name, j.hypertable_name) AS relation, j.proc_name,
            j.schedule_interval, (j.config - 'mat_hypertable_id' - 'hypertable_id')::text AS config
        FROM timescaledb_information.jobs AS j
        LEFT JOIN timescaledb_information.continuous_aggregates AS v
            ON j.hypertable_name = v.materialization_hypertable_name
        WHERE j.job_id >= 1000 AND j.hypertable_name IS NOT NULL ORDER BY 1, 2
    """,
    "ledger": "SELECT name, sha256 FROM meter.migration ORDER BY name",
    "settings": "SELECT * FROM meter.setting ORDER BY key",
}


async def catalog(connection: asyncpg.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Return all objects of the schema, so that two schemas can be compared."""
    return {k: [tuple(r) for r in await connection.fetch(q)] for k, q in _CATALOG.items()}
