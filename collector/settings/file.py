"""Read the settings from the file and the environment, and report all problems at once."""

import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

from pydantic import BaseModel, SecretStr, ValidationError

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
                unknown = f"unknown key {'.'.join([key, *nested])}"
                yield f"environment variable {variable}: {unknown}{_meant(key, Settings)}"


def _unknown_keys(content: Mapping[str, Any]) -> Iterator[str]:
    """Yield the file's unknown top keys, before BaseSettings takes some as its own options."""
    for key in content:
        if key not in Settings.model_fields:
            yield f"{key}: unknown key{_meant(key, Settings)}"


def _meant(key: str, section: type[BaseModel]) -> str:
    """Return the key of `section` that was probably meant, as a question; else an empty text."""
    near = get_close_matches(key, section.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near and near[0] != key else ""


def _problems_of(error: ValidationError, content: Mapping[str, Any]) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        key = _key(problem["loc"], content)
        for line in problem["msg"].removeprefix("Value error, ").split("\n"):
            text = line
            if problem["type"] == "extra_forbidden":
                text = f"unknown key{_meant_at(problem['loc'])}"
            yield f"{key}: {text}" if key else text


def _meant_at(location: tuple[int | str, ...]) -> str:
    """Return what was probably meant with the unknown key at `location`."""
    section: type[BaseModel] | None = Settings
    for part in location[:-1]:
        if isinstance(part, str) and section is not None:
            field = section.model_fields.get(part)
            section = _section_of(field.annotation) if field else None
    return _meant(str(location[-1]), section) if section else ""


def _section_of(annotation: Any) -> type[Section] | None:  # noqa: ANN401 - a type or an alias
    """Return the model in an annotation such as `SpoolSettings` or `tuple[ServerSettings, ...]`."""
    inner = (annotation, *get_args(annotation))
    sections = (kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section))
    return next(sections, None)


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
