"""Variables of a dashboard: their options, the option All, and their formats in a text."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

ALL = "$__all"
_REFERENCE = re.compile(r"\$(\w+)|\[\[(\w+)(?::(\w+))?\]\]|\$\{(\w+)(?::(\w+))?\}")


class VariableError(Exception):
    """A text uses an unknown format, or one that is wrong for SQL."""


@dataclass(frozen=True, slots=True)
class Value:
    """A variable's value: one text, or a tuple if several values can be chosen."""

    value: str | tuple[str, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """All chosen values."""
        return (self.value,) if isinstance(self.value, str) else self.value


def options(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the distinct values that a variable's query offers, in the query's order.

    If there are columns `__text` and `__value`, these are the values of `__value`, else of all
    columns.
    """
    taken = (
        [columns.index("__value")] if {"__text", "__value"} <= set(columns) else range(len(columns))
    )
    found = (row[i] for row in rows for i in taken)
    return list(dict.fromkeys(str(value) for value in found if value is not None))


def chosen(variable: Mapping[str, Any], offered: Sequence[str], given: Sequence[str] = ()) -> Value:
    """Return the chosen value: `given` as far as it is offered, else the default.

    The default is every option if several can be chosen, else the first option. Without options it
    is empty.
    """
    if variable["type"] == "textbox":
        return Value(given[0] if given else str(variable.get("query", "")))
    picked = [value for value in given if value in offered]
    if variable.get("multi"):
        if picked:
            return Value(tuple(picked))
        return Value(tuple(offered))
    return Value(picked[0] if picked else next(iter(offered), ""))


def interpolate(text: str, values: Mapping[str, Value]) -> str:
    """Return `text` with its variables replaced; unknown variables stay.

    Raises VariableError for an unknown format, and for none: without a format the data source's
    quoting depends on the release and on the kind of variable.
    """

    def one(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        form = match[3] or match[5]
        if name not in values:
            return match[0]
        if form not in _FORMATS:
            message = f"{match[0]}: the format is missing or unknown"
            raise VariableError(message)
        return _FORMATS[form](values[name])

    return _REFERENCE.sub(one, text)


def _sqlstring(value: Value) -> str:
    # The result is empty if there are no options.
    return ",".join("'" + v.replace("'", "''").replace('"', '\\"') + "'" for v in value.values)


_FORMATS: Mapping[str, Callable[[Value], str]] = {
    "sqlstring": _sqlstring,
    "csv": lambda value: ",".join(value.values),
    "pipe": lambda value: "|".join(value.values),
    "raw": lambda value: ",".join(value.values),
    "percentencode": lambda value: quote(",".join(value.values), safe=""),
}
