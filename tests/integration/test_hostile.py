"""Servers that mean harm, or break as if they did: each fails alone, in time, and leaves nothing.

How each kind of failure is told from the others is in test_bbb_failures.py; here a hostile server
is one of a fleet.
"""

import asyncio
import contextlib
import gzip
import zlib
from collections import Counter
from pathlib import Path

import pytest

from collector.bbb import BbbClients
from collector.bbb import body as body_module
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller
from tests.support.fake_servers import EMPTY, MAX_BODY_BYTES
from tests.support.hostile_servers import (
    LONG_S,
    OK,
    SHORT_S,
    TICK,
    Handler,
    bytewise,
    healthy,
    listening,
    poll_both,
    resets_after,
    response,
    says,
)
from tests.support.settings import make_server

CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
# After these the connection is of no more use.
FATAL = {"timeout", "disconnect", "too_large", "tls"}
pytestmark = pytest.mark.usefixtures("_no_proxy")


def nested_bomb() -> bytes:
    """Return a gzip bomb that is compressed a second time, for 64 MiB in about 200 bytes."""
    return gzip.compress(gzip.compress(bytes(64 << 20)))


def gzip_without_end() -> Handler:
    """Return a handler that sends empty deflate blocks: nothing, for ever."""
    start = zlib.compressobj(wbits=31).flush(zlib.Z_SYNC_FLUSH)
    return says(OK + b"Content-Encoding: gzip\r\n\r\n" + start, again=b"\0\0\0\xff\xff" * 10_000)


HOSTILE: dict[str, tuple[Handler, str]] = {
    # slow-loris
    "head byte by byte": (bytewise(response(), 0.02), "timeout"),
    "body byte by byte": (bytewise(response(b" " * 10_000), 0.001), "timeout"),
    "chunks byte by byte": (says(CHUNKED, again=b"1\r\n \r\n", pause_s=0.01), "timeout"),
    "a header at a time": (says(OK, again=b"X: y\r\n", pause_s=0.02), "timeout"),
    "half a status line": (says(b"HTTP/1.1 2"), "timeout"),
    # without end
    "body": (says(OK + b"\r\n", again=b" " * 65_536), "too_large"),
    "headers": (says(OK, again=b"X: y\r\n" * 1000), "disconnect"),
    "header name": (says(OK, again=b"X" * 65_536), "disconnect"),
    "status line": (says(b"HTTP/1.1 200 ", again=b"O" * 65_536), "disconnect"),
    "chunk extension": (says(CHUNKED, b"1;", again=b"x" * 65_536), "timeout"),
    "trailers": (says(CHUNKED, b"0\r\n", again=b"X: y\r\n" * 1000), "disconnect"),
    "interim answers": (says(again=b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "timeout"),
    "early hints": (says(again=b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" * 100), "timeout"),
    "gzip of nothing": (gzip_without_end(), "too_large"),
    "gzip file name": (
        says(OK + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x08\0\0\0\0\0\3", again=b"n" * 9999),
        "too_large",
    ),
    # compression that was not asked for, which is not touched
    "brotli": (says(response(b"x", "Content-Encoding: br")), "encoding"),
    "zstd": (says(response(b"x", "Content-Encoding: zstd")), "encoding"),
    "deflate": (says(response(zlib.compress(EMPTY), "Content-Encoding: deflate")), "encoding"),
    "twice": (says(response(nested_bomb(), "Content-Encoding: gzip, gzip")), "encoding"),
    "twice, in two headers": (
        says(response(nested_bomb(), *["Content-Encoding: gzip"] * 2)),
        "encoding",
    ),
    "twice, once concealed": (says(response(nested_bomb(), "Content-Encoding: gzip")), "not_xml"),
    "transfer encoding": (
        says(OK + b"Transfer-Encoding: gzip\r\n\r\n" + gzip.compress(EMPTY)),
        "timeout",  # such a body lasts as long as the connection
    ),
    # Content-Length
    "too small": (says(OK + b"Content-Length: 20\r\n\r\n" + EMPTY), "disconnect"),
    "too large": (says(OK + b"Content-Length: 2000\r\n\r\n" + EMPTY), "timeout"),
    "negative": (says(OK + b"Content-Length: -5\r\n\r\n" + EMPTY), "disconnect"),
    "past 64 bits": (says(OK + b"Content-Length: %d\r\n\r\n" % 10**30 + EMPTY), "disconnect"),
    "two of them": (says(response(EMPTY, "Content-Length: 5")), "disconnect"),
    "a list": (says(OK + b"Content-Length: 5, 5\r\n\r\n" + EMPTY), "disconnect"),
    "and chunked": (says(response(EMPTY, "Transfer-Encoding: chunked")), "disconnect"),
    # what is no answer
    "reset in the body": (
        resets_after(OK + b"Content-Length: 500\r\n\r\n" + EMPTY),
        "disconnect",
    ),
    "reset in the head": (resets_after(OK + b"Content-Le"), "disconnect"),
    "another protocol": (
        says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        "http_status:101",
    ),
    "NUL in a header": (says(OK + b"X: \0\r\nContent-Length: 0\r\n\r\n"), "disconnect"),
    "redirect with a body without end": (
        says(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", again=b" " * 65_536),
        "redirect",
    ),
}


def sockets() -> set[Path]:
    """Return this process's sockets."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(entry.readlink())
    return {link for link in found if link.name.startswith("socket:")}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_server(name: str) -> None:
    """It fails within its timeout with its code; the other one answers; nothing is left of it."""
    handler, code = HOSTILE[name]
    sockets_before = sockets()
    async with listening(handler) as listener:
        url = f"http://127.0.0.1:{listener.port}/bigbluebutton"
        hostile = make_server("hostile", url=url, timeout_s=SHORT_S if code == "timeout" else 20)
        results = await poll_both(hostile, listener.gone if code in FATAL else None)
    assert {name: result.outcome for name, result in results.items()} == {
        "hostile": code,
        "healthy": "ok",
    }
    for _ in range(200):  # closed sockets leave the loop a little later
        if asyncio.all_tasks() == {asyncio.current_task()} and sockets() <= sockets_before:
            break
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert sockets() <= sockets_before


async def test_many_large_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What many servers send at once is held up to a limit; then the large ones are refused."""
    monkeypatch.setattr(body_module, "_MAX_HELD_BYTES", 2 * MAX_BODY_BYTES)
    monkeypatch.setattr(body_module, "_SHARE_BYTES", MAX_BODY_BYTES // 16)
    large = says(OK + b"\r\n", bytes(MAX_BODY_BYTES - 65_536))  # and then nothing, for ever
    outcomes: Counter[str] = Counter()
    async with (
        listening(large) as hostile,
        listening(healthy) as well,
        BbbClients() as clients,
    ):
        servers = [
            make_server(f"s{n}", url=f"http://127.0.0.1:{port}/bigbluebutton", timeout_s=timeout_s)
            for n, (port, timeout_s) in enumerate(
                [(hostile.port, 1.0)] * 10 + [(well.port, LONG_S)] * 2
            )
        ]
        poller = Poller(
            clients.make(servers, "getMeetings", parse_meetings, max_body_bytes=MAX_BODY_BYTES), 20
        )
        for _ in range(2):  # what was held is given back
            outcomes.clear()
            await poller.poll(TICK, LONG_S, lambda result: outcomes.update([result.outcome]))
            assert outcomes["ok"] == 2
            assert outcomes["timeout"] in {1, 2, 3}
            assert outcomes.total() == outcomes["ok"] + outcomes["timeout"] + outcomes["too_large"]
