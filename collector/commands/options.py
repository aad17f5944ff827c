"""Options that several commands have, and the settings that all of them read."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from collector.log import setup_logging
from collector.settings import Settings
from collector.settings.file import load_settings

DEFAULT_CONFIG = Path("bbbmeter.toml")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="BBBMETER_CONFIG",
        help="The settings; by default bbbmeter.toml in this folder, if there is one.",
    ),
]


class Format(StrEnum):
    """How a report is printed."""

    table = "table"
    csv = "csv"
    json = "json"


def config_path(config: Path | None) -> Path | None:
    """Return the settings' file: the one named, else the default if it exists, else None."""
    return config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def load(config: Path | None) -> Settings:
    """Return the settings, and log warnings and errors alone. Raises SettingsError."""
    settings = load_settings(config_path(config))
    setup_logging(settings.log_format, "warning")
    return settings
