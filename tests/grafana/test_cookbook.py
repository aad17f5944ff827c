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
QUERIES: dict[str, str] = dict(
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
# Planning counts here too, as it happens in functions. This question plans over all chunks of
# several tables, and the past has a chunk for each hour of samples.
MOST_BLOCKS_OF_ALL_CHUNKS = 200_000


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
    most = MOST_BLOCKS_OF_ALL_CHUNKS if "how large" in question else MOST_BLOCKS
    assert await blocks(reader, QUERIES[question]) < most
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


def question(number: int) -> str:
    """Return the query of a question."""
    return QUERIES[next(title for title in QUERIES if title.startswith(f"{number}. "))]


async def test_a_bill_says_how_much_of_the_month_was_metered(reader: asyncpg.Connection) -> None:
    """Question 1: a month before metering began, or in which it began, is not a whole month."""
    rows = await reader.fetch(question(1))
    wanted = await reader.fetchval(
        """
        SELECT greatest(0, extract(EPOCH FROM m.hi - greatest(m.lo, d.since)))
            / extract(EPOCH FROM m.hi - m.lo)
        FROM (
            SELECT
                meter.billing_trunc('month', meter.billing_trunc('month', now()) - interval '1 day')
                    AS lo,
                meter.billing_trunc('month', now()) AS hi
        ) AS m
        CROSS JOIN (SELECT min(since) AS since FROM meter.server_due) AS d
        """
    )
    assert rows
    for row in rows:
        assert row["metered_share"] == pytest.approx(float(wanted), abs=1e-9)


async def test_no_hour_with_failed_polls_is_hidden(reader: asyncpg.Connection) -> None:
    """Question 14: also an outage of 25 minutes is listed."""
    found = await reader.fetch(question(14))
    hours = await reader.fetch(
        """
        SELECT v.name, date_trunc('hour', p.ts) AS hour
        FROM meter.poll AS p INNER JOIN meter.server AS v ON p.server_id = v.id
        WHERE NOT p.ok AND p.ts >= now() - interval '14 days'
        GROUP BY 1, 2 HAVING count(*) >= 3
        """
    )
    assert len(hours) > 3
    for name, hour in hours:
        assert any(
            row["server"] == name and row["down_since"] <= hour < row["down_until"] for row in found
        )


async def test_peaks_keep_their_fractions(reader: asyncpg.Connection) -> None:
    """Question 17: the peak of a week is the mean of its highest minute."""
    wanted = await reader.fetch(
        """
        SELECT max(m.participants)
        FROM (
            SELECT
                date_trunc('minute', ts) AS minute,
                sum(participants::integer * seconds) / 60.0 AS participants
            FROM meter.sample WHERE NOT breakout GROUP BY 1
        ) AS m
        GROUP BY date_trunc('week', m.minute, meter.billing_timezone())
        ORDER BY date_trunc('week', m.minute, meter.billing_timezone())
        """
    )
    found = await reader.fetch(question(17))
    assert [row["peak_participants"] for row in found] == [row[0] for row in wanted]


async def test_hours_without_anybody_are_the_quietest(reader: asyncpg.Connection) -> None:
    """Question 18: an hour of the week in which nobody ever was counts as zero."""
    wanted = await reader.fetch(
        """
        WITH hour AS (
            SELECT h.ts, coalesce(sum(a.participants::integer * a.seconds), 0) / 3600.0 AS mean
            FROM (SELECT DISTINCT date_trunc('hour', ts) AS ts FROM meter.poll WHERE ok) AS h
            LEFT JOIN meter.sample AS a
                ON a.ts >= h.ts AND a.ts < h.ts + interval '1 hour' AND NOT a.breakout
            WHERE
                h.ts >= date_trunc('hour', now() - interval '4 weeks')
                AND h.ts + interval '1 hour' <= date_trunc('minute', now()) - interval '1 minute'
            GROUP BY h.ts
        )
        SELECT
            to_char(ts AT TIME ZONE 'Europe/Berlin', 'Dy') AS day,
            extract(HOUR FROM ts AT TIME ZONE 'Europe/Berlin') AS hour,
            round(avg(mean)::numeric, 1) AS participants
        FROM hour GROUP BY 1, 2 ORDER BY 3, 1, 2 LIMIT 12
        """
    )
    assert wanted[0]["participants"] == 0
    assert await reader.fetch(question(18)) == wanted


async def test_products_are_counted_for_fourteen_days(reader: asyncpg.Connection) -> None:
    """Question 19: whole days, and no fifteenth one."""
    found = await reader.fetch(question(19))
    ((sessions, minutes),) = await reader.fetch(
        """
        SELECT count(*), sum(participant_seconds) / 60.0 FROM meter.session
        WHERE
            NOT breakout
            AND started_at >= meter.billing_trunc('day', now() - interval '14 days')
            AND started_at < meter.billing_trunc('day', now())
        """
    )
    assert sum(row["sessions"] for row in found) == sessions
    assert sum(row["participant_minutes"] for row in found) == pytest.approx(float(minutes), abs=9)
