"""A fuzzer for the parser: `python -m tests.fuzz.fuzz_parser --cases 1000000 --seed 1`.

A third of the cases are mutations of the corpus, led by coverage (atheris). A third are invented
answers with names that bring markup (tests/support/answers.py), of which the truth is known. A
third are invented answers in all layouts (tests/support/odd_layouts.py). Each case is read twice:
as always, and by lxml alone. Each kind runs in a process of its own, whose memory is bounded.
Prints what happened as JSON. A finding is a wrong figure, two different outcomes, any exception but
a PollError, a case that takes more than a second of processor time, more than 200 MiB of memory, or
a process that hangs or dies; the input is saved, and the exit status is 1.
"""

import argparse
import functools
import importlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from collector.errors import PollError
from collector.model import Answer
from collector.sources.polling import ambiguity as readings
from collector.sources.polling import attendees, layout, lenient, parser
from collector.sources.polling.characters import allowed
from tests.support.answers import KEYS, Case, make_case
from tests.support.layouts import LAYOUTS
from tests.support.odd_layouts import odd_answer

HERE = Path(__file__).parent
MAX_CASE_S = 1.0
MAX_HANG_S = 120
MAX_MEMORY_MIB = 200
MAX_ADDRESS_SPACE_MIB = 1024
MAX_INPUT_BYTES = 2_048
MAX_COUNT = 32_767
REPORT_EVERY = 1000


class Cases:
    """Runs cases one by one; keeps what they come to, and the input under way, in `folder`."""

    def __init__(self, folder: Path, count: int) -> None:
        """Expect `count` cases."""
        self._folder = folder
        self._input = os.open(folder / "input", os.O_RDWR | os.O_CREAT)
        self._count = count
        self._cases = 0
        self._longest_s = 0.0
        self._outcomes = Counter[str]()
        self._quick = 0

    def run(self, body: bytes, check: Callable[[Answer], None]) -> None:
        """Parse `body` and `check` the answer; ends the process with the last case."""
        os.pwrite(self._input, len(body).to_bytes(4) + body, 0)
        started_s = time.process_time()
        answer, quick = parsed(body)
        assert parsed(body, quickly=False)[0] == answer, "lxml reads it differently"
        self._quick += quick
        if not isinstance(answer, Answer):
            outcome = answer.__name__
        else:
            outcome = "skipped" if answer.skipped else "read"
            known = {meeting.internal_id for meeting in answer.meetings}
            assert len(known) == len(answer.meetings), "a meeting is twice"
            assert answer.doubtful <= known, "a doubtful meeting is not there"
            assert not answer.unread & known, "a meeting is both read and unread"
            assert len(answer.unread) <= answer.skipped, "an unread meeting is not skipped"
            check(answer)
        took_s = time.process_time() - started_s
        assert took_s <= MAX_CASE_S, f"a case took {took_s:.1f} s"
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert peak_mib <= MAX_MEMORY_MIB, f"{peak_mib:.0f} MiB of memory"
        self._cases += 1
        self._longest_s = max(self._longest_s, took_s)
        self._outcomes[outcome] += 1
        if self._cases % REPORT_EVERY == 0 or self._cases == self._count:
            report = {
                "cases": self._cases,
                "longest_ms": round(self._longest_s * 1000, 1),
                "peak_mib": round(peak_mib),
                "without_lxml": self._quick,
                "outcomes": dict(self._outcomes.most_common()),
            }
            (self._folder / "report").write_text(json.dumps(report))
        if self._cases == self._count:
            os._exit(0)


def parsed(body: bytes, *, quickly: bool = True) -> tuple[Answer | type[PollError], bool]:
    """Return what comes of `body`, and whether lxml was not needed."""
    found: list[bool] = []
    plain = layout.plain

    def counted(*arguments: Any) -> Any:  # noqa: ANN401 - passed on
        fields = plain(*arguments) if quickly else None
        found.append(fields is not None)
        return fields

    with unittest.mock.patch.object(parser, "plain", counted):
        try:
            return parser.parse_meetings(body, metadata_keys=KEYS, room_names=True), all(found)
        except PollError as error:
            return type(error), bool(found) and all(found)


def begins_in(body: bytes) -> int:
    """Count where a meeting can begin for the parser, which removes characters that XML forbids."""
    return allowed(body.decode(errors="replace")).count("<meeting")


def fuzz_mutations(cases: Cases, folder: Path, seed: int) -> None:
    """Mutate the corpus, led by what the parser's own code does with it."""
    import atheris  # noqa: PLC0415 - not there on every system, and the other kind needs none

    corpus = folder / "corpus"
    shutil.copytree(HERE / "corpus", corpus)
    for sample in (HERE.parent / "samples" / "getmeetings").iterdir():
        shutil.copy(sample, corpus)
    for path in [HERE / "corpus" / name for name in ("breakout.xml", "selfclosed.xml")]:
        for write in LAYOUTS:
            (corpus / f"{write.__name__}-{path.name}").write_bytes(write(path.read_bytes()))

    def target(body: bytes) -> None:
        def check(answer: Answer) -> None:
            assert len(answer.meetings) + answer.skipped <= begins_in(body), "made up"
            for meeting in answer.meetings:
                counts = (meeting.participants, meeting.voice, meeting.video, meeting.dialins)
                assert all(0 <= count <= MAX_COUNT for count in counts), "impossible"

        cases.run(body, check)

    with atheris.instrument_imports(include=["collector"]):
        for module in (readings, attendees, layout, lenient, parser):
            importlib.reload(module)
    options = [f"-seed={seed}", f"-max_len={MAX_INPUT_BYTES}", "-rss_limit_mb=0", "-verbosity=0"]
    options += [f"-dict={HERE / 'xml.dict'}", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, "-close_fd_mask=1", str(corpus)], target)
    atheris.Fuzz()


def fuzz_names(cases: Cases, _: Path, seed: int) -> None:
    """Invent answers in which names bring markup, and compare with the truth."""
    chance = random.Random(seed)

    def compare(case: Case, answer: Answer) -> None:
        got = {meeting.internal_id: meeting for meeting in answer.meetings}
        assert got.items() <= case.truth.items(), "a meeting is made up, or wrong"
        assert case.truth.keys() - got.keys() <= case.attackers, "a victim was lost"
        assert case.truth.keys() <= got.keys() | answer.unread, "a meeting looks ended"
        assert not answer.doubtful, "a meeting is doubtful"

    while True:
        case = make_case(chance)
        cases.run(case.body, functools.partial(compare, case))


def fuzz_layouts(cases: Cases, _: Path, seed: int) -> None:
    """Invent answers in all layouts. lxml must read each in the same way."""
    chance = random.Random(seed)
    while True:
        cases.run(odd_answer(chance), lambda _: None)


KINDS = {"mutations": fuzz_mutations, "names": fuzz_names, "layouts": fuzz_layouts}


def main() -> int:
    """Run the cases and print the report; return 1 on a finding."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--cases", type=int, default=1_000_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--save", type=Path, default=Path(), help="where to save findings")
    arguments.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.worker:
        kind, folder = options.worker
        limit_bytes = MAX_ADDRESS_SPACE_MIB << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
        cases = Cases(Path(folder), options.cases)
        KINDS[kind](cases, Path(folder), options.seed)
    third = options.cases // 3
    shares = {"mutations": options.cases - 2 * third, "names": third, "layouts": third}
    with ThreadPoolExecutor() as pool:
        reports = pool.map(
            lambda kind: run_worker(kind, shares[kind], options.seed, options.save), shares
        )
    report = dict(zip(shares, reports, strict=True))
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return int(any("finding" in part for part in report.values()))


def run_worker(kind: str, count: int, seed: int, save: Path) -> dict[str, object]:
    """Run `count` cases of one kind in a process of its own, and return its report."""
    program = [sys.executable, "-m", "tests.fuzz.fuzz_parser"]
    command = [*program, f"--cases={count}", f"--seed={seed}", "--worker", kind]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        worker = subprocess.Popen(
            [*command, name], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        seen = -1.0
        report_file = folder / "report"
        errors = ""
        while True:
            try:
                _, errors = worker.communicate(timeout=MAX_HANG_S)
                break
            except subprocess.TimeoutExpired:
                changed = report_file.stat().st_mtime if report_file.exists() else 0.0
                if changed == seen:
                    worker.kill()
                seen = changed
        report = json.loads(report_file.read_text()) if report_file.exists() else {}
        if worker.returncode or report.get("cases") != count:
            saved = save / f"finding-{kind}-{seed}.xml"
            kept = (folder / "input").read_bytes()
            saved.write_bytes(kept[4 : 4 + int.from_bytes(kept[:4])])
            report["finding"] = {"input": str(saved), "error": errors[-2000:]}
        return report


if __name__ == "__main__":
    sys.exit(main())
