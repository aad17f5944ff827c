"""Measures BBBLB's own poller with POLL_STATS over the same number of ticks.

    PYTHON -m tests.bench.bbblb prepare|poll FOLDER DSN TICKS INTERVAL

It needs a Python with `bbblb`, `greenlet` and `asyncpg` (Python 3.13), not bbbmeter's. `prepare`
creates BBBLB's tables, and enters the servers and meetings of FOLDER, which BBBLB would otherwise
ignore. `poll` polls TICKS times, every INTERVAL seconds. It prints its CPU seconds and the number
of stored rows, as JSON.
"""

import asyncio
import json
import logging
import sys
import time
import uuid
from pathlib import Path

from bbblb import model
from bbblb.services.bbb import BBBHelper
from bbblb.services.db import DBContext
from bbblb.services.locks import LockManager
from bbblb.services.poller import MeetingPoller
from bbblb.settings import BBBLBConfig
from sqlalchemy import func, insert, select


async def prepare(database: DBContext, folder: Path) -> None:
    """Store what a running BBBLB would know about the fleet."""
    assert database.engine is not None
    fleet = json.loads((folder / "fleet.json").read_text())
    tenants = sorted({meeting["tenant"] for server in fleet for meeting in server["meetings"]})
    async with database.engine.begin() as connection:
        await connection.execute(
            insert(model.Tenant),
            [{"id": n, "name": t, "realm": t, "secret": t} for n, t in enumerate(tenants, 1)],
        )
        await connection.execute(
            insert(model.Server),
            [
                {"id": n, "domain": f"127.0.0.1:{server['port']}", "secret": "none"}
                for n, server in enumerate(fleet, 1)
            ],
        )
        for number, server in enumerate(fleet, 1):
            await connection.execute(
                insert(model.Meeting),
                [
                    {
                        "external_id": meeting["room"],
                        "internal_id": meeting["internal_id"],
                        "uuid": uuid.uuid4(),
                        "tenant_fk": tenants.index(meeting["tenant"]) + 1,
                        "server_fk": number,
                    }
                    for meeting in server["meetings"]
                ],
            )


async def poll(
    database: DBContext, config: BBBLBConfig, ticks: int, interval_s: int
) -> dict[str, float]:
    """Poll as `MeetingPoller.poll_loop` does; return CPU seconds and rows."""
    bbb = BBBHelper(config, database)
    poller = MeetingPoller(config, database, LockManager(database), bbb)
    async with database.session() as session:
        servers = list((await session.execute(select(model.Server.id))).scalars())

    async def rows() -> int:
        async with database.session() as session:
            count = await session.execute(select(func.count(model.MeetingStats.id)))
            return int(count.scalar_one())

    cpu_s, before = 0.0, 0
    # The first tick opens the connections and is not measured.
    for tick in range(ticks + 1):
        if tick == 1:
            before, cpu_s = await rows(), time.process_time()
        next_s = time.monotonic() + interval_s
        poller._poll_start = model.utcnow()
        await asyncio.gather(*(poller.poll_one(server) for server in servers))
        await asyncio.sleep(max(next_s - time.monotonic(), 0))
    cpu_s = time.process_time() - cpu_s
    stored = await rows() - before
    await bbb.connector.close()
    return {"cpu_s": cpu_s, "samples": stored}


async def main(what: str, folder: Path, dsn: str, ticks: int, interval_s: int) -> None:
    """Run the command `what`."""
    logging.disable(logging.WARNING)
    config = BBBLBConfig()
    config.DB, config.DB_MIGRATE, config.POLL_STATS = dsn, True, True
    database = DBContext(config)
    await database.on_start()
    if what == "prepare":
        await prepare(database, folder)
    else:
        print(json.dumps(await poll(database, config, ticks, interval_s)))
    await database.on_shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])))
