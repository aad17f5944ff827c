"""`bbbmeter simulate`: run a simulated fleet over HTTP, with faults."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from collector.simulator.command import SimulateOptions
from collector.simulator.command import simulate as simulate_fleet
from collector.simulator.server import SimulatedFleet


def simulate(
    servers: Annotated[int, typer.Option(help="How many servers.")] = 4,
    tenants: Annotated[int, typer.Option(help="How many tenants.")] = 6,
    sessions: Annotated[float, typer.Option(help="Sessions at a time, on average.")] = 24.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 1,
    speed: Annotated[float, typer.Option(help="Simulated seconds a second.")] = 1.0,
    lively: Annotated[bool, typer.Option(help="Sessions of minutes, to look at.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The first server's port; 0: any free ones.")] = 0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds until it ends; by default until SIGTERM.")
    ] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File with the secret.")] = None,
    secret_env: Annotated[str | None, typer.Option(help="Variable with the secret.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="server:kind:from-to in seconds, e.g. sim02:http_502:20-40; repeatable."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Write settings for the collector to this file.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Write the truth here at the end.")] = None,
) -> None:
    """Run a simulated fleet over HTTP, with faults, and tell the truth about it."""
    options = SimulateOptions(
        servers=servers,
        tenants=tenants,
        sessions=sessions,
        seed=seed,
        speed=speed,
        lively=lively,
        host=host,
        port=port,
        duration_s=duration,
        secret_file=secret_file,
        secret_env=secret_env,
        fault=tuple(fault or ()),
        config=config,
        truth=truth,
    )

    def ready(simulated: SimulatedFleet) -> None:
        for name, url in simulated.urls.items():
            print(name, url, flush=True)

    asyncio.run(simulate_fleet(options, ready))
