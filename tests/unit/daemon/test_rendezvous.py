"""Who polls which server: the rendezvous hash, and collectors with different settings."""

from collections import Counter
from datetime import UTC, datetime

from pydantic import SecretStr

from collector.daemon.rendezvous import Other, Sharing, owner
from collector.storage.claims import Fleet, fleet_of
from tests.support.settings import make_server, make_settings

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


def fleet(*servers: str, at: int = 0) -> Fleet:
    """Return a fleet whose settings file was changed at second `at`."""
    return Fleet(servers, ",".join(servers), datetime.fromtimestamp(at, UTC))


def test_a_collector_is_alone_until_it_hears_of_others() -> None:
    """Polling twice does no harm, polling nothing does."""
    sharing = Sharing("me", "host", 30, fleet("bbb1"))
    assert sharing.owns_server("bbb1")
    assert sharing.owns("jobs")


def test_only_collectors_that_have_a_server_share_it() -> None:
    """A server that another settings file lacks is polled by those that have it."""
    sharing = Sharing("me", "host", 30, fleet(*SERVERS))
    sharing.living = ("me", "you")
    assert not all(map(sharing.owns_server, SERVERS))
    sharing.different = {"you": Other("there", fleet("another"))}
    assert all(map(sharing.owns_server, SERVERS))
    assert {sharing.owns(f"job {n}") for n in range(20)} == {True, False}


def test_the_hash_of_a_fleet_holds_what_decides_figures_and_no_secret() -> None:
    """Names, addresses, tenants, interval and rules change it; the secret and timeouts do not."""
    base = make_settings()
    same = [
        make_settings(server=[make_server("bbb1", secret=SecretStr("another"), timeout_s=3)]),
        make_settings(concurrent_requests=7),
        make_settings(
            server=[make_server("bbb1", url="https://bbb1.example.org/bigbluebutton/api")]
        ),
    ]
    other = [
        make_settings(server=[make_server("bbb1"), make_server("bbb2")]),
        make_settings(server=[make_server("bbb1", url="https://b.example.org/")]),
        make_settings(server=[make_server("bbb1", tenant="law")]),
        make_settings(server=[make_server("bbb1", enabled=False)]),
        make_settings(poll_interval_s=60),
        make_settings(tenant=[{"name": "law", "participant_limit": 5}]),
        make_settings(attribution={"default": "nobody"}),
    ]
    assert {fleet_of(settings, None).hash for settings in [base, *same]} == {
        fleet_of(base, 5.0).hash
    }
    hashes = [fleet_of(settings, None).hash for settings in other]
    assert len({*hashes, fleet_of(base, None).hash}) == len(other) + 1
    assert fleet_of(other[3], None).servers == ()


def test_the_newest_file_decides() -> None:
    """With equal times, the hash decides, so that there is always one."""
    assert fleet("a", at=2).rank > fleet("b", at=1).rank
    assert fleet("b", at=1).rank > fleet("a", at=1).rank
    assert fleet("a", at=1).rank > Fleet((), "z", None).rank
