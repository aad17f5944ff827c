"""Where this checkout is, and the folders in it that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Answers to getMeetings as servers sent them.
SAMPLES = ROOT / "tests" / "samples" / "getmeetings"
