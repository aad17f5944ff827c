"""Every error that bbbmeter raises on purpose.

The tree (a class's docstring is what it means to the operator):

    BbbmeterError
    ├── UsageError           a command cannot do what it was asked for
    │   └── SettingsError    the configuration cannot be used
    ├── DatabaseError        the database is away or refuses
    │   ├── EngineError      the embedded engine does not start or has died
    │   ├── MigrationError   the schema cannot be brought up to date
    │   └── RejectedBatchError  the database refuses a batch for its content
    ├── SpoolError           the spool on disk does not take or give a batch
    ├── ReportError          the report that was asked for cannot be computed
    └── PollError            one server did not answer one tick as BigBlueButton does
        ├── RequestTimeoutError   timeout
        ├── TickDeadlineError     deadline
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
        └── InternalError         internal

No message carries a secret, a checksum or a whole URL.
"""

from typing import ClassVar

from collector.outcomes import Outcome


class BbbmeterError(Exception):
    """Base of all of bbbmeter's own errors; the command line prints it without a traceback."""


class UsageError(BbbmeterError):
    """A command cannot do what it was asked for; one line a problem."""

    def __init__(self, problems: list[str], source: str) -> None:
        """Keep `problems` (one text each); `source` names the file, the option or the command."""
        self.problems = problems
        self.source = source
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class SettingsError(UsageError):
    """The configuration cannot be used; one line a problem, each with its key."""

    def __init__(self, problems: list[str], source: str = "settings") -> None:
        """Keep `problems` (one text each) and name the file or environment as `source`."""
        super().__init__(problems, source)


class DatabaseError(BbbmeterError):
    """The database is away or refuses; the cause is kept as `__cause__`."""


class EngineError(DatabaseError):
    """The embedded engine does not start, or has died."""


class MigrationError(DatabaseError):
    """The schema cannot be brought to this version."""


class RejectedBatchError(DatabaseError):
    """The database refuses a batch for its content: sending it again cannot help."""


class SpoolError(BbbmeterError):
    """The spool does not take or give a batch: full, no room on the disk, or unusable."""


class ReportError(BbbmeterError):
    """The report that was asked for cannot be computed."""


class PollError(BbbmeterError):
    """One server did not answer one tick as BigBlueButton does.

    `outcome` is the word for it, without any text from the outside.
    """

    outcome: ClassVar[Outcome] = Outcome.INTERNAL

    @property
    def full_outcome(self) -> str:
        """What `meter.poll.outcome` stores, such as `timeout` or `api_error:checksumError`."""
        return self.outcome


class RequestTimeoutError(PollError):
    """The server did not answer in full within its `timeout_s`."""

    outcome = Outcome.TIMEOUT


class TickDeadlineError(PollError):
    """The tick ended before the server had answered or had been asked."""

    outcome = Outcome.DEADLINE


class DnsError(PollError):
    """The server's host name could not be resolved."""

    outcome = Outcome.DNS


class ConnectError(PollError):
    """No TCP connection could be made."""

    outcome = Outcome.CONNECT


class TlsError(PollError):
    """The TLS handshake or the certificate's verification failed."""

    outcome = Outcome.TLS


class DisconnectError(PollError):
    """The connection broke, or the answer was not HTTP, before the answer was complete."""

    outcome = Outcome.DISCONNECT


class RedirectError(PollError):
    """The server redirects in a loop, to another host or port, or from HTTPS to HTTP."""

    outcome = Outcome.REDIRECT


class HttpStatusError(PollError):
    """The server answered with another status than 200."""

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
    """The answer is larger than `max_body_bytes`, as sent or after decompression."""

    outcome = Outcome.TOO_LARGE


class EncodingError(PollError):
    """The answer's content encoding cannot be undone."""

    outcome = Outcome.ENCODING


class NotXmlError(PollError):
    """The answer is no BigBlueButton XML: HTML of a proxy, a DOCTYPE, or nothing at all."""

    outcome = Outcome.NOT_XML


class ApiError(PollError):
    """BigBlueButton answered FAILED; `key` is its messageKey, e.g. `checksumError`."""

    outcome = Outcome.API_ERROR

    def __init__(self, key: str) -> None:
        """Keep the messageKey, cut to letters, 40 at most: no checksum that came back fits."""
        self.key = "".join(c for c in key if c.isascii() and c.isalpha())[:40]
        super().__init__(f"BigBlueButton answered FAILED, messageKey {self.key or 'missing'}")

    @property
    def full_outcome(self) -> str:
        """`api_error:checksumError` and the like."""
        return f"{self.outcome}:{self.key}" if self.key else self.outcome


class InternalError(PollError):
    """bbbmeter itself failed on this server's answer: a bug, worth a report."""

    outcome = Outcome.INTERNAL
