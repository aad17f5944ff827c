"""The table of rollups."""

import pytest

from collector.rollups import DAY, HOUR, MINUTE, ROLLUPS, Rollup

SUFFIXES = {"1m": MINUTE, "1h": HOUR, "1d": DAY}


@pytest.mark.parametrize("rollup", ROLLUPS.values(), ids=str)
def test_a_rollup_comes_after_its_source(rollup: Rollup) -> None:
    """Refreshed in this order, each finds its source refreshed."""
    names = list(ROLLUPS)
    before = {"sample", "poll", "session", "unseen", *names[: names.index(rollup.name)]}
    assert rollup.source in before


@pytest.mark.parametrize("rollup", ROLLUPS.values(), ids=str)
def test_a_rollups_name_ends_in_its_grain(rollup: Rollup) -> None:
    """People read the width of its buckets off the name."""
    assert SUFFIXES[rollup.name.rpartition("_")[2]] is rollup.grain


@pytest.mark.parametrize("rollup", ROLLUPS.values(), ids=str)
def test_no_rollup_is_finer_than_its_source(rollup: Rollup) -> None:
    """Sums go one way: minutes into hours, hours into days."""
    source = ROLLUPS.get(rollup.source)
    assert source is None or source.grain.width <= rollup.grain.width
    assert source is None or source.min_source_days <= rollup.min_source_days
