"""Where things stand: tests mirror the package, and its folders say what they are."""

from pathlib import Path

import pytest

from tests.support.repository import ROOT

UNIT = ROOT / "tests" / "unit"
PACKAGE = ROOT / "collector"
FOLDERS = sorted(
    path for path in PACKAGE.rglob("*/") if any(path.glob("*.py")) and "__" not in path.name
)


@pytest.mark.parametrize("path", sorted(UNIT.rglob("test_*.py")), ids=lambda p: p.stem)
def test_a_unit_test_stands_where_its_module_does(path: Path) -> None:
    """`tests/unit/metering/test_gapfill.py` tests `collector/metering/gapfill.py`, or a part."""
    folder = PACKAGE / path.relative_to(UNIT).parent
    tested = path.stem.removeprefix("test_")
    modules = [module.stem for module in folder.glob("*.py")]
    assert any(tested == name or tested.startswith(f"{name}_") for name in modules)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_folder_says_what_it_is(folder: Path) -> None:
    """The first lines of each folder's `__init__.py` tell what lives there."""
    assert (folder / "__init__.py").read_text(encoding="utf-8").startswith('"""')


def test_the_root_of_the_package_is_small() -> None:
    """Whoever opens it sees the folders, not a list of modules."""
    assert len(list(PACKAGE.glob("*.py"))) <= 12


@pytest.mark.parametrize(
    "path",
    sorted(
        path
        for folder in ("collector", "schema", "grafana/boards", "tests")
        for kind in ("*.py", "*.sql")
        for path in (ROOT / folder).rglob(kind)
        if "upgrade" not in path.parts
    ),
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_a_long_file_says_why(path: Path) -> None:
    """A file of more than 400 lines has the reason in its first lines, behind `Long:`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 400 or any("Long:" in line for line in lines[:12])
