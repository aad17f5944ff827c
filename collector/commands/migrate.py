"""`bbbmeter migrate`: update the database to this version and these settings."""

import asyncio
from typing import Annotated

import typer

from collector.commands.options import Config, load
from collector.database import open_pool
from collector.database.migrate import migrate as migrate_database


def migrate(
    config: Config = None,
    dry_run: Annotated[bool, typer.Option(help="Only print what would change.")] = False,
    rebuild_days: Annotated[
        bool,
        typer.Option(
            help="Rebuild the daily rollups after a change of billing_timezone or "
            "large_session_participants."
        ),
    ] = False,
) -> None:
    """Update the database to this version and these settings."""
    settings = load(config)

    async def work() -> list[str]:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            return await migrate_database(
                connection, settings, dry_run=dry_run, rebuild_days=rebuild_days
            )

    names = asyncio.run(work())
    verb = "would apply" if dry_run else "applied"
    print(f"{verb} {', '.join(names)}" if names else "the tables are up to date")
    print(
        "views, functions and policies "
        + ("would be" if dry_run else "were")
        + " set from the settings"
    )
