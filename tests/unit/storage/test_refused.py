"""Polls that found no room: remembered in little room, given back as failed ones."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from collector.model import PollRow
from collector.storage.refused import Refused

START = datetime(2026, 2, 2, 8, tzinfo=UTC)


def poll(server: str, tick: int, seconds: int = 30) -> PollRow:
    """Return a successful poll."""
    ts = START + timedelta(seconds=tick * seconds)
    return PollRow(ts, server, ok=True, outcome="ok", latency_ms=5, seconds=seconds, sessions=3)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60),
    st.integers(1, 7),
)
def test_each_comes_back_once_as_failed(skips: list[tuple[str, bool]], most: int) -> None:
    """Whatever order of servers and holes, in pieces of any size, a server's in order."""
    refused = Refused()
    wanted: dict[str, list[datetime]] = {}
    for tick, (server, skip) in enumerate(skips):
        if not skip:
            refused.add(poll(server, tick))
            wanted.setdefault(server, []).append(poll(server, tick).ts)
    assert refused.count == sum(map(len, wanted.values()))
    found: dict[str, list[datetime]] = {}
    while refused.count:
        rows = refused.oldest(most)
        assert 0 < len(rows) <= most
        for row in rows:
            assert (row.ok, row.outcome, row.sessions, row.seconds) == (
                False,
                "spool_full",
                None,
                30,
            )
            found.setdefault(row.server, []).append(row.ts)
        refused.remove(rows)
    assert found == wanted
    assert refused.oldest(1) == []


def test_a_day_of_ticks_is_one_span() -> None:
    """A long stretch costs no memory; another interval begins another span."""
    refused = Refused()
    for tick in range(2880):
        refused.add(poll("a", tick))
    for tick in range(2 * 2880, 2 * 2880 + 10):
        refused.add(poll("a", tick, 60))
    assert refused.count == 2890
    assert [len(spans) for spans in refused._spans.values()] == [2]
