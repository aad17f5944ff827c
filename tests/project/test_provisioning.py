"""Grafana's provisioning: it fits compose.yaml."""

import re

import yaml

from tests.support.deployment import SERVICES
from tests.support.repository import ROOT


def test_the_data_source_reads_the_composed_database_as_the_reader() -> None:
    """Host, database, role and the password's file are those of compose.yaml."""
    text = (ROOT / "grafana/provisioning/datasources/bbbmeter.yaml").read_text()
    (source,) = yaml.safe_load(text)["datasources"]
    database = SERVICES["timescaledb"]["environment"]
    assert source["type"] == "grafana-postgresql-datasource"
    assert source["uid"] == "bbbmeter"
    assert source["url"].partition(":")[0] in SERVICES
    assert source["jsonData"]["database"] == database["POSTGRES_DB"]
    assert source["user"] == "bbbmeter_reader" != database["POSTGRES_USER"]
    assert f"CREATE ROLE {source['user']} " in (ROOT / "grafana/reader.sh").read_text()
    (path,) = re.findall(r"^\$__file\{/run/secrets/(\w+)\}$", source["secureJsonData"]["password"])
    assert path in SERVICES["grafana"]["secrets"]


def test_dashboards_are_looked_for_where_they_are_mounted() -> None:
    """The provider's path is a mount of ./grafana/dashboards."""
    text = (ROOT / "grafana/provisioning/dashboards/bbbmeter.yaml").read_text()
    (provider,) = yaml.safe_load(text)["providers"]
    mounts = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
