"""Batches on disk while the database is away, slow or refuses.

`payload` (batch ↔ bytes) → `file` (SQLite) → `damage` (what is left of a broken one) → `slot`
(who has which file) → `queue.Spool`, which a collector uses.
"""

from collector.storage.spool.queue import Entry, Spool
from collector.storage.spool.slot import Slot, slots

__all__ = ["Entry", "Slot", "Spool", "slots"]
