"""`bbbmeter spool`: the batches that wait on disk, and those that the database rejected."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from collector.commands.options import Config, load
from collector.reports.render import REPORT_WIDTH
from collector.storage.spool import quarantine

app = typer.Typer(
    name="spool",
    help="Show waiting batches; retry or delete rejected ones.",
    no_args_is_help=True,
)

BatchId = Annotated[str, typer.Argument(help="Id of the batch from `spool list`, or `all`.")]


@app.command("list")
def list_(config: Config = None) -> None:
    """List the batches that wait in each collector's spool, and those in quarantine."""
    console = Console(width=max(REPORT_WIDTH, Console().width), highlight=False)
    print_spool(load(config).spool.directory, console)


@app.command()
def show(batch: BatchId, config: Config = None) -> None:
    """Print the rows of a batch in quarantine as JSON, one per line."""
    for line in quarantine.show_batch(load(config).spool.directory, batch):
        print(line)


@app.command()
def retry(batch: BatchId, config: Config = None) -> None:
    """Store a batch in quarantine again, after you fixed the reason for its rejection."""
    for one in quarantine.retry(load(config).spool.directory, batch):
        print(f"{one.id}: queued again; a running collector stores it")


@app.command()
def drop(batch: BatchId, config: Config = None) -> None:
    """Delete a batch in quarantine permanently. Its polls remain failed polls."""
    for one in quarantine.drop(load(config).spool.directory, batch):
        print(f"{one.id}: deleted ({one.reason})")


def print_spool(directory: Path, console: Console) -> None:
    """Print what waits in each slot, and each batch in quarantine with its id.

    Raises SpoolError if the spool cannot be read.
    """
    states = quarantine.spool_state(directory)
    if not states:
        console.print(Text(f"no spool in {directory}"))
        return
    table = _table("slot", "in use", ">batches", ">polls", ">samples", ">size", "ticks")
    for state in states:
        table.add_row(
            str(state.number),
            "yes" if state.in_use else "no",
            *(str(n) for n in (state.batches, state.polls, state.samples)),
            decimal(state.size_bytes),
            Text(state.problem, "red") if state.problem else _ticks(state.first, state.last),
        )
    console.print(table)
    refused = [batch for state in states for batch in state.quarantined]
    if not refused:
        console.print("nothing in quarantine")
        return
    table = _table("quarantine", "reason", "servers", ">polls", ">samples", "ticks")
    for batch in refused:
        table.add_row(
            batch.id,
            # Text, as a reason can contain text from outside, and rich would read `[` as markup.
            Text(batch.reason),
            Text(", ".join(batch.servers)),
            str(batch.polls),
            str(batch.samples),
            _ticks(batch.first, batch.last),
        )
    console.print(table)


def _ticks(first: datetime | None, last: datetime | None) -> Text:
    if first is None or last is None:
        return Text("-")
    # Show the day of the end only if it differs from the day of the beginning.
    end = f"{last:%H:%M:%S}" if last.date() == first.date() else f"{last:%Y-%m-%d %H:%M:%S}"
    return Text(f"{first:%Y-%m-%d %H:%M:%S} to {end} UTC")


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"), justify="right" if right else "left", overflow="fold"
        )
    return table
