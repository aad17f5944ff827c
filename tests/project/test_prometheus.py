"""`docs/examples/prometheus-alerts.yml`, and what operations.md says about it."""

import re
from typing import Any

import yaml
from prometheus_client import Counter, Gauge, Histogram

from collector.metrics import Metrics
from tests.support.deployment import COMPOSE, PORT, SERVICES
from tests.support.repository import ROOT

ALERTS = ROOT / "docs" / "examples" / "prometheus-alerts.yml"
RULES: tuple[dict[str, Any], ...] = tuple(
    rule
    for group in yaml.safe_load((ROOT / "docs/examples/prometheus-alerts.yml").read_text())[
        "groups"
    ]
    for rule in group["rules"]
)
PAGE = (ROOT / "docs/operations.md").read_text()


def metrics() -> set[str]:
    """Return the names under which Prometheus stores what a collector shows."""
    suffixes = {"counter": "_total", "info": "_info"}
    families = Metrics().registry.collect()
    return {family.name + suffixes.get(family.type, "") for family in families}


def test_they_ask_for_metrics_that_exist() -> None:
    """No rule is silent because a name is wrong; `up` is Prometheus's own."""
    found = {n for r in RULES for n in re.findall(r"bbbmeter_\w+", r["expr"])}
    assert found
    assert found <= metrics()
    assert all("bbbmeter_" in r["expr"] or "up{" in r["expr"] for r in RULES)


def test_each_has_a_name_of_its_own_and_says_what_is_wrong() -> None:
    """Name, severity and summary are there, and parentheses match."""
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) > 10
    for rule in RULES:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert rule["annotations"]["summary"]
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_a_summary_names_labels_that_its_metrics_have() -> None:
    """Another label would leave a blank in the notification."""
    labels = {
        name: set(metric._labelnames)
        for metric in vars(Metrics()).values()
        if isinstance(metric, Counter | Gauge | Histogram)
        for name in (metric._name, f"{metric._name}_total")
    }
    named = 0
    for rule in RULES:
        metrics_of = re.findall(r"bbbmeter_\w+", rule["expr"])
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert all(label in labels[name] for name in metrics_of), (rule["alert"], label)
            named += 1
    assert named > 3


def test_each_has_its_section() -> None:
    """The link leads to a heading, and no heading is left without its alert."""
    headings = re.findall(r"^### (Bbbmeter\w+)$", PAGE, re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]
    for rule in RULES:
        anchor = rule["alert"].lower()
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{anchor}"


def test_every_metric_is_explained() -> None:
    """The table names all there are, and none that is not."""
    table = PAGE.partition("### All metrics")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(bbbmeter_\w+)`", table)) == metrics()


def test_prometheus_finds_the_collectors_of_compose() -> None:
    """The job has the name that the rules expect, the service's name and its port."""
    page = (ROOT / "docs/deployment.md").read_text()
    block = page.partition("rule_files")[2].partition("```")[0]
    (job,) = yaml.safe_load("rule_files" + block)["scrape_configs"]
    assert all(f'job="{job["job_name"]}"' in text for text in re.findall(r"up\{.*?\}", str(RULES)))
    (found,) = job["dns_sd_configs"]
    assert (found["names"], found["port"]) == (["collector"], int(PORT))
    assert f"{COMPOSE['name']}_outside" in page
    assert "outside" in SERVICES["collector"]["networks"]
