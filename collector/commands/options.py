"""Options that several commands share, and the code that loads the settings."""

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
        help="Settings file. Default: bbbmeter.toml in the working directory, if it exists.",
    ),
]


class Format(StrEnum):
    """Output format of a report."""

    table = "table"
    csv = "csv"
    json = "json"


def config_path(config: Path | None) -> Path | None:
    """Return `config`, else the default settings file if it exists, else None."""
    return config or (DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None)


def load(config: Path | None) -> Settings:
    """Return the settings, and set up logging of warnings and errors only. Raises SettingsError."""
    settings = load_settings(config_path(config))
    setup_logging(settings.log_format, "warning")
    return settings
