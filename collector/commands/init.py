"""`bbbmeter init`: write a commented example of the settings."""

import os
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from collector.commands.options import DEFAULT_CONFIG, Config
from collector.errors import UsageError

# Every key, with its default commented out; valid as it stands.
EXAMPLE = resources.files("collector.settings").joinpath("example.toml").read_text(encoding="utf-8")


def init(
    config: Config = None,
    force: Annotated[bool, typer.Option(help="Overwrite the file.")] = False,
) -> None:
    """Write a commented example of the settings."""
    path = config or DEFAULT_CONFIG
    write_example(path, force=force)
    print(f"wrote {path}: put in your servers, then run `bbbmeter check`")


def write_example(path: Path, *, force: bool = False) -> None:
    """Write the example to `path`, readable for its owner alone, as secrets go in there.

    An existing file is replaced only with `force`, and then gets the same mode. Raises
    UsageError where the file exists or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(EXAMPLE)
    except FileExistsError as error:
        raise UsageError(["exists; --force replaces it"], str(path)) from error
    except OSError as error:
        raise UsageError([f"cannot be written: {error.strerror}"], str(path)) from error
