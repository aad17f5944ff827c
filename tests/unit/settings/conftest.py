"""Fixtures of all tests of the settings: an environment without our variables, a file to load."""

import os
from pathlib import Path

import pytest

from collector.errors import SettingsError
from collector.settings import Settings
from collector.settings.file import load_settings
from tests.support.settings import Load, Problems


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without any variable of bbbmeter."""
    for variable in list(os.environ):
        if variable.upper().startswith("BBBMETER_"):
            monkeypatch.delenv(variable)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file of settings stands."""
    return tmp_path / "bbbmeter.toml"


@pytest.fixture
def load(path: Path) -> Load:
    """Return a function that loads settings from a text."""

    def load_text(text: str) -> Settings:
        path.write_text(text, encoding="utf-8")
        return load_settings(path)

    return load_text


@pytest.fixture
def problems(load: Load) -> Problems:
    """Return a function that loads a text which must be refused, and gives the problems."""

    def problems_of(text: str) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            load(text)
        return caught.value.problems

    return problems_of
