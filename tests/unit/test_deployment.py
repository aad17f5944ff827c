"""What installs and starts bbbmeter: lock files, containers, the unit, the provisioning.

No container engine is needed: these are the mistakes that can be found by reading the files.
"""

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from collector.daemon.daemon import CUT_GRACE_S, DRAIN_DEADLINE_S
from collector.database.deadlines import BEAT_DEADLINE_S, CONNECT_DEADLINE_S
from collector.metrics import Metrics

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
RUNTIME, DEV = "requirements.lock", "requirements-dev.lock"
# A package's line ends in a backslash where a hash follows.
NO_HASH = re.compile(r"^\S+==[^\\\n]*$", re.MULTILINE)
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)
PROMETHEUS = ROOT / "docs/examples/prometheus-alerts.yml"
UNIT = ROOT / "docs/examples/bbbmeter.service"
PORT = "9713"
SPOOL = "/var/lib/bbbmeter/spool"
# Until a collector that is asked to end is killed: its deadlines, and what closing takes.
GRACE_S = 60
FILES = 16_384
MAKE = shutil.which("make") or "make"


def locked(name: str) -> dict[str, str]:
    """Return the packages of the lock file `name` with their versions."""
    return dict(PINNED.findall((ROOT / name).read_text()))


def dockerfile() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, each with its arguments in one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    parts = [line.partition(" ") for line in lines if line]
    return [(instruction, arguments) for instruction, _, arguments in parts]


class TestLocks:
    """The lock files."""

    @pytest.mark.parametrize("folder", ["embedded", "grafana/preview", "grafana/types"])
    def test_npm_takes_what_was_locked_from_any_registry(self, folder: str) -> None:
        """Exact versions with their hashes, and no address; npm writes none when asked so."""
        lock = json.loads((ROOT / folder / "package-lock.json").read_text())
        packages = {name: package for name, package in lock["packages"].items() if name}
        assert packages
        assert all("resolved" not in package for package in packages.values())
        assert all(package["integrity"].startswith("sha512-") for package in packages.values())
        assert "omit-lockfile-registry-resolved=true" in (ROOT / folder / ".npmrc").read_text()
        wanted = json.loads((ROOT / folder / "package.json").read_text())["dependencies"]
        assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted

    def test_all_are_there(self) -> None:
        """One for running, one each for developing, building and Node."""
        assert LOCKS == [
            "requirements-build.lock",
            DEV,
            "requirements-node.lock",
            RUNTIME,
        ]

    @pytest.mark.parametrize("name", LOCKS)
    def test_every_package_has_a_version_and_hashes(self, name: str) -> None:
        """What is installed is what was locked, byte for byte."""
        assert locked(name)
        assert NO_HASH.findall((ROOT / name).read_text()) == []

    @pytest.mark.parametrize("name", LOCKS)
    def test_none_names_an_index(self, name: str) -> None:
        """Packages come from the index that the machine is set up with; no address is fixed."""
        text = (ROOT / name).read_text()
        assert "://" not in text
        assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)

    @pytest.mark.parametrize("name", LOCKS)
    def test_they_agree(self, name: str) -> None:
        """A package has the same version in every lock file."""
        versions = locked(DEV)
        differing = {key: v for key, v in locked(name).items() if versions.get(key, v) != v}
        assert differing == {}

    def test_tests_run_with_what_is_run(self) -> None:
        """All that is needed at run time is in the developers' lock file."""
        assert set(locked(RUNTIME)) <= set(locked(DEV))

    @pytest.mark.parametrize(
        ("name", "wanted"),
        [
            (RUNTIME, PROJECT["project"]["dependencies"]),
            ("requirements-node.lock", PROJECT["project"]["optional-dependencies"]["node"]),
            ("requirements-build.lock", PROJECT["dependency-groups"]["build"]),
            ("requirements-build.lock", PROJECT["build-system"]["requires"]),
            (DEV, [r for r in PROJECT["dependency-groups"]["dev"] if isinstance(r, str)]),
        ],
    )
    def test_they_hold_what_the_project_asks_for(self, name: str, wanted: list[str]) -> None:
        """`make lock` has been run since pyproject.toml was changed."""
        versions = locked(name)
        missing = [
            text
            for text in wanted
            for requirement in [Requirement(text)]
            if not requirement.specifier.contains(
                versions.get(canonicalize_name(requirement.name), "0")
            )
        ]
        assert missing == []

    def test_every_import_is_a_declared_dependency(self) -> None:
        """The package imports nothing that only a developer's installation has."""
        declared = {
            canonicalize_name(Requirement(text).name)
            for text in (
                *PROJECT["project"]["dependencies"],
                *PROJECT["project"]["optional-dependencies"]["node"],
            )
        }
        imported = {
            name.partition(".")[0]
            for path in (ROOT / "collector").rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        foreign = imported - set(sys.stdlib_module_names) - {"collector"}
        distributions = packages_distributions()
        undeclared = {
            name
            for name in foreign
            if not declared & {canonicalize_name(d) for d in distributions.get(name, [name])}
        }
        assert undeclared == set()


class TestMakefile:
    """The Makefile, without installing anything."""

    @staticmethod
    def make(*arguments: str) -> subprocess.CompletedProcess[str]:
        """Run make in the checkout."""
        return subprocess.run(
            [MAKE, "--no-print-directory", *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def test_help_explains_every_target(self) -> None:
        """Whoever types `make` is told what there is: one line each."""
        text = (ROOT / "Makefile").read_text()
        (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
        explained = [line.split()[1] for line in self.make().stdout.splitlines()]
        assert sorted(explained) == sorted(phony.split())

    def test_an_old_python_is_refused_in_words(self, tmp_path: Path) -> None:
        """The message says what is needed and how to name another Python."""
        old = tmp_path / "python3"
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
        made = self.make("install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
        assert made.returncode != 0
        assert "needs Python 3.11 or newer" in made.stderr
        assert not (tmp_path / "venv").exists()

    def test_installing_is_bound_to_the_lock_files(self) -> None:
        """Every installation from an index checks hashes."""
        text = (ROOT / "Makefile").read_text()
        installs = [line for line in text.splitlines() if "$(PIP) install" in line]
        assert len(installs) == 3
        assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


class TestDockerfile:
    """The image."""

    def test_what_is_copied_is_there_and_not_ignored(self) -> None:
        """Every source exists, and .dockerignore lets it into the build."""
        ignore = (ROOT / ".dockerignore").read_text().splitlines()
        assert "*" in ignore
        for instruction, arguments in dockerfile():
            if instruction == "COPY" and not arguments.startswith("--from="):
                for source in shlex.split(arguments)[:-1]:
                    assert (ROOT / source).exists(), source
                    assert f"!{source}" in ignore, source

    def test_nothing_else_goes_into_the_build(self) -> None:
        """No data, settings or secrets of the checkout: only what is copied."""
        ignore = (ROOT / ".dockerignore").read_text()
        copied = " ".join(a for i, a in dockerfile() if i == "COPY")
        assert [name for name in re.findall(r"^!(.*)$", ignore, re.MULTILINE)
                if name not in copied.split()] == []  # fmt: skip

    def test_base_images_are_pinned(self) -> None:
        """Each stage says its version."""
        bases = [arguments.split()[0] for i, arguments in dockerfile() if i == "FROM"]
        assert len(bases) == 2
        assert all(re.fullmatch(r"[a-z/]+:\d[\w.-]+", base) for base in bases)

    def test_packages_are_checked_by_their_hashes(self) -> None:
        """Every pip install is from a lock file, or of the wheel that was just built."""
        runs = [arguments for i, arguments in dockerfile() if i == "RUN"]
        installs = re.findall(r"pip install (.*?)(?:&&|$)", " && ".join(runs))
        assert len(installs) == 3
        assert all("--require-hashes" in i or "--no-index" in i for i in installs)

    def test_it_runs_as_a_numbered_user_without_rights(self) -> None:
        """A cluster can see from the number that it is not root; nobody becomes another after."""
        last_stage = dockerfile()[[i for i, _ in dockerfile()].index("FROM", 1) :]
        users = [arguments for i, arguments in last_stage if i == "USER"]
        assert users == ["10001:10001"]
        assert "RUN" not in [i for i, _ in last_stage]

    def test_the_spool_is_a_folder_of_that_user(self) -> None:
        """It is in the image, so that a new volume there can be written by the collector."""
        copies = [arguments.split() for i, arguments in dockerfile() if i == "COPY"]
        (copy,) = [arguments for arguments in copies if arguments[-1] == SPOOL]
        assert copy[:2] == ["--from=build", "--chown=10001:10001"]
        assert f"mkdir {copy[2]}" in " ".join(a for i, a in dockerfile() if i == "RUN")
        assert f"BBBMETER_SPOOL__DIRECTORY={SPOOL}" in dict(dockerfile())["ENV"]

    def test_it_starts_the_collector_and_asks_it_how_it_is(self) -> None:
        """The health check asks the port that the environment sets."""
        instructions = dict(dockerfile())
        assert instructions["ENTRYPOINT"] == '["bbbmeter"]'
        assert instructions["CMD"] == '["run"]'
        assert instructions["EXPOSE"] == PORT
        assert f"BBBMETER_HTTP__PORT={PORT}" in instructions["ENV"]
        options, _, command = instructions["HEALTHCHECK"].partition(" CMD ")
        assert "--timeout" in options
        python, flag, code = yaml.safe_load(command)
        assert (python, flag) == ("python", "-c")
        assert "/healthz" in code
        ast.parse(code)


class TestCompose:
    """The services."""

    def test_what_is_referred_to_is_declared_and_the_other_way_round(self) -> None:
        """Secrets, volumes and networks."""
        secrets = {name for s in SERVICES.values() for name in s.get("secrets", [])}
        networks = {name for s in SERVICES.values() for name in s["networks"]}
        sources = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
        assert secrets == set(COMPOSE["secrets"])
        assert networks == set(COMPOSE["networks"])
        assert {s for s in sources if not s.startswith(".")} == set(COMPOSE["volumes"])
        for source in sources:
            assert not source.startswith(".") or (ROOT / source).exists(), source

    def test_secrets_are_files_outside_of_the_repository(self) -> None:
        """They are read from ./secrets, which git does not see."""
        assert all(s["file"].startswith("./secrets/") for s in COMPOSE["secrets"].values())
        assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()

    @pytest.mark.parametrize("name", SERVICES)
    def test_no_secret_stands_in_the_environment(self, name: str) -> None:
        """What is called a password, key or secret is the path of a mounted file."""
        service = SERVICES[name]
        for variable, value in service.get("environment", {}).items():
            assert "://" not in str(value), variable
            if re.search("PASSWORD|SECRET|TOKEN|KEY|CONFIG", variable):
                folder, _, secret = str(value).rpartition("/")
                assert folder == "/run/secrets", variable
                assert secret in service["secrets"], variable

    @pytest.mark.parametrize("name", SERVICES)
    def test_images_are_pinned_or_built_here(self, name: str) -> None:
        """No image changes by itself."""
        service = SERVICES[name]
        assert "build" in service or re.search(r":\d+\.\d+\.\d+[\w.-]*$", service["image"])

    @pytest.mark.parametrize("name", SERVICES)
    def test_services_are_confined(self, name: str) -> None:
        """No new privileges, a root file system that cannot be written, bounded memory and logs."""
        service = SERVICES[name]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["read_only"] is True
        assert service["tmpfs"]
        assert service["mem_limit"]
        assert service["logging"]["options"]["max-size"]
        assert "privileged" not in service

    @pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate"}))
    def test_services_come_back_and_say_how_they_are(self, name: str) -> None:
        """They restart, and have a health check of their own or of the image built here."""
        service = SERVICES[name]
        assert service["restart"] == "unless-stopped"
        assert ("healthcheck" in service) != ("build" in service)

    def test_ports_are_for_this_machine_only(self) -> None:
        """Whatever is published is bound to the loopback address."""
        ports = [port for s in SERVICES.values() for port in s.get("ports", [])]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_collectors_can_be_scaled(self) -> None:
        """Several do not clash: no name, no port on the machine; the spool's volume is shared."""
        collector = SERVICES["collector"]
        assert not {"container_name", "ports", "hostname"} & set(collector)
        assert collector["volumes"] == [f"spool:{SPOOL}"]
        assert collector["environment"]["BBBMETER_SPOOL__DIRECTORY"] == SPOOL

    def test_a_collector_has_time_to_end_and_files_for_a_large_fleet(self) -> None:
        """It is not killed while it brings to disk what is in memory; 1,000 servers fit."""
        collector = SERVICES["collector"]
        assert collector["stop_grace_period"] == f"{GRACE_S}s"
        assert collector["ulimits"]["nofile"] == FILES

    @pytest.mark.parametrize("name", ["collector", "migrate"])
    def test_the_password_stands_in_no_dsn(self, name: str) -> None:
        """The settings name the file, which is mounted beside them."""
        assert {"bbbmeter.toml", "database_password"} <= set(SERVICES[name]["secrets"])
        page = (ROOT / "docs/deployment.md").read_text()
        user = SERVICES["timescaledb"]["environment"]["POSTGRES_USER"]
        database = SERVICES["timescaledb"]["environment"]["POSTGRES_DB"]
        assert f'database = "postgresql://{user}@timescaledb:5432/{database}"' in page
        assert 'database_password_file = "database_password"' in page

    def test_the_schema_is_ready_before_the_collector(self) -> None:
        """Migrating waits for the database, and the collector for the migration's good end."""
        waits = SERVICES["collector"]["depends_on"]
        assert waits["migrate"]["condition"] == "service_completed_successfully"
        migrate = SERVICES["migrate"]
        assert migrate["depends_on"]["timescaledb"]["condition"] == "service_healthy"
        assert (migrate["command"], migrate["restart"]) == (["migrate"], "no")
        assert migrate["healthcheck"] == {"disable": True}

    def test_the_database_is_reached_from_inside_only(self) -> None:
        """It is on the inner network alone, without a port."""
        assert COMPOSE["networks"]["database"]["internal"] is True
        assert SERVICES["timescaledb"]["networks"] == ["database"]
        assert "ports" not in SERVICES["timescaledb"]


class TestGrafana:
    """Provisioning."""

    def test_the_data_source_reads_the_composed_database_as_the_reader(self) -> None:
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
        (path,) = re.findall(
            r"^\$__file\{/run/secrets/(\w+)\}$", source["secureJsonData"]["password"]
        )
        assert path in SERVICES["grafana"]["secrets"]

    def test_dashboards_are_looked_for_where_they_are_mounted(self) -> None:
        """The provider's path is a mount of ./grafana/dashboards."""
        text = (ROOT / "grafana/provisioning/dashboards/bbbmeter.yaml").read_text()
        (provider,) = yaml.safe_load(text)["providers"]
        mounts = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"])
        assert mounts["./grafana/dashboards"] == provider["options"]["path"]
        assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"


class TestAlerts:
    """`docs/examples/prometheus-alerts.yml`, and what operations.md says about it."""

    RULES: tuple[dict[str, Any], ...] = tuple(
        rule
        for group in yaml.safe_load(PROMETHEUS.read_text())["groups"]
        for rule in group["rules"]
    )
    PAGE = (ROOT / "docs/operations.md").read_text()

    @staticmethod
    def metrics() -> set[str]:
        """Return the names under which Prometheus stores what a collector shows."""
        suffixes = {"counter": "_total", "info": "_info"}
        families = Metrics().registry.collect()
        return {family.name + suffixes.get(family.type, "") for family in families}

    def test_they_ask_for_metrics_that_exist(self) -> None:
        """No rule is silent because a name is wrong; `up` is Prometheus's own."""
        found = {n for r in self.RULES for n in re.findall(r"bbbmeter_\w+", r["expr"])}
        assert found
        assert found <= self.metrics()
        assert all("bbbmeter_" in r["expr"] or "up{" in r["expr"] for r in self.RULES)

    def test_each_has_a_name_of_its_own_and_says_what_is_wrong(self) -> None:
        """Name, severity and summary are there, and parentheses match."""
        names = [rule["alert"] for rule in self.RULES]
        assert len(set(names)) == len(names) > 10
        for rule in self.RULES:
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert rule["annotations"]["summary"]
            assert rule["expr"].count("(") == rule["expr"].count(")")

    def test_each_has_its_section(self) -> None:
        """The link leads to a heading, and no heading is left without its alert."""
        headings = re.findall(r"^### (Bbbmeter\w+)$", self.PAGE, re.MULTILINE)
        assert headings == [rule["alert"] for rule in self.RULES]
        for rule in self.RULES:
            anchor = rule["alert"].lower()
            assert rule["annotations"]["runbook"] == f"docs/operations.md#{anchor}"

    def test_every_metric_is_explained(self) -> None:
        """The table names all there are, and none that is not."""
        table = self.PAGE.partition("### All metrics")[2].partition("\n## ")[0]
        assert set(re.findall(r"`(bbbmeter_\w+)`", table)) == self.metrics()

    def test_prometheus_finds_the_collectors_of_compose(self) -> None:
        """The job has the name that the rules expect, the service's name and its port."""
        page = (ROOT / "docs/deployment.md").read_text()
        block = page.partition("rule_files")[2].partition("```")[0]
        (job,) = yaml.safe_load("rule_files" + block)["scrape_configs"]
        assert all(
            f'job="{job["job_name"]}"' in text for text in re.findall(r"up\{.*?\}", str(self.RULES))
        )
        (found,) = job["dns_sd_configs"]
        assert (found["names"], found["port"]) == (["collector"], int(PORT))
        assert f"{COMPOSE['name']}_outside" in page
        assert "outside" in SERVICES["collector"]["networks"]


class TestUnit:
    """The systemd unit."""

    def test_it_migrates_and_runs_with_settings_that_only_root_can_read(self) -> None:
        """The commands exist, and the settings are handed over as a credential.

        A database that is away at the start does not keep the collector from its spool.
        """
        lines = UNIT.read_text().splitlines()
        assert "ExecStartPre=-/opt/bbbmeter/bin/bbbmeter migrate" in lines
        assert "ExecStart=/opt/bbbmeter/bin/bbbmeter run" in lines
        assert "LoadCredential=bbbmeter.toml:/etc/bbbmeter/bbbmeter.toml" in lines
        assert "Environment=BBBMETER_CONFIG=%d/bbbmeter.toml" in lines
        assert {"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict"} <= set(lines)

    def test_it_has_a_spool_time_to_end_and_files_for_a_large_fleet(self) -> None:
        """The spool is where systemd lets it write, and outlives the user."""
        lines = UNIT.read_text().splitlines()
        assert {"StateDirectory=bbbmeter", "StateDirectoryMode=0700"} <= set(lines)
        assert "Environment=BBBMETER_SPOOL__DIRECTORY=%S/bbbmeter/spool" in lines
        assert f"TimeoutStopSec={GRACE_S}" in lines
        assert f"LimitNOFILE={FILES}" in lines

    def test_the_time_to_end_is_enough(self) -> None:
        """It holds the collector's own deadlines, one after the other."""
        own_s = CUT_GRACE_S + BEAT_DEADLINE_S + DRAIN_DEADLINE_S + CONNECT_DEADLINE_S
        assert own_s <= GRACE_S


class TestContinuousIntegration:
    """`.ci/run`."""

    def test_it_runs_the_command_of_the_readme_and_stops_at_errors(self) -> None:
        """What is checked is what a developer is told to run."""
        path = ROOT / ".ci" / "run"
        lines = path.read_text().splitlines()
        assert lines[0] == "#!/usr/bin/env bash"
        assert "set -euo pipefail" in lines
        assert lines[-1] == "make test"
        assert "make test" in (ROOT / "README.md").read_text()
        assert path.stat().st_mode & 0o111
