"""The embedded engine before it starts."""

from pathlib import Path

import pytest

from collector.database.engine import MEMORY, EmbeddedEngine, parse_embedded
from collector.errors import EngineError


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
