"""Simulates a fleet of BigBlueButton servers, and computes its exact usage.

`plan` → `schedule` (when and where sessions run) → `meeting` (who is in them) → `render`
(BBB's XML) and `truth` (the exact figures). `fleet.Fleet` offers both. `server` answers over HTTP,
with `faults`. `command` is `bbbmeter simulate`.
"""

from collector.simulator.fleet import Fleet
from collector.simulator.plan import FleetPlan, Rhythm, SimTenant
from collector.simulator.truth import Truth

__all__ = ["Fleet", "FleetPlan", "Rhythm", "SimTenant", "Truth"]
