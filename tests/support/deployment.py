"""What the image, compose.yaml, the systemd unit and Prometheus have to agree on."""

from typing import Any

import yaml

from tests.support.repository import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PORT = "9713"
SPOOL = "/var/lib/bbbmeter/spool"
# Until a collector that is asked to end is killed: its deadlines, and what closing takes.
GRACE_S = 60
# Open files of a collector: 1,000 servers fit.
FILES = 16_384
