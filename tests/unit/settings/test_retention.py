"""How many days each table is kept, and that a rollup's source is kept long enough."""

import pytest

from collector.rollups import ROLLUPS, TABLES_KEPT_AS, setting_of
from collector.settings import ColumnstoreSettings, RetentionSettings
from tests.support.settings import Load, Problems


class TestRetention:
    """How long tables are kept."""

    @pytest.mark.parametrize(
        ("rollup", "source"), [(r.name, setting_of(r.source)) for r in ROLLUPS.values()]
    )
    def test_a_source_outlives_the_refresh_of_its_rollup(
        self, load: Load, problems: Problems, rollup: str, source: str
    ) -> None:
        """A refresh behind what was dropped would delete figures, so such settings are refused."""
        needed = ROLLUPS[rollup].min_source_days
        found = problems(f"[retention]\n{source} = {needed - 1}")
        assert (
            f"retention.{source}: {needed - 1} days are too few; the refresh of {rollup} needs "
            f"at least {needed}"
        ) in found
        longest = max(r.min_source_days for r in ROLLUPS.values() if setting_of(r.source) == source)
        assert getattr(load(f"[retention]\n{source} = {longest}").retention, source)

    def test_nought_keeps_for_ever(self, load: Load) -> None:
        """Nought is no retention, not a short one."""
        assert load("[retention]\nsample = 0\nsession = 0").retention.sample == 0

    def test_days_are_not_negative(self, problems: Problems) -> None:
        """In both tables of days."""
        assert len(problems("[retention]\nsample = -1\n[columnstore]\npoll = -1")) == 2

    def test_every_rollup_has_a_window_and_is_kept_by_a_setting(self) -> None:
        """A rollup has its own setting, or `kept_as` names the rollup whose setting holds."""
        keys = set(RetentionSettings.model_fields)
        rollups = ROLLUPS.values()
        assert {setting_of(name) for name in ROLLUPS} <= keys
        assert {rollup.source for rollup in rollups} <= {*keys, *ROLLUPS, *TABLES_KEPT_AS}
        assert {setting_of(name) for name in TABLES_KEPT_AS} <= keys
        assert set(ColumnstoreSettings.model_fields) <= keys
