"""Writes `docs/settings.md`, the reference of all settings, from `collector.settings`."""

import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from collector.settings import (
    ENV_PREFIX,
    AttributionSettings,
    ColumnstoreSettings,
    HttpSettings,
    RetentionSettings,
    Rule,
    Section,
    ServerSettings,
    Settings,
    SpoolSettings,
    TenantSettings,
)

PAGE = Path(__file__).parents[1] / "settings.md"
RULES = get_args(get_args(Rule)[0])
INTRODUCTION = f"""\
# Settings

`make docs` writes this page from `collector/settings`. `bbbmeter init` writes an example with every
key: [collector/settings/example.toml](../collector/settings/example.toml).

bbbmeter reads the settings from a TOML file. `--config` names the file, else the variable
`{ENV_PREFIX}CONFIG`. Without both it is `bbbmeter.toml` in the working directory, if it exists.
Environment variables override the file. The key of a table follows two underscores:
`{ENV_PREFIX}RETENTION__SAMPLE=60`. A list is written as JSON and replaces the file's list:
`{ENV_PREFIX}TENANT='[{{"name": "law"}}]'`.
Relative paths start from the file's folder.
Unknown keys and variables are errors. `bbbmeter check` lists all problems at once.
"""


def settings_page() -> str:
    """Return the whole page, as Markdown."""
    top = {key: field for key, field in Settings.model_fields.items() if not _table(field)}
    parts = [
        INTRODUCTION,
        "## At the top\n",
        *_rows(top, ENV_PREFIX),
        *_section("## `[[server]]`", ServerSettings),
        *_section("## `[[tenant]]`", TenantSettings),
        *_section("## `[attribution]`", AttributionSettings, f"{ENV_PREFIX}ATTRIBUTION__"),
        *(line for rule in RULES for line in _section(_rule_heading(rule), rule)),
        *_section("## `[retention]`", RetentionSettings, f"{ENV_PREFIX}RETENTION__"),
        *_section("## `[columnstore]`", ColumnstoreSettings, f"{ENV_PREFIX}COLUMNSTORE__"),
        *_section("## `[spool]`", SpoolSettings, f"{ENV_PREFIX}SPOOL__"),
        *_section("## `[http]`", HttpSettings, f"{ENV_PREFIX}HTTP__"),
    ]
    return "\n".join(parts) + "\n"


def _table(field: FieldInfo) -> bool:
    """Return whether a field is a table of the file; each table gets a section."""
    annotation: Any = field.annotation
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _rule_heading(rule: type[Section]) -> str:
    return f"### `[[attribution.rules]]`: {get_args(rule.model_fields['type'].annotation)[0]}"


def _section(heading: str, model: type[Section], prefix: str | None = None) -> Iterator[str]:
    """Yield the heading, the model's docstring and the table of its fields."""
    yield f"\n{heading}\n\n{(model.__doc__ or '').strip()}"
    fields = {key: field for key, field in model.model_fields.items() if key != "type"}
    if fields:
        yield ""
        yield from _rows(fields, prefix)


def _rows(fields: Mapping[str, FieldInfo], prefix: str | None) -> Iterator[str]:
    """Yield the table of `fields`; `prefix` is that of their environment variables, if any."""
    columns = ["Key", "Type", "Default", *(["Environment"] if prefix else []), "Description"]
    yield _row(columns)
    yield _row(["---"] * len(columns))
    for key, field in fields.items():
        cells = [f"`{key}`", _type(field), _default(field)]
        if prefix:
            cells.append(f"`{prefix}{key.upper()}`")
        yield _row([*cells, field.description or ""])


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _type(field: FieldInfo) -> str:
    """Return the words for a field's type and its bounds."""
    low = next((limit for limit in field.metadata if isinstance(limit, Ge | Gt)), None)
    high = next((limit.le for limit in field.metadata if isinstance(limit, Le)), None)
    words = [_type_name(field.annotation)]
    if isinstance(low, Gt):
        words.append(f"above {low.gt}")
    elif low is not None:
        words.append(f"from {low.ge}")
    if high is not None:
        words.append(f"to {high}")
    return " ".join(words)


def _type_name(annotation: Any) -> str:  # noqa: ANN401 - a type form may be any object
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in {Annotated, Union, types.UnionType}:
        return _type_name(arguments[0])
    names = {
        bool: "boolean",
        int: "integer",
        float: "number",
        str: "string",
        SecretStr: "string, secret",
        Path: "path",
        tuple: "list",
        Mapping: "table",
    }
    return names[origin or annotation]


def _default(field: FieldInfo) -> str:
    """Return the default as TOML writes it; an empty text if there is none."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ("", (), {}):
        return ""
    if isinstance(value, tuple):
        return ", ".join(f"`{rule.type}`" for rule in value)
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{str(value).lower()}`"


if __name__ == "__main__":
    PAGE.write_text(settings_page(), encoding="utf-8")
