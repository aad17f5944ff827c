"""The tick of the daemon, without a database and without servers."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from collector.bbb import BbbClients
from collector.clock import SystemClock
from collector.daemon.context import Context
from collector.daemon.ticks import Ticks
from collector.metering.pipeline import Pipeline
from collector.metrics import Metrics
from collector.sources.polling.parser import parse_meetings
from collector.sources.polling.poller import Poller
from tests.support.settings import make_server, make_settings

SETTINGS = make_settings(server=[make_server("bbb1")])


@pytest.fixture
def context() -> Context:
    """A collector that stores nothing."""
    nothing: Any = SimpleNamespace(put=lambda _: None)
    return Context(
        settings=SETTINGS,
        clock=SystemClock(),
        metrics=Metrics(),
        pool=nothing,
        spool=None,
        pipeline=Pipeline(SETTINGS),
        outbox=nothing,
        sharing=nothing,
        embedded=False,
    )


async def test_new_settings_keep_the_order_of_the_servers(context: Context) -> None:
    """A server that waits for its turn goes first also after a reload."""
    async with BbbClients() as clients:
        ticks = Ticks(context, clients)
        first, second = ticks.poller_for(SETTINGS), ticks.poller_for(SETTINGS)
    ticks.use(first)
    first.turns.begin(["bbb1"])
    first.turns.had("bbb1", ok=False)
    ticks.use(second)
    assert (second.turns.last, second.turns.failing) == ({"bbb1": 1}, {"bbb1"})


async def test_a_server_that_was_not_asked_is_neither_up_nor_down(context: Context) -> None:
    """Its poll is counted by outcome. It has no latency."""
    async with BbbClients() as clients:
        ticks = Ticks(context, clients)
        made = clients.make(SETTINGS.server, "getMeetings", parse_meetings, max_body_bytes=1024)
    ticks.use(Poller(made, concurrency=0))
    ticks.servers = frozenset({"bbb1"})
    tick = asyncio.create_task(ticks.run())
    await asyncio.sleep(0.01)
    ticks.cut(0)
    await tick
    value = context.metrics.registry.get_sample_value
    assert value("bbbmeter_polls_total", {"outcome": "not_asked"}) == 1
    assert value("bbbmeter_poll_seconds_count") == 0
    assert value("bbbmeter_server_up", {"server": "bbb1"}) is None
