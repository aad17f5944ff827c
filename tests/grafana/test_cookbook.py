"""Each query of docs/sql.md, as the reader, on two weeks of a made-up fleet."""

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from tests.grafana.scans import raw_read
from tests.support.repository import DOCS

PAGE = (DOCS / "sql.md").read_text(encoding="utf-8")
QUERIES = dict(
    re.findall(r"^### (\d+\. .*?)$.*?^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
)
# Of which there may be nothing, by the day of the month or by chance.
NOTHING = {
    "1. What did each tenant use last month, and can I bill it?",
    "6. Who will use up the minutes of the contract?",
    "8. What is not assigned to any tenant?",
}
# All of the past is some thousands; a function that looks things up again and again reads more.
MOST_BLOCKS = 50_000


@pytest.fixture
async def reader(past: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the role that people read with."""
    connection = await asyncpg.connect(past)
    await connection.execute("SET ROLE bbbmeter_reader")
    yield connection
    await connection.close()


def test_there_are_twenty() -> None:
    """Each question has one query, and none is lost by how it is written."""
    assert [int(question.split(".")[0]) for question in QUERIES] == list(range(1, 21))
    assert PAGE.count("```sql") == 20


@pytest.mark.parametrize("question", QUERIES)
async def test_a_question_is_answered(reader: asyncpg.Connection, question: str) -> None:
    """It gives rows, in which each column has a value somewhere."""
    rows = await reader.fetch(QUERIES[question])
    assert rows or question in NOTHING
    if rows and question not in NOTHING:
        empty = {key for key in rows[0].keys() if all(row[key] is None for row in rows)}  # noqa: SIM118
        assert not empty - MAY_BE_EMPTY.get(question.split(".", maxsplit=1)[0], set())


# Of some columns there is nothing in two weeks without a fault or a name.
MAY_BE_EMPTY = {
    "2": {"last_month_minutes", "change"},
    "16": {"outcome"},
}


@pytest.mark.parametrize("question", QUERIES)
async def test_a_question_costs_little(reader: asyncpg.Connection, question: str) -> None:
    """It reads neither many blocks, nor raw samples over more than six hours."""
    assert await blocks(reader, QUERIES[question]) < MOST_BLOCKS
    assert await raw_read(reader, QUERIES[question]) <= timedelta(hours=8)


async def test_a_costly_question_is_noticed(reader: asyncpg.Connection) -> None:
    """The check above can fail."""
    sql = """
        SELECT (SELECT count(*) FROM meter.sample AS a WHERE a.ts > s.started_at)
        FROM meter.session AS s LIMIT 200
    """
    assert await blocks(reader, sql) > MOST_BLOCKS


async def blocks(reader: asyncpg.Connection, sql: str) -> int:
    """Return how many blocks of 8 kB a query reads, functions included, each time it does."""
    explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {sql}"
    (plan,) = json.loads(await reader.fetchval(explain))
    top = plan["Plan"]
    return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])
