"""Who polls which server: the rendezvous hash."""

from collections import Counter

import pytest

from collector.daemon.rendezvous import Sharing, owner

SERVERS = [f"bbb{n}" for n in range(3000)]


def test_each_server_has_one_owner_and_the_parts_are_alike() -> None:
    """Three collectors have a third each, give or take."""
    parts = Counter(owner(server, ("a", "b", "c")) for server in SERVERS)
    assert set(parts) == {"a", "b", "c"}
    assert all(850 < part < 1150 for part in parts.values())


def test_the_order_of_the_living_does_not_matter() -> None:
    """Every collector computes the same."""
    assert all(owner(s, ("a", "b", "c")) == owner(s, ["c", "a", "b"]) for s in SERVERS)


def test_only_the_servers_of_one_that_goes_change_hands() -> None:
    """So a take-over disturbs nobody else's polling."""
    for server in SERVERS:
        before = owner(server, ("a", "b", "c"))
        if before != "b":
            assert owner(server, ("a", "c")) == before


@pytest.mark.parametrize("server", ["bbb1", "jobs"])
def test_a_collector_is_alone_until_it_hears_of_others(server: str) -> None:
    """Polling twice does no harm, polling nothing does."""
    assert Sharing("me", "host", 30).owns(server)
