"""A run with many faults, which shows whether data are lost, doubled or wrong: `make chaos`.

It has a simulated fleet, and two collectors that each reach a real database through a proxy. A seed
decides the faults. At the end, every due tick must be stored once or be missing for a known reason,
and the tenants' minutes must match the truth. The database is an embedded engine, or a new database
on the server of BBBMETER_TEST_DSN.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import asyncpg
import structlog

from collector.settings.file import load_settings
from tests.chaos.account import Account, take_account
from tests.chaos.database import Database, EmbeddedDatabase, ServerDatabase
from tests.chaos.page import Outcome, as_markdown, page
from tests.chaos.plan import make_plan
from tests.chaos.world import Hit, World, fleet_plan, world

COLLECTORS = ("one", "two")
# Maximum resident memory in MiB. A collector needs about 80, the embedded engine about 900.
MOST_MIB = {"one": 200, "two": 200, "engine": 2048}
_VERIFY_DEADLINE_S = 300.0
_PROMPT_VERIFY = Path(__file__).parent / "prompt_verify.py"
# If a process ends by itself within this time after a fault, the fault may be the cause.
_AFTERMATH_S = 10.0


async def run(folder: Path, seed: int, seconds: int, servers: int) -> Outcome:
    """Run everything in `folder`; faults happen for `seconds` seconds, the end takes a minute."""
    task = asyncio.current_task()
    assert task is not None
    # So that SIGTERM also ends all processes.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    dsn = os.environ.get("BBBMETER_TEST_DSN")
    database: Database = ServerDatabase(dsn) if dsn else EmbeddedDatabase(folder)
    async with world(folder, database, partial(fleet_plan, seed, servers), COLLECTORS) as here:
        faults = make_plan(seed, seconds, COLLECTORS, here.fleet.fleet.plan.server_names)
        await here.begin()
        _say(f"faults for {seconds} s on {servers} servers, {database.name} database, seed {seed}")
        await here.suffer(faults, seconds)
        _say("the faults are over")
        calm_s = await here.calm_down()
        until = await here.end()
        _say(f"at rest after {calm_s:.0f} s; taking account")
        settings = load_settings(folder / "direct.toml")
        account = await take_account(
            database.dsn(), settings, here.fleet.fleet, until, folder, here.hits
        )
        await database.run_policies()
        clean, verify = await _verify(folder / "direct.toml")
        problems = [*here.defects, *account.problems]
        if not clean:
            problems.append("`bbbmeter verify` is not clean")
        peak_mib = {process.name: process.peak_mib for process in here.processes()}
        problems += [
            f"{name} took {mib:.0f} MiB of memory"
            for name, mib in peak_mib.items()
            if mib > MOST_MIB[name]
        ]
        return Outcome(
            seed=seed,
            seconds=seconds,
            servers=servers,
            database=database.name,
            version=await _version(database.dsn()),
            injected=dict(Counter(hit.kind for hit in here.hits)),
            survived=dict(Counter(hit.kind for hit in here.hits if _survived(hit, here, account))),
            account=account,
            calm_s=calm_s,
            peak_mib=peak_mib,
            starts={process.name: process.starts for process in here.processes()},
            verify=verify,
            problems=problems,
            hits=here.hits,
        )


def _survived(hit: Hit, here: World, account: Account) -> bool:
    """Return whether polls were stored after a fault, and no process ended by itself meanwhile."""
    died = any(
        hit.began <= at <= hit.ended + _AFTERMATH_S
        for process in here.processes()
        for at, _ in process.unexpected
    )
    last = account.last_tick
    return not died and last is not None and last.timestamp() >= hit.ended


async def _verify(config: Path) -> tuple[bool, str]:
    """Run `bbbmeter verify`; return whether it is clean, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(_PROMPT_VERIFY), "verify", "-c", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), _VERIFY_DEADLINE_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        return False, "no answer in time"
    return process.returncode == 0, said.decode(errors="replace")


async def _version(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        version: str = await connection.fetchval(
            "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
        )
    finally:
        await connection.close()
    return version


def _say(text: str) -> None:
    now = datetime.now(UTC).strftime("%H:%M:%S")
    print(f"{now} {text}", file=sys.stderr, flush=True)  # noqa: T201


def main() -> None:
    """Run it and print the tables; the exit code is 1 if something is wrong."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="duration of the faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--servers", type=int, default=12)
    parser.add_argument("--out", type=Path, help="write the figures to this file, as JSON")
    parser.add_argument("--logs", type=Path, help="work in this directory and keep it")
    parser.add_argument("--write-docs", type=Path, metavar="PATH", help="write the page, if good")
    options = parser.parse_args()
    began = time.monotonic()
    if options.logs is not None:
        options.logs.mkdir(parents=True)
        outcome = asyncio.run(run(options.logs, options.seed, options.seconds, options.servers))
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcome = asyncio.run(run(Path(folder), options.seed, options.seconds, options.servers))
    print("\n".join(as_markdown(outcome)))  # noqa: T201
    print(f"\n{outcome.verify}")  # noqa: T201
    if options.out is not None:
        options.out.write_text(outcome.to_json() + "\n", encoding="utf-8")
    for problem in outcome.problems:
        _say(f"WRONG: {problem}")
    _say(f"{len(outcome.problems)} problems, in {time.monotonic() - began:.0f} s")
    if options.write_docs is not None and not outcome.problems:
        options.write_docs.write_text(page(outcome), encoding="utf-8")
    sys.exit(bool(outcome.problems))


if __name__ == "__main__":
    main()
