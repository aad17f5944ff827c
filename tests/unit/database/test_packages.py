"""Where the embedded engine's packages are, and how they get there; npm is a script here."""

from pathlib import Path

import pytest

from collector.database import packages
from collector.database.packages import engine_folder, install, is_installed
from collector.errors import EngineError

FETCHES = "mkdir node_modules && cp package-lock.json node_modules/fetched"
FAILS = "echo 'npm error code EINTEGRITY' >&2; exit 1"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A Node whose npm is a script, and a package with an engine."""
    package = tmp_path / "package"
    package.mkdir()
    for name in ("package-lock.json", "package.json", "server.mjs"):
        (package / name).write_text(name)
    monkeypatch.setattr(packages, "_packaged", lambda: sorted(package.iterdir()))
    # As if it were no checkout.
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "a" / "b" / "packages.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    node = tmp_path / "bin" / "node"
    node.parent.mkdir()
    npm(node, FETCHES)
    return node


def npm(node: Path, script: str) -> None:
    """Let npm do what the shell script says."""
    cli = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    cli.parent.mkdir(parents=True, exist_ok=True)
    cli.write_text(script)
    node.write_text('#!/bin/sh\nexec /bin/sh "$1"\n')
    node.chmod(0o755)


def test_fetched_once_into_the_cache(node: Path, tmp_path: Path) -> None:
    """The folder's name is that of the files, so that another version has its own."""
    folder = engine_folder()
    assert folder.parent == tmp_path / "cache" / "bbbmeter"
    assert not is_installed(folder)
    install(folder, node)
    assert is_installed(folder)
    assert (folder / "node_modules" / "fetched").read_text() == "package-lock.json"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    install(folder, node)  # as another process that began before
    (tmp_path / "package" / "server.mjs").write_text("a new version")
    assert engine_folder() != folder


def test_what_cannot_be_fetched_leaves_nothing(node: Path) -> None:
    """The error has npm's own words, and says what else can be done."""
    npm(node, FAILS)
    folder = engine_folder()
    with pytest.raises(EngineError, match=r"EINTEGRITY.*registry and proxy.*postgresql://"):
        install(folder, node)
    assert [*folder.parent.iterdir()] == []


def test_a_cache_that_cannot_be_written(node: Path, tmp_path: Path) -> None:
    """The error names the folder."""
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(EngineError, match=r"cannot be installed in .*cache"):
        install(engine_folder(), node)


def test_a_checkout_needs_make_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is fetched into a checkout, or into a folder that was named."""
    assert engine_folder().name == "embedded"
    monkeypatch.setenv("BBBMETER_EMBEDDED_DIR", str(tmp_path))
    assert engine_folder() == tmp_path
    with pytest.raises(EngineError, match="make install"):
        install(engine_folder(), tmp_path / "node")
