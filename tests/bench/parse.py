"""Measures the time for one `<meeting>` with 10 attendees, in each layout and with lxml alone.

The layouts are measured in turn, in one run: the ratios are more reliable than the times.
"""

import argparse
import json
import random
import statistics
import sys
import time
import unittest.mock
from collections import defaultdict
from pathlib import Path

from collector.sources.polling import parser
from tests.bench.fleet import answer, make_meeting
from tests.support.layouts import LAYOUTS, bigbluebutton

_MEETINGS = 50
_NOW_MS = 1_780_000_000_000
_KEYS = frozenset({"bbblb-tenant"})


def measure(attendees: int, rounds: int) -> dict[str, float]:
    """Return the median time per meeting in microseconds, by layout and for lxml alone."""
    rng = random.Random(1)
    body = answer(
        [make_meeting(rng, "bench", n, attendees, _NOW_MS) for n in range(_MEETINGS)], _NOW_MS
    )
    bodies = {layout.__name__: layout(body) for layout in LAYOUTS}
    times = defaultdict[str, list[float]](list)
    for _ in range(rounds):
        # In another order each round, as each finds the processor's caches as the one before left.
        for name, other in rng.sample(list(bodies.items()), len(bodies)):
            times[name].append(_time_s(other))
    with unittest.mock.patch.object(parser, "plain", return_value=None):
        times["lxml"] = [_time_s(body) for _ in range(rounds)]
    return {name: statistics.median(found) / _MEETINGS * 1e6 for name, found in times.items()}


def _time_s(body: bytes) -> float:
    started_s = time.perf_counter()
    parser.parse_meetings(body, metadata_keys=_KEYS)
    return time.perf_counter() - started_s


def main(arguments: argparse.Namespace) -> int:
    """Measure, print a table, and write the figures as JSON."""
    found = measure(arguments.attendees, arguments.rounds)
    for name, micros in found.items():
        ratio = micros / found[bigbluebutton.__name__]
        print(f"{name:>20}: {micros:5.1f} µs a meeting, {ratio:.2f} of BigBlueButton's own")
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--attendees", type=int, default=10, help="attendees per meeting")
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--out", type=Path, help="write the figures to this file, as JSON")
    sys.exit(main(options.parse_args()))
