"""`bbbmeter run`: the schedule of all work, and the sharing of work between collectors."""

from collector.daemon.daemon import Daemon

__all__ = ["Daemon"]
