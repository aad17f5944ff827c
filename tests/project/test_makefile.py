"""The Makefile, without installing anything, and the script of continuous integration."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.repository import ROOT

MAKE = shutil.which("make") or "make"


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


def test_help_explains_every_target() -> None:
    """`make` alone lists all targets, one a line."""
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    explained = [line.split()[1] for line in make().stdout.splitlines()]
    assert sorted(explained) == sorted(phony.split())


def test_an_old_python_is_refused_in_words(tmp_path: Path) -> None:
    """The message says what is needed and how to name another Python."""
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    made = make("install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert made.returncode != 0
    assert "needs Python 3.11 or newer" in made.stderr
    assert not (tmp_path / "venv").exists()


def test_installing_is_bound_to_the_lock_files() -> None:
    """Every installation from an index checks hashes."""
    text = (ROOT / "Makefile").read_text()
    installs = [line for line in text.splitlines() if "$(PIP) install" in line]
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_it_runs_the_command_of_the_readme_and_stops_at_errors() -> None:
    """Continuous integration runs the command that the README names."""
    path = ROOT / ".ci" / "run"
    lines = path.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert lines[-1] == "make test"
    assert "make test" in (ROOT / "README.md").read_text()
    assert path.stat().st_mode & 0o111
