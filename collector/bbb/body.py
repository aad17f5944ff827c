"""Reading an answer's body: decompressed in small steps, within limits of size and memory."""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

from collector.errors import EncodingError, TooLargeError

_INFLATE_STEP_BYTES = 256 * 1024
# Of all bodies at a time, so many bytes are held in memory, and one body beside them. Below its
# share a body is held in any case: no server's answer can keep others from being read.
_MAX_HELD_BYTES = 256 * 1024 * 1024
_SHARE_BYTES = 4 * 1024 * 1024


class Holding:
    """Bounds what the bodies of many servers take together, until they are parsed."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held_bytes = 0

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Hold one body meanwhile; give what takes its size as it grows.

        That raises TooLargeError where others are so large that there is no room for a large one.
        """
        size_bytes = 0

        def grow_to(now_bytes: int) -> None:
            nonlocal size_bytes
            self._held_bytes += now_bytes - size_bytes
            size_bytes = now_bytes
            if size_bytes > _SHARE_BYTES and self._held_bytes - size_bytes > _MAX_HELD_BYTES:
                msg = "too many large answers at a time"
                raise TooLargeError(msg)

        try:
            yield grow_to
        finally:
            self._held_bytes -= size_bytes


async def read_body(
    response: aiohttp.ClientResponse, max_bytes: int, grow_to: Callable[[int], None]
) -> bytes:
    """Return the body, decompressed in small steps so that no bomb can go off.

    Tells `grow_to` its size as it grows, see `Holding`. Raises TooLargeError where it has more
    than `max_bytes`, as sent or decompressed, and EncodingError where its compression is not what
    was asked for.
    """
    inflater = _inflater(",".join(response.headers.getall("Content-Encoding", ())))
    parts: list[bytes] = []
    sent_bytes = kept_bytes = 0
    async for chunk in response.content.iter_any():
        sent_bytes += len(chunk)
        _check_size(sent_bytes, max_bytes)
        if inflater is None:
            grow_to(sent_bytes)
            parts.append(chunk)
            continue
        left = chunk
        while left:
            parts.append(inflater.decompress(left, _INFLATE_STEP_BYTES))
            kept_bytes += len(parts[-1])
            _check_size(kept_bytes, max_bytes)
            grow_to(kept_bytes)
            left = inflater.unconsumed_tail
            if left:
                await asyncio.sleep(0)  # lets others run, and the deadline strike
        if inflater.unused_data:
            msg = "the compressed answer goes on after its end"
            raise EncodingError(msg)
    if inflater is not None:
        parts.append(inflater.flush())
        if not inflater.eof:
            msg = "the compressed answer is cut off"
            raise EncodingError(msg)
    return b"".join(parts)


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        msg = f"the answer has more than {max_bytes} bytes"
        raise TooLargeError(msg)


def _inflater(encoding: str) -> "zlib._Decompress | None":
    """Return what undoes `encoding`, the value of Content-Encoding; None if there is none."""
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        case _:
            msg = "the answer has a content encoding that was not asked for"
            raise EncodingError(msg)
