"""The image. No container engine is needed: these are the mistakes that reading the files finds."""

import ast
import re
import shlex

import yaml

from tests.support.deployment import PORT, SPOOL
from tests.support.repository import ROOT


def dockerfile() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, each with its arguments in one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    parts = [line.partition(" ") for line in lines if line]
    return [(instruction, arguments) for instruction, _, arguments in parts]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    """Every source exists, and .dockerignore lets it into the build."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    for instruction, arguments in dockerfile():
        if instruction == "COPY" and not arguments.startswith("--from="):
            for source in shlex.split(arguments)[:-1]:
                assert [*ROOT.glob(source)], source
                assert f"!{source}" in ignore, source


def test_nothing_else_goes_into_the_build() -> None:
    """No data, settings or secrets of the checkout: only what is copied."""
    ignore = (ROOT / ".dockerignore").read_text()
    copied = " ".join(a for i, a in dockerfile() if i == "COPY")
    assert [name for name in re.findall(r"^!(.*)$", ignore, re.MULTILINE)
            if name not in copied.split()] == []  # fmt: skip


def test_base_images_are_pinned() -> None:
    """Each stage says its version."""
    bases = [arguments.split()[0] for i, arguments in dockerfile() if i == "FROM"]
    assert len(bases) == 2
    assert all(re.fullmatch(r"[a-z/]+:\d[\w.-]+", base) for base in bases)


def test_packages_are_checked_by_their_hashes() -> None:
    """Every pip install is from a lock file, or of the wheel that was just built."""
    runs = [arguments for i, arguments in dockerfile() if i == "RUN"]
    installs = re.findall(r"pip install (.*?)(?:&&|$)", " && ".join(runs))
    assert len(installs) == 3
    assert all("--require-hashes" in i or "--no-index" in i for i in installs)


def test_it_runs_as_a_numbered_user_without_rights() -> None:
    """A cluster can see from the number that it is not root; nobody becomes another after."""
    last_stage = dockerfile()[[i for i, _ in dockerfile()].index("FROM", 1) :]
    users = [arguments for i, arguments in last_stage if i == "USER"]
    assert users == ["10001:10001"]
    assert "RUN" not in [i for i, _ in last_stage]


def test_the_spool_is_a_folder_of_that_user() -> None:
    """It is in the image, so that a new volume there can be written by the collector."""
    copies = [arguments.split() for i, arguments in dockerfile() if i == "COPY"]
    (copy,) = [arguments for arguments in copies if arguments[-1] == SPOOL]
    assert copy[:2] == ["--from=build", "--chown=10001:10001"]
    assert f"mkdir {copy[2]}" in " ".join(a for i, a in dockerfile() if i == "RUN")
    assert f"BBBMETER_SPOOL__DIRECTORY={SPOOL}" in dict(dockerfile())["ENV"]


def test_it_starts_the_collector_and_asks_it_how_it_is() -> None:
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
