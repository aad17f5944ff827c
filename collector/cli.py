"""The command line, `bbbmeter COMMAND`. Each command is a module of `collector.commands`."""

import sys
from typing import Annotated

import typer

from collector import __version__
from collector.commands import (
    check,
    demo,
    init,
    migrate,
    psql,
    report,
    run,
    simulate,
    spool,
    tenant,
    verify,
)
from collector.errors import BbbmeterError

app = typer.Typer(
    name="bbbmeter",
    help="Usage metering for BigBlueButton fleets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(init.init)
app.command()(check.check)
app.command()(migrate.migrate)
app.command()(run.run)
app.command()(report.report)
app.command()(verify.verify)
app.add_typer(spool.app)
app.add_typer(tenant.app)
app.command()(psql.psql)
app.command()(demo.demo)
app.command()(simulate.simulate)


def main() -> None:
    """Run the command line. A BbbmeterError ends it with its message and exit code 2."""
    try:
        app()
    except BbbmeterError as error:
        print(f"bbbmeter: {error}", file=sys.stderr)
        sys.exit(2)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        print(f"bbbmeter {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Usage metering for BigBlueButton fleets."""
