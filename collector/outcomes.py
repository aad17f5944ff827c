"""The outcomes that a poll can have.

`meter.poll.outcome` contains one of these words. Two of them have a detail behind a colon:
`http_status:502`, `api_error:checksumError`. Metrics count by the word, without the detail.
`docs/runbooks/server-down.md` explains each outcome, and what an operator can do.
"""

from enum import StrEnum


class Outcome(StrEnum):
    """The word for a poll's outcome."""

    # The server answered.
    OK = "ok"
    PARTIAL = "partial"  # some of its meetings could not be read, or were twice in the answer

    # The server did not answer as BigBlueButton does. Each has a class in `collector.errors`.
    TIMEOUT = "timeout"
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
    IMPLAUSIBLE = "implausible"
    INTERNAL = "internal"

    # The tick ended.
    DEADLINE = "deadline"  # before the server's answer was complete
    NOT_ASKED = "not_asked"  # before the collector could ask the server; not the server's failure

    # The server answered, but the answer was not stored.
    SPOOL_FULL = "spool_full"  # memory and disk were full
    REJECTED = "rejected"  # the database rejected the batch, which is now in quarantine
    # The batch is older than the retention of samples, and is in quarantine. Only a metric has this
    # word; no row of meter.poll does.
    TOO_OLD = "too_old"

    @property
    def succeeded(self) -> bool:
        """Whether the server answered, so that its readable sessions are known."""
        return self in {Outcome.OK, Outcome.PARTIAL}


def word(outcome: str) -> Outcome:
    """Return the word of a stored outcome, without the detail behind the colon."""
    return Outcome(outcome.partition(":")[0])
