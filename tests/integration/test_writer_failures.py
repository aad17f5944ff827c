"""What the writer raises: content that the database refuses, a database that does not answer."""

import random
from typing import Any

import asyncpg
import pytest

from collector.errors import DatabaseError, RejectedBatchError
from collector.model import Batch
from collector.storage.writer import Writer
from tests.support.batches import SERVERS, TICK, T, counts, some_runs, ticks
from tests.support.feed import Feed, Run
from tests.support.lines import Cut


def with_bad(feed: Feed, **columns: Any) -> Batch:  # noqa: ANN401 - any column's value
    """Return a good batch of which one row has another value in some column."""
    batch = feed.batch(["bbb1"], ticks(0, 2), [Run("bbb1", "arts", "r", T, T + 2 * TICK)])
    tables: list[list[Any]] = [batch.polls, batch.sessions, batch.samples]
    for rows in tables:
        known = rows[-1]._fields
        rows[-1] = rows[-1]._replace(**{k: v for k, v in columns.items() if k in known})
    return batch


@pytest.mark.parametrize(
    "columns",
    [
        {"internal_id": "a\0b"},
        {"room": "a\0b"},
        {"room_name": "a\0b"},
        {"tenant": "a\0b"},
        {"outcome": "a\0b"},
        {"internal_id": "\ud800"},  # half a surrogate pair: no UTF-8
        {"participants": 40_000},
        {"participants": 2**40},
        {"session_id": 2**63},
        {"latency_ms": 2**31},
    ],
    ids="-".join,
)
async def test_content_that_the_database_refuses(feed: Feed, columns: dict[str, Any]) -> None:
    """It is told from a database that is away, nothing of the batch is stored, values stay out."""
    with pytest.raises(RejectedBatchError) as caught:
        await feed.writer.write(with_bad(feed, **columns))
    assert "a\0b" not in str(caught.value)
    rows = await counts(feed)
    assert (rows["poll"], rows["sample"], rows["session"]) == (0, 0, 0)
    good = feed.batch(["bbb1"], ticks(0, 2), [Run("bbb1", "arts", "r", T, T + 2 * TICK)])
    assert (await feed.writer.write(good)).samples == 2


async def test_the_longest_ids_that_are_let_through_can_be_stored(feed: Feed) -> None:
    """512 characters of four bytes each, which compression does not shorten, fit every index."""
    text = "".join(chr(random.Random(n).randrange(0x20000, 0x2A000)) for n in range(512))
    batch = with_bad(feed, internal_id=text, room=text, room_name=text, parent_internal_id=text)
    await feed.writer.write(batch)
    row = await feed.pool.fetchrow(
        "SELECT s.internal_id, r.external_id FROM meter.session AS s "
        "INNER JOIN meter.room AS r ON s.room_id = r.id"
    )
    assert row is not None
    assert tuple(row) == (text, text)


async def test_an_answer_that_is_lost_is_an_error_and_a_retry_is_safe(
    feed: Feed, empty_dsn: str
) -> None:
    """Stored or not, nobody knows: the same batch again leaves it stored once."""
    batch = feed.batch(SERVERS, ticks(0, 10), some_runs())
    way = Cut()
    async with way.to(empty_dsn), asyncpg.create_pool(way.dsn, min_size=1, max_size=1) as pool:
        writer = Writer(pool)
        await writer.write(feed.batch(SERVERS, ticks(10, 11)))
        way.cut_answers = True
        with pytest.raises(DatabaseError) as caught:
            await writer.write(batch)
        assert not isinstance(caught.value, RejectedBatchError)
        way.cut_answers = False
        for _ in range(2):
            await writer.write(batch)
    rows = await counts(feed)
    assert (rows["poll"], rows["sample"], rows["session"]) == (22, 40, 4)


async def test_a_database_that_is_away_is_an_error(empty_dsn: str, feed: Feed) -> None:
    """No connection can be had: DatabaseError, with the driver's error as its cause."""
    way = Cut()
    async with way.to(empty_dsn):
        pool = await asyncpg.create_pool(way.dsn, min_size=1, max_size=1)
        way.cut_answers = True
        with pytest.raises(DatabaseError):
            await Writer(pool).write(feed.batch(SERVERS, ticks(0, 1)))
    with pytest.raises(DatabaseError) as caught:
        await Writer(pool).write(feed.batch(SERVERS, ticks(0, 1)))
    assert isinstance(caught.value.__cause__, OSError | asyncpg.PostgresError)
    pool.terminate()
