"""`bbbmeter tenant grant-sql`: print SQL that gives a tenant a database role of its own."""

import asyncio
from typing import Annotated

import typer

from collector.commands.options import Config, load
from collector.database import open_pool
from collector.database.roles import grant_sql as grant_statements
from collector.database.roles import revoke_sql as revoke_statements
from collector.database.roles import role_of

app = typer.Typer(name="tenant", help="Database roles of tenants.", no_args_is_help=True)


@app.command("grant-sql")
def grant_sql(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    role: Annotated[
        str | None, typer.Option(help="The role; by default its present one, or one by number.")
    ] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Print what takes it away.")] = False,
    config: Config = None,
) -> None:
    """Print SQL that lets a role of the database see one tenant's rows; it changes nothing."""
    settings = load(config)

    async def work() -> str:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            return await role_of(connection, tenant)

    # Also with a role given: the tenant must be there.
    known = asyncio.run(work())
    try:
        if revoke:
            print(revoke_statements(tenant, role or known), end="")
        else:
            print(grant_statements(tenant, role or known), end="")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
