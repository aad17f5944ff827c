"""BigBlueButton's request checksum: hex(hash(call name + raw query string + secret))."""

import hashlib
import hmac
from typing import Literal

from pydantic import SecretStr
from yarl import URL

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]

# A server tells the algorithm by the checksum's length in hexadecimal digits.
_BY_LENGTH: dict[int, Algorithm] = {40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
_PARAMETER = "checksum="


def checksum(call: str, query: str, secret: str, algorithm: Algorithm) -> str:
    """Return the checksum, in lower-case hexadecimal.

    `call` is the call's name (`getMeetings`), `query` the query string exactly as it is sent,
    without the checksum.
    """
    # Bytes of a received query that were no UTF-8 come as surrogates: hash what was received.
    content = f"{call}{query}{secret}".encode(errors="surrogateescape")
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def signed_url(
    api_url: URL, call: str, secret: SecretStr, algorithm: Algorithm, query: str = ""
) -> URL:
    """Return the URL of `call`, signed. `api_url` ends in a slash, `query` is URL-encoded.

    The URL is marked as encoded, or aiohttp would encode the query anew and break the checksum.
    """
    mark = _PARAMETER + checksum(call, query, secret.get_secret_value(), algorithm)
    return URL(f"{api_url}{call}?{query}{'&' if query else ''}{mark}", encoded=True)


def verify(call: str, raw_query: str, secret: str) -> bool:
    """Say whether `raw_query`, as received, carries the right checksum, wherever it stands in it.

    The algorithm is told from the checksum's length, as BigBlueButton does.
    """
    parameters = raw_query.split("&")
    given = [p.removeprefix(_PARAMETER) for p in parameters if p.startswith(_PARAMETER)]
    if len(given) != 1 or (algorithm := _BY_LENGTH.get(len(given[0]))) is None:
        return False
    query = "&".join(p for p in parameters if not p.startswith(_PARAMETER))
    expected = checksum(call, query, secret, algorithm)
    return hmac.compare_digest(
        given[0].encode(errors="surrogateescape"), expected.encode(errors="surrogateescape")
    )
