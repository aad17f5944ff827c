"""Read the body of an answer: decompress it in small steps, and limit its size and memory."""

import asyncio
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

from collector.errors import EncodingError, TooLargeError

# Largest output of one decompression step. It bounds how long other tasks wait.
_INFLATE_STEP_BYTES = 256 * 1024
# Memory for the bodies of all concurrent answers: a body may grow while the others together have
# at most this size. Bodies up to the share are always accepted, so that servers with large
# answers cannot block the others.
_MAX_HELD_BYTES = 256 * 1024 * 1024
_SHARE_BYTES = 4 * 1024 * 1024


class Holding:
    """Limits the memory of all answers that are being read or wait to be parsed."""

    def __init__(self) -> None:
        """Start with no bodies."""
        self._held_bytes = 0

    @contextmanager
    def body(self) -> Iterator[Callable[[int], None]]:
        """Count one body until the context ends.

        Yields a function that must be called with the body's size in bytes whenever it grows. The
        function raises TooLargeError if the body is large and the others leave no room for it.
        """
        size_bytes = 0

        def grow_to(now_bytes: int) -> None:
            nonlocal size_bytes
            self._held_bytes += now_bytes - size_bytes
            size_bytes = now_bytes
            if size_bytes > _SHARE_BYTES and self._held_bytes - size_bytes > _MAX_HELD_BYTES:
                msg = "too many large answers at once"
                raise TooLargeError(msg)

        try:
            yield grow_to
        finally:
            self._held_bytes -= size_bytes


async def read_body(
    response: aiohttp.ClientResponse, max_bytes: int, grow_to: Callable[[int], None]
) -> bytes:
    """Return the body, decompressed in small steps as protection from decompression bombs.

    Calls `grow_to` with the size whenever the body grows, see `Holding`. Raises TooLargeError if
    the body has more than `max_bytes`, as sent or decompressed. Raises EncodingError if the
    compression is damaged or not one that was requested.
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
                await asyncio.sleep(0)  # so that other tasks run, and the deadline can cancel
        if inflater.unused_data:
            msg = "the compressed answer has data behind its end"
            raise EncodingError(msg)
    if inflater is not None:
        parts.append(inflater.flush())
        if not inflater.eof:
            msg = "the compressed answer is incomplete"
            raise EncodingError(msg)
    return b"".join(parts)


def _check_size(size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        msg = f"the answer is larger than max_body_bytes ({max_bytes})"
        raise TooLargeError(msg)


def _inflater(encoding: str) -> "zlib._Decompress | None":
    """Return a decompressor for `encoding`, the value of Content-Encoding; None if not compressed.

    Raises EncodingError for an encoding that was not requested.
    """
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        case _:
            msg = "the answer has a content encoding that was not requested (only gzip is)"
            raise EncodingError(msg)
