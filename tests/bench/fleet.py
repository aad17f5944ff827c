"""A fleet whose answers are rendered in advance, so that they cost little: a port per server.

    python -m tests.bench.fleet FOLDER SERVERS MEETINGS ATTENDEES

It serves HTTPS with FOLDER/cert.pem and key.pem, and writes ports and meetings to
FOLDER/fleet.json. It ends when its standard input ends. Answers have BigBlueButton's layout.
"""

import asyncio
import json
import random
import socket
import ssl
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from aiohttp import web

from collector.simulator import marks
from collector.simulator.meeting import Meeting, Span, Stay
from collector.simulator.people import invent
from collector.simulator.plan import SimTenant
from collector.simulator.render import MeetingView, get_meetings

TENANTS = tuple(SimTenant(f"tenant{n:02}", "bbblb") for n in range(20))
_HOUR_MS = 3_600_000


def certificate(folder: Path) -> None:
    """Create a self-signed certificate for 127.0.0.1, and its key."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-days", "30", "-subj", "/CN=bench"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "key.pem")),
            *("-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
    )


def answer(meetings: Sequence[Meeting], now_ms: int) -> bytes:
    """Return the answer of a server with these meetings."""
    return get_meetings([MeetingView(meeting).at(now_ms) for meeting in meetings])


def make_meeting(
    rng: random.Random, server: str, number: int, attendees: int, now_ms: int
) -> Meeting:
    """Return a running meeting of one of `TENANTS`, in which nothing changes."""
    tenant = rng.choice(TENANTS)
    room = str(uuid.UUID(int=rng.getrandbits(128)))
    start_ms, end_ms = now_ms - rng.randrange(_HOUR_MS), now_ms + 24 * _HOUR_MS
    span = Span(start_ms, end_ms)
    stays = tuple(
        Stay(
            invent(rng, host=n == 0),
            *(start_ms, end_ms, end_ms),
            voice=(span,) if n % 2 else (),
            listening=() if n % 2 else (span,),
            video=(span,) if n % 3 == 0 else (),
        )
        for n in range(attendees)
    )
    return Meeting(
        tenant=tenant.name,
        server=server,
        old=False,
        room=room,
        name=f"Room {number}",
        external_id=marks.external_id(tenant, room),
        start_ms=start_ms,
        end_ms=end_ms,
        metadata=marks.metadata(tenant, room, f"Room {number}", server, attendees, rng),
        stays=stays,
        voice_bridge=rng.randint(10_000, 99_999),
    )


async def serve(folder: Path, servers: int, meetings: int, attendees: int) -> None:
    """Serve until the standard input ends."""
    rng = random.Random(f"{servers}/{meetings}/{attendees}")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    answers: dict[int, bytes] = {}

    async def handle(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        port = request.transport.get_extra_info("sockname")[1]
        return web.Response(body=answers[port], content_type="text/xml")

    loop = asyncio.get_running_loop()
    handler = web.Server(handle, access_log=None, keepalive_timeout=300)
    known = []
    for server in range(servers):
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        held = [
            make_meeting(rng, f"bench{server:04}", n, attendees, now_ms) for n in range(meetings)
        ]
        answers[port] = answer(held, now_ms)
        await loop.create_server(handler, sock=listener, ssl=tls)
        who = [{"internal_id": m.internal_id, "room": m.room, "tenant": m.tenant} for m in held]
        known.append({"port": port, "meetings": who})
    (folder / "fleet.json.part").write_text(json.dumps(known))
    (folder / "fleet.json.part").rename(folder / "fleet.json")
    await loop.run_in_executor(None, sys.stdin.read)


def urls(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each server's name and address."""
    for number, server in enumerate(json.loads((folder / "fleet.json").read_text())):
        yield f"bench{number:04}", f"https://127.0.0.1:{server['port']}/bigbluebutton/"


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), *map(int, sys.argv[2:])))
