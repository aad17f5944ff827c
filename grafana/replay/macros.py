"""The macros of Grafana's PostgreSQL data source, with `timescaledb: true`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from grafana.replay import interval

_MACRO = re.compile(r"\$(__\w+)\(([^)]*)\)")
_COMMENT = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(--[^\n]*|/\*.*?\*/)", re.DOTALL)


class MacroError(Exception):
    """A query has an unknown macro, or one with wrong arguments."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The time range of a dashboard: [since, until], in whole milliseconds, as browsers send it."""

    since: datetime
    until: datetime


def expand(sql: str, shown: TimeRange, interval_ms: int) -> str:
    """Return the SQL that the database gets. Raises MacroError."""
    sql = (
        sql.replace("$__interval_ms", str(interval_ms))
        .replace("$__interval", interval.text(interval_ms))
        .replace("$__unixEpochFrom()", str(int(shown.since.timestamp())))
        .replace("$__unixEpochTo()", str(int(shown.until.timestamp())))
    )
    sql = _COMMENT.sub(lambda m: m[0] if m[1] is None else "", sql)

    def one(match: re.Match[str]) -> str:
        macro = _MACROS.get(match[1])
        arguments = [argument.strip() for argument in match[2].split(",") if argument.strip()]
        if macro is None or len(arguments) != _ARGUMENTS[match[1]]:
            message = f"{match[0]}: unknown macro, or wrong number of arguments"
            raise MacroError(message)
        return macro(shown, arguments)

    return _MACRO.sub(one, sql)


def instant(value: datetime) -> str:
    """Return an instant as the data source writes it: in UTC, with a fraction only if not zero."""
    written = value.astimezone(UTC).isoformat(
        timespec="milliseconds" if value.microsecond else "seconds"
    )
    written = written.removesuffix("+00:00")
    return (written.rstrip("0") if "." in written else written) + "Z"


def _group(_: TimeRange, arguments: list[str]) -> str:
    seconds = interval.milliseconds(arguments[1].strip("'\"")) / 1000
    return f"time_bucket('{seconds:.3f}s',{arguments[0]})"


_MACROS: dict[str, Callable[[TimeRange, list[str]], str]] = {
    "__time": lambda _, a: f'{a[0]} AS "time"',
    "__timeEpoch": lambda _, a: f'extract(epoch from {a[0]}) as "time"',
    "__timeFilter": lambda r, a: f"{a[0]} BETWEEN '{instant(r.since)}' AND '{instant(r.until)}'",
    "__timeFrom": lambda r, _: f"'{instant(r.since)}'",
    "__timeTo": lambda r, _: f"'{instant(r.until)}'",
    # The third argument fills gaps, which would hide that nothing was seen. It is not supported.
    "__timeGroup": _group,
    "__timeGroupAlias": lambda r, a: f'{_group(r, a)} AS "time"',
    "__unixEpochFilter": lambda r, a: (
        f"{a[0]} >= {int(r.since.timestamp())} AND {a[0]} <= {int(r.until.timestamp())}"
    ),
}
_ARGUMENTS = {
    "__time": 1,
    "__timeEpoch": 1,
    "__timeFilter": 1,
    "__timeFrom": 0,
    "__timeTo": 0,
    "__timeGroup": 2,
    "__timeGroupAlias": 2,
    "__unixEpochFilter": 1,
}
