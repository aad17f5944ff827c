"""The files for contributors: the workflow, the hooks before a commit, security, releases."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLASSIFIERS: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
    "classifiers"
]
WORKFLOW_TEXT = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
WORKFLOW: dict[str, Any] = yaml.safe_load(WORKFLOW_TEXT)
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
HOOKS: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
LINK = re.compile(r"\]\(([^)#]+)")


def promised() -> set[str]:
    """Return the Python versions that pyproject.toml promises, such as `3.11`."""
    found = (re.search(r":: Python :: (3\.\d+)$", classifier) for classifier in CLASSIFIERS)
    return {match[1] for match in found if match}


def lint() -> list[str]:
    """Return the commands of `make lint`, with the path of the venv's programs filled in."""
    text = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert recipe
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]


class TestWorkflow:
    """`.github/workflows/test.yml`."""

    def test_it_runs_on_promised_versions_of_python(self) -> None:
        """The oldest and the newest Python of the classifiers are tested, and no other one."""
        tested = set(JOBS["test"]["strategy"]["matrix"]["python"])
        assert tested <= promised()
        ordered = sorted(promised(), key=lambda version: int(version.partition(".")[2]))
        assert {ordered[0], ordered[-1]} <= tested

    def test_every_job_sets_up_a_promised_python(self) -> None:
        """A job uses a version of the matrix, or names one of the classifiers."""
        for name, job in JOBS.items():
            (version,) = [
                step["with"]["python-version"]
                for step in job["steps"]
                if step.get("uses", "").startswith("actions/setup-python@")
            ]
            assert version in promised() | {"${{ matrix.python }}"}, name

    def test_it_runs_make_test_and_builds_the_wheel(self) -> None:
        """Continuous integration runs the commands that developers run."""
        assert "make test" in [step.get("run") for step in JOBS["test"]["steps"]]
        assert "make build" in [step.get("run") for step in JOBS["build"]["steps"]]

    def test_it_runs_on_every_push_and_pull_request(self) -> None:
        """No branch and no path is left out."""
        # YAML 1.1 reads the key `on` as a Boolean.
        triggers = {str(key): value for key, value in WORKFLOW.items()}["True"]
        assert triggers == {"push": None, "pull_request": None}

    def test_it_may_only_read_and_knows_no_secret(self) -> None:
        """A changed workflow or action cannot write to the repository or send a secret away."""
        assert WORKFLOW["permissions"] == {"contents": "read"}
        assert all("permissions" not in job for job in JOBS.values())
        assert "secrets." not in WORKFLOW_TEXT
        checkouts = [
            step
            for job in JOBS.values()
            for step in job["steps"]
            if step.get("uses", "").startswith("actions/checkout@")
        ]
        assert len(checkouts) == len(JOBS)
        assert all(step["with"]["persist-credentials"] is False for step in checkouts)

    def test_actions_are_pinned_by_their_major_version(self) -> None:
        """Only the forge's own actions are used, each in a named major version."""
        used = re.findall(r"uses: (\S+)", WORKFLOW_TEXT)
        assert used
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used)

    def test_every_job_ends(self) -> None:
        """A test that hangs does not hold a runner for hours."""
        assert all(job["timeout-minutes"] <= 60 for job in JOBS.values())


class TestHooks:
    """`.pre-commit-config.yaml`."""

    def test_they_run_commands_of_lint(self) -> None:
        """What a hook accepts, `make lint` accepts: ruff's check and format, and codespell."""
        entries = [hook["entry"] for repo in HOOKS["repos"] for hook in repo["hooks"]]
        assert entries == [
            ".venv/bin/ruff check .",
            ".venv/bin/ruff format --check .",
            ".venv/bin/codespell",
        ]
        assert set(entries) <= set(lint())

    def test_they_fetch_nothing(self) -> None:
        """All hooks are local and run installed programs, on the whole checkout as lint does."""
        assert [repo["repo"] for repo in HOOKS["repos"]] == ["local"]
        for hook in HOOKS["repos"][0]["hooks"]:
            assert hook["language"] == "system"
            assert hook["pass_filenames"] is False


@pytest.mark.parametrize("name", ["SECURITY.md", "RELEASING.md"])
def test_links_lead_to_files(name: str) -> None:
    """Every page that SECURITY.md and RELEASING.md link to exists."""
    targets = LINK.findall((ROOT / name).read_text(encoding="utf-8"))
    assert targets
    assert [target for target in targets if not (ROOT / target).is_file()] == []
