"""`bbbmeter simulate`: run simulated BigBlueButton servers over HTTP, with faults."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from collector.simulator.command import SimulateOptions
from collector.simulator.command import simulate as simulate_fleet
from collector.simulator.faults import KINDS
from collector.simulator.server import SimulatedFleet


def simulate(
    servers: Annotated[int, typer.Option(help="Number of servers.")] = 4,
    tenants: Annotated[int, typer.Option(help="Number of tenants.")] = 6,
    sessions: Annotated[float, typer.Option(help="Mean number of concurrent sessions.")] = 24.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same fleet.")] = 1,
    speed: Annotated[float, typer.Option(help="Simulated seconds per real second.")] = 1.0,
    lively: Annotated[bool, typer.Option(help="Short sessions, for watching.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port of the first server; 0 takes any free ports.")
    ] = 0,
    balancer: Annotated[
        bool, typer.Option(help="All servers on one port, like tenants of a load balancer.")
    ] = False,
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=SERVER,…: a server that lists the meetings of others, e.g. lb=sim01,sim02. "
            "Can be repeated."
        ),
    ] = None,
    latency: Annotated[float, typer.Option(help="Real seconds before each answer.")] = 0.0,
    duration: Annotated[
        float | None, typer.Option(help="Seconds to run. Default: until SIGTERM.")
    ] = None,
    secret_file: Annotated[Path | None, typer.Option(help="File that holds the secret.")] = None,
    secret_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the secret.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="SERVER:KIND:FROM-UNTIL in seconds, e.g. sim02:http_502:20-40. Can be repeated. "
            f"Kinds: {', '.join(KINDS)}."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Write settings for the collector to this file.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="At the end, write the exact usage to this file as JSON.")
    ] = None,
) -> None:
    """Run simulated BigBlueButton servers over HTTP, with faults."""
    options = SimulateOptions(
        servers=servers,
        tenants=tenants,
        sessions=sessions,
        seed=seed,
        speed=speed,
        lively=lively,
        host=host,
        port=port,
        balancer=balancer,
        latency_s=latency,
        duration_s=duration,
        secret_file=secret_file,
        secret_env=secret_env,
        view=tuple(view or ()),
        fault=tuple(fault or ()),
        config=config,
        truth=truth,
    )

    def ready(simulated: SimulatedFleet) -> None:
        for name, url in simulated.urls.items():
            print(name, url, flush=True)

    asyncio.run(simulate_fleet(options, ready))
