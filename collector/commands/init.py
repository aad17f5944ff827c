"""`bbbmeter init`: write an example settings file with comments."""

import os
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from collector.commands.options import DEFAULT_CONFIG, Config
from collector.errors import UsageError

# Has every key with its default, commented out. The text is valid settings as it is.
EXAMPLE = resources.files("collector.settings").joinpath("example.toml").read_text(encoding="utf-8")


def init(
    config: Config = None,
    force: Annotated[bool, typer.Option(help="Overwrite an existing file.")] = False,
) -> None:
    """Write an example settings file with comments."""
    path = config or DEFAULT_CONFIG
    write_example(path, force=force)
    print(f"wrote {path}: add your servers to it, then run `bbbmeter check`")


def write_example(path: Path, *, force: bool = False) -> None:
    """Write the example to `path`, with mode 0600, as the file will contain secrets.

    With `force`, an existing file is replaced and gets the same mode. Raises UsageError if the
    file exists and `force` is not set, or if the file cannot be written.
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
