"""What the writer remembers between batches."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from collector.model import Batch, SessionRow
from collector.storage import writer as writer_module
from collector.storage.writer import Writer

T0 = datetime(2026, 3, 2, 10, tzinfo=UTC)
ROOMS = 1_000_000
A_BATCH = 10_000


class _Database:
    """Gives each room an id, like the database."""

    def __init__(self) -> None:
        self.last = 0

    async def fetch(self, query: str, *arguments: list[Any]) -> list[dict[str, Any]]:
        """Return the rows that the statement for rooms, or for tenants, returns."""
        if "meter.room" not in query:
            return [{"name": name, "id": 1} for name in arguments[0]]
        rows = []
        for tenant, room in zip(*arguments[:2], strict=True):
            self.last += 1
            rows.append({"tenant_id": tenant, "external_id": room, "id": self.last})
        return rows


def batches() -> Iterator[Batch]:
    """Return batches whose sessions are all in rooms of their own."""
    for first in range(0, ROOMS, A_BATCH):
        batch = Batch()
        batch.sessions = [
            SessionRow(T0, "b", n, "i", T0, "arts", f"room-{n}", None, None, False, False, None)  # noqa: FBT003
            for n in range(first, first + A_BATCH)
        ]
        yield batch


async def test_a_million_rooms_take_no_more_memory_than_some() -> None:
    """Rooms are forgotten when they are too many, and each batch has the ids of all its rooms."""
    writer, database = Writer(None), _Database()  # type: ignore[arg-type]
    for batch in batches():
        await writer._resolve(database, batch)  # type: ignore[arg-type]
        assert all(("arts", row.room) in writer._rooms for row in batch.sessions)
        assert len(writer._rooms) <= writer_module._ROOMS_KEPT + A_BATCH
    assert database.last == ROOMS
