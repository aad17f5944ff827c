"""The lock files: what is installed is what was locked, and what the project asks for."""

import ast
import json
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
RUNTIME, DEV = "requirements.lock", "requirements-dev.lock"
# A package's line ends in a backslash where a hash follows.
NO_HASH = re.compile(r"^\S+==[^\\\n]*$", re.MULTILINE)
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)", re.MULTILINE)


def locked(name: str) -> dict[str, str]:
    """Return the packages of the lock file `name` with their versions."""
    return dict(PINNED.findall((ROOT / name).read_text()))


@pytest.mark.parametrize("folder", ["embedded", "grafana/preview", "grafana/types"])
def test_npm_takes_what_was_locked_from_any_registry(folder: str) -> None:
    """Exact versions with their hashes, and no address; npm writes none when asked so."""
    lock = json.loads((ROOT / folder / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all("resolved" not in package for package in packages.values())
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert "omit-lockfile-registry-resolved=true" in (ROOT / folder / ".npmrc").read_text()
    wanted = json.loads((ROOT / folder / "package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_all_are_there() -> None:
    """One for running, one each for developing, building and Node."""
    assert LOCKS == [
        "requirements-build.lock",
        DEV,
        "requirements-node.lock",
        RUNTIME,
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_every_package_has_a_version_and_hashes(name: str) -> None:
    """What is installed is what was locked, byte for byte."""
    assert locked(name)
    assert NO_HASH.findall((ROOT / name).read_text()) == []


@pytest.mark.parametrize("name", LOCKS)
def test_none_names_an_index(name: str) -> None:
    """Packages come from the index that the machine is set up with; no address is fixed."""
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=)", text, re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_they_agree(name: str) -> None:
    """A package has the same version in every lock file."""
    versions = locked(DEV)
    differing = {key: v for key, v in locked(name).items() if versions.get(key, v) != v}
    assert differing == {}


def test_tests_run_with_what_is_run() -> None:
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
def test_they_hold_what_the_project_asks_for(name: str, wanted: list[str]) -> None:
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


def test_the_sbom_names_what_is_locked() -> None:
    """Each package that a wheel runs with, in its version; nothing names an address."""
    text = (ROOT / "docs/sbom.cdx.json").read_text(encoding="utf-8")
    assert "://" not in text
    found = {part["name"]: part["version"] for part in json.loads(text)["components"]}
    lock = json.loads((ROOT / "embedded/package-lock.json").read_text())["packages"]
    npm = {
        name.removeprefix("node_modules/"): part["version"] for name, part in lock.items() if name
    }
    assert found == locked(RUNTIME) | npm


def test_every_import_is_a_declared_dependency() -> None:
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
