"""Bounds the tenants that rules without a table can make: clients may choose the names."""

from collections.abc import Iterable

import structlog

log = structlog.get_logger(__name__)


class KnownTenants:
    """The names of tenants. Once there are `most`, no new one is admitted."""

    def __init__(self) -> None:
        """Begin without names and without a limit."""
        self._names: set[str] = set()
        self._refusing = False
        self.most: int | None = None
        self.refused_sessions = 0

    def add(self, names: Iterable[str]) -> None:
        """Add tenants that exist already, or that the settings name. They are not bounded."""
        self._names.update(names)

    def admit(self, name: str) -> bool:
        """Return whether a session can belong to the tenant `name`, which becomes known then."""
        if name in self._names:
            return True
        if self.most is not None and len(self._names) >= self.most:
            self.refused_sessions += 1
            if not self._refusing:
                log.warning("tenants_refused", max_tenants=self.most)
            self._refusing = True
            return False
        self._names.add(name)
        return True
