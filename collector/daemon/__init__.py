"""`bbbmeter run`: when what is done, and by which collector."""

from collector.daemon.daemon import Daemon

__all__ = ["Daemon"]
