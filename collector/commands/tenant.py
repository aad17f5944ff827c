"""`bbbmeter tenant grant-sql`: print SQL that gives a tenant its own database role."""

import asyncio
from typing import Annotated

import typer

from collector.commands.options import Config, load
from collector.database import open_pool
from collector.database.roles import grant_sql as grant_statements
from collector.database.roles import revoke_sql as revoke_statements
from collector.database.roles import role_of

app = typer.Typer(
    name="tenant", help="Give tenants database roles of their own.", no_args_is_help=True
)


@app.command("grant-sql")
def grant_sql(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    role: Annotated[
        str | None,
        typer.Option(help="Name of the role. Default: the tenant's role, or one with its number."),
    ] = None,
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Print SQL that removes the role's access.")
    ] = False,
    config: Config = None,
) -> None:
    """Print SQL that lets a database role read one tenant's rows. It changes nothing itself."""
    settings = load(config)

    async def work() -> str:
        database = settings.database.get_secret_value()
        async with open_pool(database, max_size=1) as pool, pool.acquire() as connection:
            return await role_of(connection, tenant)

    # Called even if a role is given, as it raises an error for an unknown tenant.
    known = asyncio.run(work())
    try:
        if revoke:
            print(revoke_statements(tenant, role or known), end="")
        else:
            print(grant_statements(tenant, role or known), end="")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
