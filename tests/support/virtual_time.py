"""An event loop whose time passes at once, for tests of hours and of deadlines."""

import asyncio
import selectors


class Jumps(selectors.DefaultSelector):
    """A selector that does not wait: it says how long it would have waited."""

    jumped_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now."""
        self.jumped_s += max(timeout or 0.0, 0.0)
        return super().select(0 if timeout is not None else None)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes while there is nothing to do, and only then, at once."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._jumps = Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        """Return the virtual time."""
        return self._jumps.jumped_s
