"""A short run of the parser's fuzzer; `make fuzz` is the long one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from collector.errors import PollError
from collector.sources.polling.parser import parse_meetings
from tests.fuzz.fuzz_parser import begins_in

HERE = Path(__file__).parent
CASES = 20_000


def test_short_run(tmp_path: Path) -> None:
    """Thousands of mutations and of names with markup bring up nothing."""
    pytest.importorskip("atheris", reason="has no wheel for this system")
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_parser", f"--cases={CASES}", f"--save={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert sum(part["cases"] for part in report.values()) == CASES
    assert report["names"]["outcomes"]["skipped"] > report["names"]["cases"] / 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", sorted((HERE / "corpus").iterdir()), ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    """Each seed is read or refused, at once and whenever it is cut off."""
    body = path.read_bytes()
    for candidate in (body, body[:-1], body[: len(body) // 2], body * 2):
        try:
            answer = parse_meetings(candidate)
        except PollError:
            continue
        assert len(answer.meetings) + answer.skipped <= begins_in(candidate)
