"""The errors that bbbmeter raises itself.

The tree (the docstring of a class says what the error means to the operator):

    BbbmeterError
    ├── UsageError           a command cannot do what its options ask for
    │   └── SettingsError    the configuration is not valid
    ├── DatabaseError        the database is unavailable or rejects a statement
    │   ├── EngineError      the embedded engine does not start, or stopped
    │   ├── MigrationError   the schema cannot be updated
    │   └── RejectedBatchError  the database rejects a batch because of its content
    ├── SpoolError           the spool on disk cannot store or return a batch
    ├── ReportError          the requested report cannot be computed
    └── PollError            a server did not answer a poll as BigBlueButton does
        ├── RequestTimeoutError   timeout
        ├── DnsError              dns
        ├── ConnectError          connect
        ├── TlsError              tls
        ├── DisconnectError       disconnect
        ├── RedirectError         redirect
        ├── HttpStatusError       http_status
        ├── TooLargeError         too_large
        ├── EncodingError         encoding
        ├── NotXmlError           not_xml
        ├── ApiError              api_error:<messageKey>
        ├── ImplausibleError      implausible
        └── InternalError         internal

No message contains a secret, a checksum or a whole URL.
"""

from typing import ClassVar

from collector.outcomes import Outcome


class BbbmeterError(Exception):
    """Base class of bbbmeter's own errors. The command line prints them without a traceback."""


class UsageError(BbbmeterError):
    """A command cannot do what its options ask for. The message has one line per problem."""

    def __init__(self, problems: list[str], source: str) -> None:
        """Keep `problems`, one text each. `source` names the file, the option or the command."""
        self.problems = problems
        self.source = source
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class SettingsError(UsageError):
    """The configuration is not valid. The message has one line per problem, with its key."""

    def __init__(self, problems: list[str], source: str = "settings") -> None:
        """Keep `problems`, one text each. `source` names the file or the environment."""
        super().__init__(problems, source)


class DatabaseError(BbbmeterError):
    """The database is unavailable or rejects a statement. `__cause__` is the original error."""


class EngineError(DatabaseError):
    """The embedded engine does not start, or stopped unexpectedly."""


class MigrationError(DatabaseError):
    """The schema cannot be updated to this version."""


class RejectedBatchError(DatabaseError):
    """The database rejects a batch because of its content, so a retry cannot succeed."""


class SpoolError(BbbmeterError):
    """The spool cannot store or return a batch: it is full or damaged, or the disk is full."""


class ReportError(BbbmeterError):
    """The requested report cannot be computed."""


class PollError(BbbmeterError):
    """A server did not answer a poll as BigBlueButton does.

    `outcome` is the word for the reason. It contains no text from the server.
    """

    outcome: ClassVar[Outcome] = Outcome.INTERNAL

    @property
    def full_outcome(self) -> str:
        """What `meter.poll.outcome` stores, such as `timeout` or `api_error:checksumError`."""
        return self.outcome


class RequestTimeoutError(PollError):
    """The server's answer was not complete within its `timeout_s`."""

    outcome = Outcome.TIMEOUT


class DnsError(PollError):
    """The server's host name could not be resolved."""

    outcome = Outcome.DNS


class ConnectError(PollError):
    """No TCP connection could be made."""

    outcome = Outcome.CONNECT


class TlsError(PollError):
    """The TLS handshake failed, or the server's certificate could not be verified."""

    outcome = Outcome.TLS


class DisconnectError(PollError):
    """The connection broke before the answer was complete, or the answer was not HTTP."""

    outcome = Outcome.DISCONNECT


class RedirectError(PollError):
    """The server redirects in a loop, to another host or port, or from HTTPS to HTTP."""

    outcome = Outcome.REDIRECT


class HttpStatusError(PollError):
    """The server answered with another HTTP status than 200."""

    outcome = Outcome.HTTP_STATUS

    def __init__(self, status: int) -> None:
        """Keep the HTTP `status`."""
        self.status = status
        super().__init__(f"HTTP status {status}")

    @property
    def full_outcome(self) -> str:
        """`http_status:502` and the like."""
        return f"{self.outcome}:{self.status}"


class TooLargeError(PollError):
    """The answer is larger than `max_body_bytes`, or many large answers arrived at once."""

    outcome = Outcome.TOO_LARGE


class EncodingError(PollError):
    """The answer cannot be decompressed, or its content encoding is not supported."""

    outcome = Outcome.ENCODING


class NotXmlError(PollError):
    """The answer is not BigBlueButton's XML: HTML of a proxy, a DOCTYPE, or an empty body."""

    outcome = Outcome.NOT_XML


class ApiError(PollError):
    """BigBlueButton answered FAILED. `key` is its messageKey, e.g. `checksumError`."""

    outcome = Outcome.API_ERROR

    def __init__(self, key: str) -> None:
        """Keep the first 40 ASCII letters of the messageKey: a checksum cannot pass this filter."""
        self.key = "".join(c for c in key if c.isascii() and c.isalpha())[:40]
        super().__init__(f"BigBlueButton answered FAILED, messageKey {self.key or 'missing'}")

    @property
    def full_outcome(self) -> str:
        """`api_error:checksumError` and the like."""
        return f"{self.outcome}:{self.key}" if self.key else self.outcome


class ImplausibleError(PollError):
    """The answer has more meetings, or larger totals, than any server can have."""

    outcome = Outcome.IMPLAUSIBLE


class InternalError(PollError):
    """bbbmeter itself failed on this server's answer. This is a bug: please report it."""

    outcome = Outcome.INTERNAL
