"""Options that several commands share, and the code that loads the settings."""

import sys
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


def no_server(path: Path | None) -> str:
    """Return what to do if the settings, from the file at `path`, have no server to poll."""
    if path is None:
        return f"there is no {DEFAULT_CONFIG} here: run `bbbmeter init`, or give --config"
    return "no server to poll; add an enabled [[server]] entry"


def load(config: Path | None) -> Settings:
    """Return the settings, and set up logging of warnings and errors only. Raises SettingsError."""
    path = config_path(config)
    settings = load_settings(path)
    setup_logging(settings.log_format, "warning")
    if path is not None and path.stat().st_mode & 0o044 and any(s.secret for s in settings.server):
        said = f"{path} contains secrets, and other users can read it: chmod 600 {path}"
        print(f"bbbmeter: {said}", file=sys.stderr)
    return settings
