"""The reference of the settings, `docs/settings.md`."""

import runpy
from collections.abc import Iterator
from typing import get_args

import pytest
from pydantic.fields import FieldInfo

from collector import settings
from tests.support.repository import DOCS

MODELS: tuple[type[settings.Section], ...] = (
    settings.ServerSettings,
    settings.TenantSettings,
    settings.AttributionSettings,
    settings.RetentionSettings,
    settings.ColumnstoreSettings,
    settings.SpoolSettings,
    settings.HttpSettings,
    *get_args(get_args(settings.Rule)[0]),
)


def documented_fields() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every field that an operator can set, with its name."""
    tables = {"attribution", "retention", "columnstore", "spool", "http"}
    for key, field in settings.Settings.model_fields.items():
        if key not in tables:
            yield key, field
    for model in MODELS:
        for key, field in model.model_fields.items():
            if key != "type":
                yield f"{model.__name__}.{key}", field


def test_the_committed_page_is_the_generated_one() -> None:
    """`make docs` has been run since the settings were changed."""
    tool = runpy.run_path(str(DOCS / "tools" / "generate_settings.py"))
    generated = tool["settings_page"]()
    assert generated == (DOCS / "settings.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "field"), list(documented_fields()))
def test_every_setting_is_described(name: str, field: FieldInfo) -> None:
    """A setting has a description, and the page shows it under its key."""
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert field.description, name
    assert f"| `{name.rpartition('.')[2]}` |" in page
    assert field.description in page
