"""BigBlueButton's request checksum: hex(hash(call name + raw query string + secret))."""

import hashlib
import hmac
from typing import Literal

from pydantic import SecretStr
from yarl import URL

Algorithm = Literal["sha1", "sha256", "sha384", "sha512"]

# The length of a checksum, in hexadecimal digits, determines its algorithm.
_BY_LENGTH: dict[int, Algorithm] = {40: "sha1", 64: "sha256", 96: "sha384", 128: "sha512"}
_PARAMETER = "checksum="


def checksum(call: str, query: str, secret: str, algorithm: Algorithm) -> str:
    """Return the checksum, in lower-case hexadecimal.

    `call` is the call's name (`getMeetings`), `query` the query string exactly as it is sent,
    without the checksum.
    """
    # In a received query, bytes that are not UTF-8 are surrogates. Hash the original bytes.
    content = f"{call}{query}{secret}".encode(errors="surrogateescape")
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()


def signed_url(
    api_url: URL, call: str, secret: SecretStr, algorithm: Algorithm, query: str = ""
) -> URL:
    """Return the URL of `call`, signed. `api_url` ends in a slash, `query` is URL-encoded.

    The URL is marked as encoded: otherwise aiohttp would encode the query again, and the checksum
    would be wrong.
    """
    mark = _PARAMETER + checksum(call, query, secret.get_secret_value(), algorithm)
    return URL(f"{api_url}{call}?{query}{'&' if query else ''}{mark}", encoded=True)


def verify(call: str, raw_query: str, secret: str) -> bool:
    """Say whether `raw_query`, as received, contains the right checksum, at any position.

    As in BigBlueButton, the length of the checksum determines the algorithm.
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
