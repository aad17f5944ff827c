"""`bbbmeter simulate`: run a simulated fleet, and write settings with which to poll it."""

import asyncio
import json
import secrets
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from collector.clock import SystemClock
from collector.errors import UsageError
from collector.settings.secrets import secret_from_env, secret_from_file
from collector.simulator import marks
from collector.simulator.faults import parse_fault
from collector.simulator.fleet import Fleet
from collector.simulator.plan import FleetPlan, sim_tenants
from collector.simulator.server import SimulatedFleet

_FIRST_LINE = "# Written by `bbbmeter simulate`: a simulated fleet, nothing real.\n"
_FOR_EVER = timedelta(days=3650)
_MOST_SERVERS = 1000
_MOST_TENANTS = 500
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """The options of `bbbmeter simulate`. Each field is the option with the same name.

    `sessions` is the mean number of concurrent sessions. `speed` is in simulated seconds per real
    second. `duration_s` is in real seconds; None means until SIGINT or SIGTERM. `port` is the port
    of the first server; 0 takes any free ports. With `balancer`, all servers have one port, like
    the tenants of a load balancer. `view` has texts such as `lb=sim01,sim02`: one more server,
    which lists the meetings of these, as a load balancer before them does. `latency_s` are real
    seconds before each answer. `fault` has texts such as `sim02:http_502:20-40`, in simulated
    seconds. `config` is the file to which settings for the collector are written. `truth` is the
    file to which the truth is written at the end. Without `secret_file` and `secret_env`, a new
    secret is generated and written to `config`.
    """

    servers: int = 4
    tenants: int = 6
    sessions: float = 24.0
    seed: int = 1
    speed: float = 1.0
    lively: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    balancer: bool = False
    latency_s: float = 0.0
    duration_s: float | None = None
    secret_file: Path | None = None
    secret_env: str | None = None
    view: tuple[str, ...] = field(default=())
    fault: tuple[str, ...] = field(default=())
    config: Path | None = None
    truth: Path | None = None


async def simulate(
    options: SimulateOptions, ready: Callable[[SimulatedFleet], None] | None = None
) -> None:
    """Run a simulated fleet for its duration or until SIGINT or SIGTERM.

    `ready` is called when all servers listen and the settings are written. Raises UsageError for
    options that are not valid, a port that cannot be used, or a file that cannot be read or
    written.
    """
    _check(options)
    secret = _secret(options)
    start = SystemClock().now()
    tenants = sim_tenants(options.tenants)
    make_plan = FleetPlan.lively if options.lively else FleetPlan
    plan = make_plan(
        seed=options.seed,
        start=start,
        end=start + _FOR_EVER,
        tenants=tenants,
        servers=options.servers,
        concurrent_sessions=options.sessions,
    )
    views = _views(options.view, plan.server_names)
    names = (*plan.server_names, *views)
    faults = [parse_fault(text, names, start) for text in options.fault]
    simulated = SimulatedFleet(
        Fleet(plan),
        secret=secret,
        host=options.host,
        base_port=options.port,
        balancer=options.balancer,
        views=views,
        speed=options.speed,
        latency_s=options.latency_s,
    )
    for fault in faults:
        simulated.fault(fault.server, fault.kind, fault.since, fault.until)
    try:
        with _stop(options.duration_s) as stopped:
            async with simulated:
                if options.config is not None:
                    text = settings_toml(simulated, _secret_key(options, secret))
                    _write(options.config, text)
                if ready is not None:
                    ready(simulated)
                await stopped.wait()
                until = simulated.now()
    except OSError as error:
        problem = f"cannot listen on {options.host}, port {options.port or 'any'}"
        raise UsageError([f"{problem}: {error.strerror or error}"], "simulate") from error
    if options.truth is not None:
        _write(options.truth, simulated.fleet.truth(start, until).to_json() + "\n")


@contextmanager
def _stop(duration_s: float | None) -> Iterator[asyncio.Event]:
    """Yield an event that is set after `duration_s` seconds, or on SIGINT or SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    timer = loop.call_later(duration_s, stopped.set) if duration_s is not None else None
    try:
        yield stopped
    finally:
        if timer is not None:
            timer.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _check(options: SimulateOptions) -> None:
    """Raise UsageError with every option that is not valid."""
    ports = 1 if options.balancer else options.servers + len(options.view)
    last_port = options.port + ports - 1
    problems = {
        f"servers: must be 1 to {_MOST_SERVERS}": not 1 <= options.servers <= _MOST_SERVERS,
        f"tenants: must be 1 to {_MOST_TENANTS}": not 1 <= options.tenants <= _MOST_TENANTS,
        "sessions: must be above 0": options.sessions <= 0,
        "speed: must be above 0": options.speed <= 0,
        "latency: must be 0 seconds or more": options.latency_s < 0,
        "duration: must be above 0 seconds": (
            options.duration_s is not None and options.duration_s <= 0
        ),
        f"port: must be 0, or leave room for all servers' ports up to {_LAST_PORT}": (
            options.port < 0 or (options.port > 0 and last_port > _LAST_PORT)
        ),
        "secret-file and secret-env: use only one of them": (
            options.secret_file is not None and options.secret_env is not None
        ),
        "needs one of secret-file, secret-env and config; otherwise the secret stays unknown": (
            options.secret_file is None and options.secret_env is None and options.config is None
        ),
    }
    found = [problem for problem, is_so in problems.items() if is_so]
    if options.config is not None and _is_foreign(options.config):
        found.append(
            f"config: {options.config} exists, but the simulator did not write it; "
            "choose another file"
        )
    if found:
        raise UsageError(found, "simulate")


def _is_foreign(path: Path) -> bool:
    """Say whether the file exists and was not written by the simulator."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline() != _FIRST_LINE
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UsageError([f"config: {path}: {error.strerror}"], "simulate") from error


def _secret(options: SimulateOptions) -> SecretStr:
    """Return the servers' secret from the options, or a new one."""
    if options.secret_env is not None:
        return secret_from_env(options.secret_env, "secret-env", "simulate")
    if options.secret_file is not None:
        return secret_from_file(options.secret_file, "secret-file", "simulate")
    return SecretStr(secrets.token_hex(32))


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, as it can contain the secret."""
    try:
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError([f"{path} cannot be written: {error.strerror}"], "simulate") from error


def _views(texts: tuple[str, ...], servers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the servers of each view. Raises UsageError."""
    views = dict(_view(text, servers) for text in texts)
    if len(views) < len(texts):
        raise UsageError(["two views have the same name: each needs its own"], "--view")
    return views


def _view(text: str, servers: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Return name and servers of a text such as `lb=sim01,sim02`. Raises UsageError."""
    name, _, listed = text.partition("=")
    shown = tuple(listed.split(","))
    known = set(shown) <= set(servers) and len(set(shown)) == len(shown)
    if not name or name in servers or not known:
        problem = (
            f"{text!r} is not NAME=SERVER,…, such as lb=sim01,sim02: a new name, and servers from "
            f"{servers[0]} to {servers[-1]}, each of them once"
        )
        raise UsageError([problem], "--view")
    return name, shown


def settings_toml(
    simulated: SimulatedFleet, secret: dict[str, str], head: Mapping[str, str | int] | None = None
) -> str:
    """Return a `bbbmeter.toml` with the servers, the tenants and the attribution rules.

    `secret` has one item: the key for the secret in the settings, and its value. `head` has further
    keys for the top of the file.
    """
    lines = [_FIRST_LINE]
    lines += [f"{key} = {_toml(value)}" for key, value in (head or {}).items()]
    for name, url in simulated.urls.items():
        lines += ["", "[[server]]", f"name = {_toml(name)}", f"url = {_toml(url)}"]
        lines += [f"{key} = {_toml(value)}" for key, value in secret.items()]
    tenants = simulated.fleet.plan.tenants
    for tenant in tenants:
        title = f"{tenant.name.capitalize()} ({tenant.mark})"
        lines += ["", "[[tenant]]", f"name = {_toml(tenant.name)}", f"title = {_toml(title)}"]
    lines += ["", "[attribution]", "rules = ["]
    lines += [f"  {_toml(rule)}," for rule in marks.attribution_rules(tenants)]
    return "\n".join([*lines, "]", ""])


def _secret_key(options: SimulateOptions, secret: SecretStr) -> dict[str, str]:
    """Return the settings' key for the secret and its value, according to the options."""
    if options.secret_env is not None:
        return {"secret_env": options.secret_env}
    if options.secret_file is not None:
        return {"secret_file": str(options.secret_file.resolve())}
    return {"secret": secret.get_secret_value()}


def _toml(value: str | int | dict[str, Any]) -> str:
    """Return a string, number or inline table in TOML. Strings are written as in JSON."""
    if isinstance(value, str | int):
        return json.dumps(value, ensure_ascii=False)
    pairs = ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items())
    return f"{{ {pairs} }}"
