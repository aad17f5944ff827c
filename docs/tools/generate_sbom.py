"""Writes the list of what a wheel of bbbmeter runs with, in CycloneDX: `make lock`.

The Python packages are those of requirements.lock, and the packages of the embedded engine those of
embedded/package-lock.json. The same lock files give the same bytes.
"""

import argparse
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

ROOT = Path(__file__).resolve().parents[2]
_PINNED = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)


def python_packages(lock: str) -> Iterator[Component]:
    """Yield the packages of a file of pip's requirements with hashes."""
    for name, version in _PINNED.findall(lock):
        yield _component(name, version, "pypi")


def npm_packages(lock: str) -> Iterator[Component]:
    """Yield the packages of a package-lock.json, with their checksums."""
    for path, package in json.loads(lock)["packages"].items():
        if not path:
            continue
        name = path.rpartition("node_modules/")[2]
        component = _component(name, package["version"], "npm")
        algorithm, _, digest = package["integrity"].partition("-")
        assert algorithm == "sha512"  # noqa: S101 - npm uses no other
        content = base64.b64decode(digest).hex()
        component.hashes.add(HashType(alg=HashAlgorithm.SHA_512, content=content))
        yield component


def _component(name: str, version: str, kind: str) -> Component:
    scope, _, bare = name.rpartition("/")
    purl = PackageURL(kind, scope or None, bare, version)
    return Component(
        name=name, version=version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl)
    )


def sbom() -> str:
    """Return the list as JSON. It has no time and no number of its own."""
    bom = Bom()
    own = Component(name="bbbmeter", type=ComponentType.APPLICATION, bom_ref="bbbmeter")
    parts = [
        *python_packages((ROOT / "requirements.lock").read_text(encoding="utf-8")),
        *npm_packages((ROOT / "embedded/package-lock.json").read_text(encoding="utf-8")),
    ]
    bom.metadata.component = own
    bom.components.update(parts)
    bom.register_dependency(own, parts)
    content = json.loads(JsonV1Dot6(bom).output_as_string())
    del content["serialNumber"], content["metadata"]["timestamp"], content["$schema"]
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.parse_args().path.write_text(sbom(), encoding="utf-8")


if __name__ == "__main__":
    main()
