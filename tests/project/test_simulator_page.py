"""docs/simulator.md, against the simulator."""

import re

from collector.simulator.faults import KINDS
from tests.support.repository import DOCS


def test_the_table_has_each_fault() -> None:
    """In the order of the code."""
    page = (DOCS / "simulator.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [*KINDS]
