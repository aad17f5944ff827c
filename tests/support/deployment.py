"""Values that must be the same in the image, compose.yaml, the systemd unit and Prometheus."""

from typing import Any

import yaml

from tests.support.repository import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PORT = "9713"
SPOOL = "/var/lib/bbbmeter/spool"
# Seconds after which a collector that is stopping may be killed: its deadlines, plus closing.
GRACE_S = 60
# The limit of a collector's open files; it suffices for 1,000 servers.
FILES = 16_384
