"""The keys at the top of the file."""

import pytest

from tests.support.settings import SERVER, Load, Problems


class TestTop:
    """The keys at the top of the file."""

    @pytest.mark.parametrize("interval_s", [5, 6, 10, 12, 15, 20, 30, 60])
    def test_the_interval_divides_a_minute(self, load: Load, interval_s: int) -> None:
        """Sums can be cut exactly at minutes."""
        assert load(f"poll_interval_s = {interval_s}").poll_interval_s == interval_s

    @pytest.mark.parametrize("interval_s", [0, 4, 7, 45, 61, 120, -30])
    def test_other_intervals_are_refused(self, problems: Problems, interval_s: int) -> None:
        """Too short, too long, or across minutes."""
        (problem,) = problems(f"poll_interval_s = {interval_s}")
        assert problem.startswith("poll_interval_s: ")

    @pytest.mark.parametrize("database", ["", "mysql://x", "data", "embedded:"])
    def test_a_database_is_a_directory_or_a_server(self, problems: Problems, database: str) -> None:
        """An engine that is not there, and one without a directory, are refused."""
        (problem,) = problems(f'database = "{database}"')
        assert problem.startswith("database: must ")

    def test_the_time_zone_is_a_known_one(self, load: Load, problems: Problems) -> None:
        """Names of the IANA database are taken, others are not."""
        assert load('billing_timezone = "Europe/Berlin"').billing_timezone == "Europe/Berlin"
        (problem,) = problems('billing_timezone = "Europe/Bonn"')
        assert problem.startswith("billing_timezone: 'Europe/Bonn' is not an IANA time zone")

    def test_names_are_used_once(self, problems: Problems) -> None:
        """Two servers or tenants of one name would be one in the figures."""
        tenants = '[[tenant]]\nname = "law"\n' * 2
        assert problems(SERVER * 2 + tenants) == [
            "server: the name 'bbb1' is used more than once",
            "tenant: the name 'law' is used more than once",
        ]
