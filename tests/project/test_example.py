"""The example that `bbbmeter init` writes."""

import re
import stat
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from collector.commands import init as example
from collector.errors import UsageError
from collector.settings import Rule, ServerSettings, Settings, TenantSettings
from collector.settings.file import load_settings

# In a line that is commented out, the key follows the # at once; prose has a space there.
COMMENTED_OUT = re.compile(r"^#(?=[a-z\[])", re.MULTILINE)
TABLES = ("attribution", "retention", "columnstore", "spool", "http")
# The classes of the union, in its order.
RULES: tuple[type[BaseModel], ...] = get_args(get_args(Rule)[0])


def uncommented() -> dict[str, Any]:
    """Return the example's content with everything switched on."""
    return tomllib.loads(COMMENTED_OUT.sub("", example.EXAMPLE))


def is_default(model: BaseModel, key: str, value: object) -> bool:
    """Say whether `value`, as TOML has it, is what `model` has under `key`."""
    default = getattr(model, key)
    if key == "database":
        default = default.get_secret_value()
    elif isinstance(default, Path):
        default = str(default)
    return bool(value == default)


def test_example_is_valid_as_written(tmp_path: Path) -> None:
    """The file that init writes loads, with one server and the defaults for all else."""
    path = tmp_path / "bbbmeter.toml"
    example.write_example(path)
    settings = load_settings(path)
    assert [server.name for server in settings.server] == ["bbb1"]
    untouched = settings.model_dump(exclude={"server", "database", "spool"})
    assert untouched == Settings().model_dump(exclude={"server", "database", "spool"})
    assert settings.spool.directory == tmp_path / "spool"


def test_every_key_stands_in_the_example_with_its_default() -> None:
    """Every key of the file and its tables is there, and what is commented out is the default."""
    content, defaults = uncommented(), Settings()
    assert set(content) == set(Settings.model_fields)
    # A file with a password has no default that TOML could show.
    scalars = set(content) - {"server", "tenant", "database_password_file", *TABLES}
    assert [key for key in scalars if not is_default(defaults, key, content[key])] == []
    for table in TABLES:
        model = getattr(defaults, table)
        assert set(content[table]) == set(type(model).model_fields), table
        keys = set(content[table]) - {"rules"}
        assert [key for key in keys if not is_default(model, key, content[table][key])] == []


def test_every_key_of_a_server_and_a_tenant_stands_in_the_example() -> None:
    """The entries show all their keys, and the defaults of those that have one."""
    content = uncommented()
    assert set(content["server"][0]) == set(ServerSettings.model_fields)
    assert set(content["tenant"][0]) == set(TenantSettings.model_fields)
    defaults = ServerSettings(name="x", url="https://x/", secret_env="X")
    for key in ("checksum", "timeout_s", "enabled"):
        assert is_default(defaults, key, content["server"][0][key])


def test_the_example_shows_each_rule_in_the_order_of_the_union() -> None:
    """Each type of rule is shown once, with all its keys; those of load balancers come first."""
    rules = uncommented()["attribution"]["rules"]
    types = ["server", "metadata", "suffix", "prefix", "origin", "parent"]
    assert [rule["type"] for rule in rules] == types
    for rule, model in zip(rules, RULES, strict=True):
        model.model_validate(rule)
        assert set(rule) == set(model.model_fields)


def test_init_lets_nobody_else_read_the_file(tmp_path: Path) -> None:
    """A new file has the mode 0600, and so has one that is replaced, whatever it had."""
    path = tmp_path / "bbbmeter.toml"
    example.write_example(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    example.write_example(path, force=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_init_replaces_a_file_only_when_forced(tmp_path: Path) -> None:
    """An existing file stays as it is, and the message says what would replace it."""
    path = tmp_path / "bbbmeter.toml"
    path.write_text("mine")
    with pytest.raises(UsageError, match=r"bbbmeter\.toml: exists; --force replaces it"):
        example.write_example(path)
    assert path.read_text() == "mine"
    example.write_example(path, force=True)
    assert path.read_text() == example.EXAMPLE


def test_init_says_where_it_cannot_write(tmp_path: Path) -> None:
    """A missing folder is an error of the settings, with the path."""
    with pytest.raises(UsageError, match=r"cannot be written: No such file or directory"):
        example.write_example(tmp_path / "missing" / "bbbmeter.toml")
