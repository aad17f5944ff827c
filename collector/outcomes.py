"""How a poll can end: every outcome, in one place.

`meter.poll.outcome` has one of these words; after two of them, a detail follows behind a colon
(`http_status:502`, `api_error:checksumError`). Metrics count by the word alone. What each means to
an operator, and what to do, stands in `docs/runbooks/server-down.md`.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The word for a poll's outcome."""

    # The server answered.
    OK = "ok"
    PARTIAL = "partial"  # some of its meetings could not be read

    # It did not answer as BigBlueButton does: each is a class of `collector.errors`.
    TIMEOUT = "timeout"
    DEADLINE = "deadline"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    DISCONNECT = "disconnect"
    REDIRECT = "redirect"
    HTTP_STATUS = "http_status"
    TOO_LARGE = "too_large"
    ENCODING = "encoding"
    NOT_XML = "not_xml"
    API_ERROR = "api_error"
    INTERNAL = "internal"

    # It answered, but the answer was not stored.
    SPOOL_FULL = "spool_full"  # neither memory nor disk had room
    REJECTED = "rejected"  # the database refused its content: it is in quarantine
    TOO_OLD = "too_old"  # it came later than samples are kept: in quarantine, and never in a poll

    @property
    def succeeded(self) -> bool:
        """Whether the server was seen: then its sessions are known, as far as they were read."""
        return self in {Outcome.OK, Outcome.PARTIAL}


def word(outcome: str) -> Outcome:
    """Return the word of a stored outcome, which may have a detail behind it."""
    return Outcome(outcome.partition(":")[0])
