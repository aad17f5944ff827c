"""A fleet of BigBlueButton servers that does not exist, with the truth about its usage.

`plan` → `schedule` (when and where sessions run) → `meeting` (who is in them) → `render`
(BBB's XML) and `truth` (the exact figures), both behind `fleet.Fleet`; `server` answers over
HTTP with `faults`, and `command` is `bbbmeter simulate`.
"""

from collector.simulator.fleet import Fleet
from collector.simulator.plan import FleetPlan, Rhythm, SimTenant
from collector.simulator.truth import Truth

__all__ = ["Fleet", "FleetPlan", "Rhythm", "SimTenant", "Truth"]
