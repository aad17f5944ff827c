"""The objects that all parts of the daemon share."""

from dataclasses import dataclass

import asyncpg

from collector.clock import Clock
from collector.daemon.rendezvous import Sharing
from collector.metering.pipeline import Pipeline
from collector.metrics import Metrics
from collector.settings import Settings
from collector.storage.outbox import Outbox
from collector.storage.spool import Spool


@dataclass(slots=True)
class Context:
    """The shared objects of one collector. `reload` replaces `settings` when the file changes.

    `spool` is None if the spool could not be opened. `embedded` says whether the database is the
    embedded engine.
    """

    settings: Settings
    clock: Clock
    metrics: Metrics
    pool: asyncpg.Pool
    spool: Spool | None
    pipeline: Pipeline
    outbox: Outbox
    sharing: Sharing
    embedded: bool
