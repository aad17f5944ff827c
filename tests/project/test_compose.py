"""compose.yaml. No container engine is needed: these are the mistakes that reading it finds."""

import re

import pytest

from tests.support.deployment import COMPOSE, FILES, GRACE_S, SERVICES, SPOOL
from tests.support.repository import ROOT


def test_what_is_referred_to_is_declared_and_the_other_way_round() -> None:
    """Secrets, volumes and networks."""
    secrets = {name for s in SERVICES.values() for name in s.get("secrets", [])}
    networks = {name for s in SERVICES.values() for name in s["networks"]}
    sources = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    assert secrets == set(COMPOSE["secrets"])
    assert networks == set(COMPOSE["networks"])
    assert {s for s in sources if not s.startswith(".")} == set(COMPOSE["volumes"])
    for source in sources:
        assert not source.startswith(".") or (ROOT / source).exists(), source


def test_secrets_are_files_outside_of_the_repository() -> None:
    """They are read from ./secrets, which git does not see."""
    assert all(s["file"].startswith("./secrets/") for s in COMPOSE["secrets"].values())
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_the_environment(name: str) -> None:
    """What is called a password, key or secret is the path of a mounted file."""
    service = SERVICES[name]
    for variable, value in service.get("environment", {}).items():
        assert "://" not in str(value), variable
        if re.search("PASSWORD|SECRET|TOKEN|KEY|CONFIG", variable):
            folder, _, secret = str(value).rpartition("/")
            assert folder == "/run/secrets", variable
            assert secret in service["secrets"], variable


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_or_built_here(name: str) -> None:
    """No image changes by itself."""
    service = SERVICES[name]
    assert "build" in service or re.search(r":\d+\.\d+\.\d+[\w.-]*$", service["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    """No new privileges, a root file system that cannot be written, bounded memory and logs."""
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["tmpfs"]
    assert service["mem_limit"]
    assert service["logging"]["options"]["max-size"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate"}))
def test_services_come_back_and_say_how_they_are(name: str) -> None:
    """They restart, and have a health check of their own or of the image built here."""
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert ("healthcheck" in service) != ("build" in service)


def test_ports_are_for_this_machine_only() -> None:
    """Whatever is published is bound to the loopback address."""
    ports = [port for s in SERVICES.values() for port in s.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_collectors_can_be_scaled() -> None:
    """Several do not clash: no name, no port on the machine; the spool's volume is shared."""
    collector = SERVICES["collector"]
    assert not {"container_name", "ports", "hostname"} & set(collector)
    assert collector["volumes"] == [f"spool:{SPOOL}"]
    assert collector["environment"]["BBBMETER_SPOOL__DIRECTORY"] == SPOOL


def test_a_collector_has_time_to_end_and_files_for_a_large_fleet() -> None:
    """It is not killed while it brings to disk what is in memory; 1,000 servers fit."""
    collector = SERVICES["collector"]
    assert collector["stop_grace_period"] == f"{GRACE_S}s"
    assert collector["ulimits"]["nofile"] == FILES


@pytest.mark.parametrize("name", ["collector", "migrate"])
def test_the_password_stands_in_no_dsn(name: str) -> None:
    """The settings name the file, which is mounted beside them."""
    assert {"bbbmeter.toml", "database_password"} <= set(SERVICES[name]["secrets"])
    page = (ROOT / "docs/deployment.md").read_text()
    user = SERVICES["timescaledb"]["environment"]["POSTGRES_USER"]
    database = SERVICES["timescaledb"]["environment"]["POSTGRES_DB"]
    assert f'database = "postgresql://{user}@timescaledb:5432/{database}"' in page
    assert 'database_password_file = "database_password"' in page


def test_the_schema_is_ready_before_the_collector() -> None:
    """Migrating waits for the database, and the collector for the migration's good end."""
    waits = SERVICES["collector"]["depends_on"]
    assert waits["migrate"]["condition"] == "service_completed_successfully"
    migrate = SERVICES["migrate"]
    assert migrate["depends_on"]["timescaledb"]["condition"] == "service_healthy"
    assert (migrate["command"], migrate["restart"]) == (["migrate"], "no")
    assert migrate["healthcheck"] == {"disable": True}


def test_the_database_is_reached_from_inside_only() -> None:
    """It is on the inner network alone, without a port."""
    assert COMPOSE["networks"]["database"]["internal"] is True
    assert SERVICES["timescaledb"]["networks"] == ["database"]
    assert "ports" not in SERVICES["timescaledb"]
