"""Collectors with different settings: which servers are due, and whose facts are stored."""

from datetime import UTC, datetime, timedelta

import asyncpg

from collector.storage.claims import Claimant, Fleet
from collector.storage.registry import keep_due, sync_fleet
from tests.support.settings import make_server

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


async def beat(
    pool: asyncpg.Pool, name: str, *servers: str, file_at: int = 0, known: bool = True
) -> Claimant:
    """Write a heartbeat of a collector whose settings have `servers`; `known` false: an old one."""
    fleet = Fleet(servers, ",".join(servers), NOW + file_at * SECOND)
    await pool.fetchval(
        "SELECT meter.beat($1, $1, '10 s', '60 s', FALSE, NULL, 30, NULL, NULL, NULL, NULL, NULL, "
        "NULL, $2, $3, $4)",
        name,
        list(servers) if known else None,
        fleet.hash if known else None,
        fleet.settings_changed_at if known else None,
    )
    return Claimant(name, fleet)


async def sync(pool: asyncpg.Pool, at: datetime, one: Claimant, tenant: str | None = None) -> None:
    """Store the fleet of a collector that was started, or has read its file, at `at`."""
    servers = tuple(make_server(name, tenant=tenant) for name in one.fleet.servers)
    async with pool.acquire() as connection:
        await sync_fleet(connection, servers, (), at, one)


async def keep(pool: asyncpg.Pool, at: datetime, one: Claimant) -> None:
    """Do what a collector does every minute."""
    async with pool.acquire() as connection:
        await keep_due(connection, one, at)


async def gone(pool: asyncpg.Pool, name: str, ago: timedelta) -> datetime:
    """Let the last heartbeat of a collector be `ago`; return when it was."""
    await pool.execute(
        "UPDATE meter.collector SET since = now() - $2::interval - interval '1 hour', "
        "until = now() - $2::interval "
        "WHERE id = $1",
        name,
        ago,
    )
    until: datetime = await pool.fetchval(
        "SELECT max(until) FROM meter.collector WHERE id = $1", name
    )
    return until


async def due(pool: asyncpg.Pool) -> dict[str, list[tuple[datetime, datetime | None]]]:
    """Return the spans of each server."""
    found: dict[str, list[tuple[datetime, datetime | None]]] = {}
    for row in await pool.fetch(
        "SELECT v.name, d.since, d.until FROM meter.server_due AS d "
        "INNER JOIN meter.server AS v ON d.server_id = v.id ORDER BY v.name, d.since"
    ):
        found.setdefault(row["name"], []).append((row["since"], row["until"]))
    return found


async def test_an_older_file_does_not_end_the_others_servers(pool: asyncpg.Pool) -> None:
    """A server is due until no collector has it; the start of one that lacks it changes nothing."""
    begin = NOW - 30 * MINUTE
    first = await beat(pool, "one", "s1", "s2")
    await sync(pool, begin, first)
    second = await beat(pool, "two", "s2", "s3", file_at=-100)
    await sync(pool, begin + MINUTE, second)
    for _ in range(2):
        assert await due(pool) == {
            "s1": [(begin, None)],
            "s2": [(begin, None)],
            "s3": [(begin + MINUTE, None)],
        }
        await keep(pool, NOW, first)
        await keep(pool, NOW, second)


async def test_a_rolling_change_needs_nobody(pool: asyncpg.Pool) -> None:
    """A server that is taken out of one file after the other is due until the last one."""
    begin = NOW - 30 * MINUTE
    first, second = await beat(pool, "one", "s1", "s2"), await beat(pool, "two", "s1", "s2")
    await sync(pool, begin, first)
    await sync(pool, begin, second)
    await sync(pool, begin + MINUTE, await beat(pool, "one", "s2", "s3", file_at=60))
    assert (await due(pool))["s1"] == [(begin, None)]
    await sync(pool, begin + 2 * MINUTE, await beat(pool, "two", "s2", "s3", file_at=61))
    assert await due(pool) == {
        "s1": [(begin, begin + 2 * MINUTE)],
        "s2": [(begin, None)],
        "s3": [(begin + MINUTE, None)],
    }


async def test_a_collector_that_is_restarted_keeps_its_servers(pool: asyncpg.Pool) -> None:
    """Only after ten minutes its servers end, at its last heartbeat; it can take them again."""
    begin = NOW - 90 * MINUTE
    first = await beat(pool, "one", "s1", "s2")
    await sync(pool, begin, first)
    second = await beat(pool, "two", "s2")
    await sync(pool, begin, second)
    await gone(pool, "one", 5 * MINUTE)
    await keep(pool, NOW, second)
    assert (await due(pool))["s1"] == [(begin, None)]
    last = await gone(pool, "one", 11 * MINUTE)
    await keep(pool, NOW, second)
    assert await due(pool) == {"s1": [(begin, last)], "s2": [(begin, None)]}
    await beat(pool, "one", "s1", "s2")
    await keep(pool, NOW, first)
    assert (await due(pool))["s1"] == [(begin, last), (NOW, None)]


async def test_a_collector_of_an_earlier_version_may_have_any_server(pool: asyncpg.Pool) -> None:
    """It does not report its fleet, so nothing is ended while it is there."""
    begin = NOW - 30 * MINUTE
    old = await beat(pool, "old", "s1", known=False)
    async with pool.acquire() as connection:
        await sync_fleet(connection, (make_server("s1"),), (), begin)
    new = await beat(pool, "new", "s2")
    await sync(pool, begin, new)
    assert (await due(pool))["s1"] == [(begin, None)]
    await gone(pool, old.collector, 11 * MINUTE)
    await keep(pool, NOW, new)
    assert (await due(pool))["s1"] == [(begin, NOW)]


async def tenants(pool: asyncpg.Pool) -> dict[str, str | None]:
    """Return the present tenant of each server."""
    rows = await pool.fetch(
        "SELECT v.name, t.name AS tenant FROM meter.server AS v "
        "LEFT JOIN meter.server_tenant AS w ON v.id = w.server_id AND w.until IS NULL "
        "LEFT JOIN meter.tenant AS t ON w.tenant_id = t.id ORDER BY 1"
    )
    return {row["name"]: row["tenant"] for row in rows}


async def test_the_newest_file_decides_whose_a_server_is(pool: asyncpg.Pool) -> None:
    """An older file only adds servers, whichever of the two is read last."""
    old, new = await beat(pool, "one", "s1"), await beat(pool, "two", "s1", "s2", file_at=9)
    await sync(pool, NOW, new, "law")
    await sync(pool, NOW, old, "acme")
    assert await tenants(pool) == {"s1": "law", "s2": "law"}
    third = await beat(pool, "three", "s1", "s3", file_at=5)
    await sync(pool, NOW, third, "acme")
    assert await tenants(pool) == {"s1": "law", "s2": "law", "s3": "acme"}
    await gone(pool, "two", 11 * MINUTE)
    await sync(pool, NOW, third, "acme")
    assert await tenants(pool) == {"s1": "acme", "s2": "law", "s3": "acme"}


async def test_a_changed_fleet_begins_a_new_span(pool: asyncpg.Pool) -> None:
    """So a poll that is missing because servers changed hands is explained by a handover."""
    for servers in (("s1",), ("s1",), ("s1", "s2")):
        await beat(pool, "one", *servers)
    spans = await pool.fetch("SELECT fleet FROM meter.collector ORDER BY since")
    assert [span["fleet"] for span in spans] == [["s1"], ["s1", "s2"]]
    living = await pool.fetchval("SELECT meter.beat('two', 'h', '1 s', '2 s', TRUE, NULL)")
    assert living == ["one", "two"]
    # One with a longer interval than the caller's is alive for two of its own.
    await pool.execute(
        "UPDATE meter.collector SET until = now() - interval '50 s' WHERE id = 'one'"
    )
    living = await pool.fetchval("SELECT meter.beat('two', 'h', '1 s', '2 s', FALSE, NULL)")
    assert living == ["one", "two"]
    # A collector of an earlier version writes its heartbeats as before.
    old = "SELECT meter.beat('old', 'h', '1 s', '2 s', TRUE, NULL, 5, 1, NULL, 0, 0, 1, 0)"
    assert "old" in await pool.fetchval(old)
