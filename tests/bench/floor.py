"""A minimal hand-written collector: fetch all, parse all with lxml, one COPY.

    python -m tests.bench.floor FOLDER DSN TICKS INTERVAL

It polls the fleet of FOLDER (see tests.bench.fleet) TICKS times, every INTERVAL seconds. It prints
its CPU seconds and the number of stored samples, as JSON. It does not handle tenants, gaps,
sessions, retries or errors.
"""

import asyncio
import json
import ssl
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg
from lxml import etree

from tests.bench.fleet import urls

# The same number as bbbmeter's default.
_CONCURRENCY = 200
_TABLE = """
CREATE TABLE IF NOT EXISTS public.floor (
    ts timestamptz, server text, meeting text, participants integer, voice integer, video integer
)
"""
_COUNTS = ("participantCount", "voiceParticipantCount", "videoCount")


async def poll(folder: Path, dsn: str, ticks: int, interval_s: int) -> dict[str, float]:
    """Poll, and return CPU seconds and samples."""
    tls = ssl.create_default_context(cafile=folder / "cert.pem")
    servers = [(name, f"{url}api/getMeetings?checksum=0") for name, url in urls(folder)]
    connection = await asyncpg.connect(dsn)
    await connection.execute(_TABLE)
    slots = asyncio.Semaphore(_CONCURRENCY)
    samples = 0
    connector = aiohttp.TCPConnector(limit=0, ssl=tls, keepalive_timeout=300)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def one(name: str, url: str) -> list[tuple[object, ...]]:
            async with slots, session.get(url) as response:
                root = etree.fromstring(await response.read())
            ts = datetime.now(UTC)
            return [
                (
                    *(ts, name, meeting.findtext("internalMeetingID")),
                    *(int(meeting.findtext(count) or 0) for count in _COUNTS),
                )
                for meeting in root.iterfind("meetings/meeting")
            ]

        begun = 0.0
        # The first tick opens the connections and is not measured.
        for tick in range(ticks + 1):
            if tick == 1:
                begun = time.process_time()
            next_s = time.monotonic() + interval_s
            rows = await asyncio.gather(*(one(name, url) for name, url in servers))
            records = [row for part in rows for row in part]
            await connection.copy_records_to_table("floor", schema_name="public", records=records)
            samples += len(records) if tick else 0
            await asyncio.sleep(max(next_s - time.monotonic(), 0))
        cpu_s = time.process_time() - begun
    await connection.execute("DROP TABLE public.floor")
    await connection.close()
    return {"cpu_s": cpu_s, "samples": samples}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(poll(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))))
