"""Batches are kept on disk while the database is away, slow, or rejects them.

`payload` (batch ↔ bytes) → `file` (SQLite) → `damage` (rescue of a damaged file) → `slot` (which
collector uses which file) → `queue.Spool`, which a collector uses.
"""

from collector.storage.spool.queue import Entry, Spool
from collector.storage.spool.slot import Slot, slots

__all__ = ["Entry", "Slot", "Spool", "slots"]
