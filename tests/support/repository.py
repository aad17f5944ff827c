"""The paths of this checkout and of the folders that tests read."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Answers to getMeetings from real servers.
SAMPLES = ROOT / "tests" / "samples" / "getmeetings"
