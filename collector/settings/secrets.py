"""Read secrets from the files and environment variables that settings and options name."""

import os
from pathlib import Path

from pydantic import SecretStr

from collector.errors import SettingsError


def secret_from_file(path: Path, key: str, source: str) -> SecretStr:
    """Return the content of `path` without line ends at its beginning and end.

    Raises SettingsError if the file is empty or cannot be read. The message names the file, the
    `key` that refers to it and the `source`.
    """
    where = f"{path} ({key})"
    try:
        value = path.read_text(encoding="utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise SettingsError([f"{where}: {reason}"], source) from None
    return _given(value, where, source)


def secret_from_env(variable: str, key: str, source: str) -> SecretStr:
    """Return the variable's value.

    Raises SettingsError, as `secret_from_file` does, if the variable is empty or not set.
    """
    where = f"environment variable {variable} ({key})"
    return _given(os.environ.get(variable, ""), where, source)


def _given(value: str, where: str, source: str) -> SecretStr:
    if not value:
        raise SettingsError([f"{where} is empty or not set; it must hold the secret"], source)
    return SecretStr(value)
