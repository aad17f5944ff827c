"""docs/grafana.md names what there is: panels, rules, runbooks, pictures."""

import json
import re
from collections.abc import Mapping

import yaml

from grafana import alerts, generate
from grafana.replay.board import panels
from tests.support.repository import DOCS

PAGE = (DOCS / "grafana.md").read_text(encoding="utf-8")
PANELS: Mapping[str, set[str]] = {
    board["title"]: {panel["title"] for panel in panels(board)}
    for path, text in generate.files().items()
    if path.suffix == ".json"
    for board in [json.loads(text)]
}


def rows_of(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without the table's own heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_each_panel_that_is_named_is_there() -> None:
    """In the table of bigbluebutton-exporter's panels."""
    named = 0
    for _, here in rows_of("Coming from bigbluebutton-exporter"):
        for board, titles in re.findall(r"([A-Z][\w ]*): ((?:\*[^*]+\*[^;.]*)+)", here):
            for title in re.findall(r"\*([^*]+)\*", titles):
                assert title in PANELS[board], f"{board}: {title}"
                named += 1
    assert named > 20


def test_each_rule_is_named() -> None:
    """With its runbook, in the order of the rules."""
    rules = [rule for group in alerts.provisioning()["groups"] for rule in group["rules"]]
    wanted = [
        [rule["title"], f"[{uid}](runbooks/{uid}.md)"]
        for rule in rules
        for uid in [rule["uid"].removeprefix("bbbmeter-")]
    ]
    assert [[title, runbook] for title, _, runbook in rows_of("Alerts")] == wanted


def test_each_dashboard_has_its_picture() -> None:
    """And each picture that the page names is there."""
    pictures = set(re.findall(r"\(img/([\w-]+)\.png\)", PAGE))
    assert pictures == {path.stem for path in generate.files() if path.suffix == ".json"}
    assert all((DOCS / "img" / f"{name}.png").is_file() for name in pictures)


def test_the_import_by_hand_needs_only_what_is_provisioned() -> None:
    """Rules name the data source by the uid that the page says."""
    source = yaml.safe_load(
        (DOCS.parent / "grafana/provisioning/datasources/bbbmeter.yaml").read_text()
    )
    assert source["datasources"][0]["uid"] == "bbbmeter"
    assert "uid `bbbmeter`" in PAGE
