"""The systemd unit."""

from collector.daemon.daemon import CUT_GRACE_S, DRAIN_DEADLINE_S
from collector.database.deadlines import BEAT_DEADLINE_S, CONNECT_DEADLINE_S
from tests.support.deployment import FILES, GRACE_S
from tests.support.repository import ROOT


def test_it_migrates_and_runs_with_settings_that_only_root_can_read() -> None:
    """The commands exist, and the settings are handed over as a credential.

    A database that is away at the start does not keep the collector from its spool.
    """
    lines = (ROOT / "docs/examples/bbbmeter.service").read_text().splitlines()
    assert "ExecStartPre=-/opt/bbbmeter/bin/bbbmeter migrate" in lines
    assert "ExecStart=/opt/bbbmeter/bin/bbbmeter run" in lines
    assert "LoadCredential=bbbmeter.toml:/etc/bbbmeter/bbbmeter.toml" in lines
    assert "Environment=BBBMETER_CONFIG=%d/bbbmeter.toml" in lines
    assert {"DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict"} <= set(lines)


def test_it_has_a_spool_time_to_end_and_files_for_a_large_fleet() -> None:
    """The spool is where systemd lets it write, and outlives the user."""
    lines = (ROOT / "docs/examples/bbbmeter.service").read_text().splitlines()
    assert {"StateDirectory=bbbmeter", "StateDirectoryMode=0700"} <= set(lines)
    assert "Environment=BBBMETER_SPOOL__DIRECTORY=%S/bbbmeter/spool" in lines
    assert f"TimeoutStopSec={GRACE_S}" in lines
    assert f"LimitNOFILE={FILES}" in lines


def test_the_time_to_end_is_enough() -> None:
    """It holds the collector's own deadlines, one after the other."""
    own_s = CUT_GRACE_S + BEAT_DEADLINE_S + DRAIN_DEADLINE_S + CONNECT_DEADLINE_S
    assert own_s <= GRACE_S
