"""Read the settings from the file and the environment, and report all problems at once."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr, ValidationError

from collector.errors import SettingsError
from collector.settings.base import Section
from collector.settings.root import ENV_PREFIX, Settings
from collector.settings.secrets import secret_from_file
from collector.settings.servers import twins

# Variables of bbbmeter that are not settings: the file's path, and those of tests and the engine.
_OTHER_VARIABLES = {"BBBMETER_CONFIG", "BBBMETER_TEST_DSN", "BBBMETER_EMBEDDED_DIR"}
_OTHER_VARIABLES |= {"BBBMETER_EMBEDDED_PASSWORD"}


def load_settings(path: Path | None) -> Settings:
    """Read the file at `path` and the environment; with `path` None, only the environment.

    Raises SettingsError with every problem, each with its key.
    """
    content: dict[str, Any] = {}
    source = str(path) if path else "environment"
    if path is not None:
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError([f"cannot be read: {error.strerror}"], source) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"is not valid TOML: {error}"], source) from error
    problems = [*_unknown_variables(), *_unknown_keys(content)]
    try:
        settings = Settings(**{k: v for k, v in content.items() if k in Settings.model_fields})
    except ValidationError as error:
        problems += _problems_of(error, content)
    except ValueError as error:  # a list or table in the environment that is not JSON
        problems.append(str(error))
    if problems:
        raise SettingsError(problems, source)
    try:
        settings = _resolved(settings, path)
    except RuntimeError as error:  # from expanduser
        raise SettingsError(["a path begins with ~ and an unknown user name"], source) from error
    # Only now do the paths of secrets lead to them.
    if problems := list(twins(settings.server)):
        raise SettingsError(problems, source)
    return _with_password(settings)


def _unknown_variables() -> Iterator[str]:
    for variable in sorted(os.environ):
        if variable.startswith(ENV_PREFIX) and variable not in _OTHER_VARIABLES:
            key, *nested = variable.removeprefix(ENV_PREFIX).lower().split("__")
            default = Settings.model_fields[key].default if key in Settings.model_fields else None
            # pydantic checks the keys inside a table. Other keys have no keys inside.
            if default is None or (nested and not isinstance(default, Section)):
                yield f"environment variable {variable}: unknown key {'.'.join([key, *nested])}"


def _unknown_keys(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the file's unknown top keys, before BaseSettings takes some as its own options."""
    for key in content:
        if key not in Settings.model_fields:
            yield f"{key}: unknown key"


def _problems_of(error: ValidationError, content: Mapping[str, Any]) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        key = _key(problem["loc"], content)
        for line in problem["msg"].removeprefix("Value error, ").split("\n"):
            text = "unknown key" if problem["type"] == "extra_forbidden" else line
            yield f"{key}: {text}" if key else text


def _key(location: tuple[int | str, ...], content: Mapping[str, Any]) -> str:
    """Turn ("server", 1, "url") into `server[bbb2].url`; `server[2].url` for a nameless entry."""
    key = ""
    entry: Any = content
    if location[:2] == ("attribution", "rules"):
        location = (*location[:3], *location[4:])  # pydantic adds the rule's type there
    for part in location:
        try:
            entry = entry[part]
        except (KeyError, IndexError, TypeError):
            entry = None
        if isinstance(part, int):
            name = entry.get("name") if isinstance(entry, dict) else None
            key += f"[{name if isinstance(name, str) else part + 1}]"
        else:
            key += f".{part}" if key else part
    return key


def _resolved(settings: Settings, path: Path | None) -> Settings:
    """Resolve relative paths from the file's folder, not from the working directory."""
    if path is None:
        return settings
    folder = path.resolve().parent

    def from_folder(file: Path | None) -> Path | None:
        return folder / file.expanduser() if file else None

    servers = tuple(
        server.model_copy(
            update={
                "secret_file": from_folder(server.secret_file),
                "ca_file": from_folder(server.ca_file),
            }
        )
        for server in settings.server
    )
    database = settings.database.get_secret_value()
    if database.startswith("embedded:") and database != "embedded::memory:":
        database = f"embedded:{folder / Path(database.removeprefix('embedded:')).expanduser()}"
    spool = settings.spool.model_copy(
        update={"directory": folder / settings.spool.directory.expanduser()}
    )
    return settings.model_copy(
        update={
            "server": servers,
            "database": SecretStr(database),
            "database_password_file": from_folder(settings.database_password_file),
            "spool": spool,
        }
    )


def _with_password(settings: Settings) -> Settings:
    """Put the password from `database_password_file` into the DSN."""
    file = settings.database_password_file
    if file is None:
        return settings
    password = secret_from_file(file, "database_password_file", "database").get_secret_value()
    scheme, _, rest = settings.database.get_secret_value().partition("://")
    user, at, place = rest.partition("@")
    if not at or not user or ":" in user or "/" in user:
        problem = "must be postgresql://USER@HOST/NAME, as database_password_file is set"
        raise SettingsError([problem], "database")
    dsn = f"{scheme}://{user}:{quote(password, safe='')}@{place}"
    return settings.model_copy(update={"database": SecretStr(dsn)})
