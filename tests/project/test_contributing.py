"""CONTRIBUTING.md and docs/architecture.md name only folders, files and commands that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("CONTRIBUTING.md", "docs/architecture.md")
# `collector/cli.py`, `docs/runbooks/`, `Makefile`, `collector/commands/NAME.py`; not `/metrics`.
PATH = re.compile(
    r"(?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:md|py|sql|toml|yaml|mjs|json|lock)|Makefile",
)
# What `bbbmeter init` writes: it is in no checkout.
WRITTEN_BY_OPERATORS = {"bbbmeter.toml"}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page: str) -> str:
    """Return a page's Markdown."""
    return (ROOT / page).read_text(encoding="utf-8")


def paths_of(page: str) -> set[str]:
    """Return what stands in backticks on a page and looks like a path of the checkout."""
    quoted = re.findall(r"`([^`\s]+)`", without_code(page))
    return {text for text in quoted if PATH.fullmatch(text)} - WRITTEN_BY_OPERATORS


def without_code(page: str) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    """A path in backticks leads to a file or folder; `NAME` stands for any name."""
    paths = paths_of(page)
    assert len(paths) > 20
    missing = [path for path in paths if not any(ROOT.glob(path.replace("NAME", "*").rstrip("/")))]
    assert sorted(missing) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_make_target_exists(page: str) -> None:
    """What a page says to run with make is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^)(?:\w+=\S+ )?make ([a-z-]+)", text_of(page), re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """A link leads to a file of the checkout, and to a heading that the file has."""
    broken = []
    for link in LINK.findall(text_of(page)):
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)
    assert broken == []


def test_every_folder_has_its_paragraph() -> None:
    """The page on architecture has a heading for each folder of collector/, and for no other."""
    headings = re.findall(
        r"^### `collector/(\w+)/`$", text_of("docs/architecture.md"), re.MULTILINE
    )
    packages = [path.parent.name for path in (ROOT / "collector").glob("*/__init__.py")]
    assert sorted(headings) == sorted(packages)


def test_the_drawing_names_what_there_is() -> None:
    """Folders in the drawing are folders of collector/ or of the checkout."""
    drawing = text_of("docs/architecture.md").partition("```\n")[2].partition("```")[0]
    folders = re.findall(r"([a-z]+)/", drawing)
    assert len(folders) > 8
    for folder in folders:
        assert (ROOT / "collector" / folder).is_dir() or (ROOT / folder).is_dir(), folder
