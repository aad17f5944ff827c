"""Variables of a dashboard: their options, All, and how they stand in a text."""

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
    """What is chosen: one value, or a list where several can be (also of one)."""

    value: str | tuple[str, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """All that is chosen."""
        return (self.value,) if isinstance(self.value, str) else self.value


def options(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the values that a variable's query offers, in its order, each once.

    With the columns `__text` and `__value` it is the latter's, else those of all columns.
    """
    taken = (
        [columns.index("__value")] if {"__text", "__value"} <= set(columns) else range(len(columns))
    )
    found = (row[i] for row in rows for i in taken)
    return list(dict.fromkeys(str(value) for value in found if value is not None))


def chosen(variable: Mapping[str, Any], offered: Sequence[str], given: Sequence[str] = ()) -> Value:
    """Return what is chosen of a variable: `given` if it is offered, else what is chosen at first.

    All, without an `allValue`, is every option; where there is none, it is an empty text.
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
    """Return `text` with its variables replaced; what is unknown is left.

    Raises VariableError for a format that is not known, or none: the data source's own quoting
    differs between releases and kinds of variables.
    """

    def one(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[4]
        form = match[3] or match[5]
        if name not in values:
            return match[0]
        if form not in _FORMATS:
            message = f"{match[0]}: no format, or none that is known"
            raise VariableError(message)
        return _FORMATS[form](values[name])

    return _REFERENCE.sub(one, text)


def _sqlstring(value: Value) -> str:
    # Nothing at all where all of no options is chosen.
    return ",".join("'" + v.replace("'", "''").replace('"', '\\"') + "'" for v in value.values)


_FORMATS: Mapping[str, Callable[[Value], str]] = {
    "sqlstring": _sqlstring,
    "csv": lambda value: ",".join(value.values),
    "pipe": lambda value: "|".join(value.values),
    "raw": lambda value: ",".join(value.values),
    "percentencode": lambda value: quote(",".join(value.values), safe=""),
}
