"""The file and the environment: what is read, what is refused, and what the messages say."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from collector.errors import SettingsError
from collector.settings import MetadataRule, ParentRule, ServerRule
from collector.settings.file import load_settings
from tests.support.settings import SERVER, Load, Problems

MEANT = "unknown key poll_interval; did you mean poll_interval_s?"


class TestFile:
    """Reading the file."""

    def test_an_empty_file_gives_the_defaults(self, load: Load) -> None:
        """Nothing has to be set."""
        settings = load("")
        assert settings.poll_interval_s == 30
        assert settings.billing_timezone == "UTC"
        assert settings.server == ()
        assert settings.http.port == 9713
        assert not settings.store_room_names

    def test_by_default_only_rules_that_nobody_can_forge_are_on(self, load: Load) -> None:
        """The server's own tenant and the parent's are believed, no metadata is."""
        assert load("").attribution.rules == (ServerRule(type="server"), ParentRule(type="parent"))

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """A file that cannot be read is an error of the settings, with its path."""
        with pytest.raises(SettingsError, match=r"no\.toml: cannot be read: No such file"):
            load_settings(tmp_path / "no.toml")

    def test_what_is_no_toml_is_refused_with_its_line(self, problems: Problems) -> None:
        """The message says where the syntax is wrong."""
        (problem,) = problems("poll_interval_s = 30\npoll_interval_s 30\n")
        assert problem.startswith("is not valid TOML: ")
        assert "line 2" in problem

    def test_what_is_no_utf8_is_refused(self, path: Path) -> None:
        """A file in another encoding gives no traceback."""
        path.write_bytes(b'billing_timezone = "\xff"')
        with pytest.raises(SettingsError, match="is not valid TOML"):
            load_settings(path)

    def test_all_problems_come_at_once_each_with_its_key(self, problems: Problems) -> None:
        """Entries of lists are named by their name, or counted from one where they have none."""
        found = problems(
            'poll_interval_s = 31\nbogus = 1\n[http]\nprt = 1\n[[server]]\nname = "bbb1"\n'
            'url = "ftp://x/"\nsecret = "x"\n[[server]]\nurl = "https://x/"\nsecret = "x"\n'
        )
        assert sorted(found) == [
            "bogus: unknown key",
            "http.prt: unknown key; did you mean port?",
            "poll_interval_s: must be 5, 6, 10, 12, 15, 20, 30 or 60, as it must divide a minute",
            "server[2].name: Field required",
            "server[bbb1].url: must begin with http:// or https:// and name a host",
        ]

    def test_what_was_meant(self, problems: Problems) -> None:
        """A key that looks like one of its own table is named."""
        found = problems('sever = 1\n[[server]]\nname = "a"\nurl = "http://a/"\nsecrt = "x"\n')
        assert "sever: unknown key; did you mean server?" in found
        assert "server[a].secrt: unknown key; did you mean secret?" in found

    def test_the_message_has_a_line_for_each_problem(self, path: Path) -> None:
        """The text that the command line prints names the file in front of each problem."""
        path.write_text("a = 1\nb = 2\n")
        with pytest.raises(SettingsError) as caught:
            load_settings(path)
        assert str(caught.value) == f"{path}: a: unknown key\n{path}: b: unknown key"

    @pytest.mark.parametrize("key", ["_env_file", "_secrets_dir", "__pydantic_self__"])
    def test_keys_that_mean_something_to_the_library_are_unknown(
        self, problems: Problems, key: str
    ) -> None:
        """No key of the file reaches the settings library's own arguments."""
        assert problems(f'{key} = "/etc"') == [f"{key}: unknown key"]

    def test_no_problem_shows_a_secret(self, problems: Problems) -> None:
        """Values are left out of the messages, whatever is wrong with them."""
        found = problems(
            'database = "mysql://user:hush@localhost/x"\n[[server]]\nname = "a"\n'
            'url = "https://user:hush@x/"\nsecret = ["hush"]\nsecrt = "hush"\n'
        )
        assert len(found) == 4
        assert not [problem for problem in found if "hush" in problem]

    def test_the_settings_show_no_secret(self, load: Load) -> None:
        """Neither the text nor the dump of the settings has a secret or the database's address."""
        settings = load('database = "postgresql://u:hush@localhost/x"\n' + SERVER)
        assert "hush" not in f"{settings!r} {settings} {settings.model_dump_json()}"

    def test_the_settings_cannot_be_changed(self, load: Load) -> None:
        """What was checked as a whole stays as it is."""
        settings = load(SERVER)
        with pytest.raises(ValidationError):
            settings.poll_interval_s = 7  # type: ignore[misc]
        with pytest.raises(ValidationError):
            settings.server[0].name = "other"  # type: ignore[misc]


class TestPaths:
    """Relative paths."""

    def test_they_start_from_the_files_folder(self, load: Load, tmp_path: Path) -> None:
        """The working directory does not matter."""
        settings = load(
            'database = "embedded:./data"\n[[server]]\nname = "a"\nurl = "https://x/"\n'
            'secret_file = "secrets/a"\nca_file = "/etc/ca.pem"\n'
        )
        assert settings.database.get_secret_value() == f"embedded:{tmp_path / 'data'}"
        assert settings.server[0].secret_file == tmp_path / "secrets" / "a"
        assert settings.server[0].ca_file == Path("/etc/ca.pem")

    def test_a_tilde_is_the_home_directory(
        self, load: Load, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Paths may begin with the user's home."""
        monkeypatch.setenv("HOME", "/home/op")
        settings = load('database = "embedded:~/data"')
        assert settings.database.get_secret_value() == "embedded:/home/op/data"

    def test_a_tilde_of_an_unknown_user_is_refused(self, problems: Problems) -> None:
        """A home that nobody knows is an error of the settings."""
        (problem,) = problems('database = "embedded:~no-such-user/data"')
        assert problem == "a path begins with ~ and an unknown user name"

    def test_other_databases_stay_as_they_are(self, load: Load) -> None:
        """Memory and servers have no path."""
        for database in ("embedded::memory:", "postgresql://meter@db/meter"):
            assert load(f'database = "{database}"').database.get_secret_value() == database

    def test_without_a_file_they_stay_relative(self) -> None:
        """The environment alone has no folder."""
        assert load_settings(None).database.get_secret_value() == "embedded:./data"


class TestEnvironment:
    """Variables that begin with BBBMETER_."""

    def test_it_goes_before_the_file(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable replaces the file's value of the same key, and no other of its table."""
        monkeypatch.setenv("BBBMETER_POLL_INTERVAL_S", "10")
        monkeypatch.setenv("BBBMETER_RETENTION__SAMPLE", "40")
        settings = load("poll_interval_s = 60\n[retention]\nsample = 20\npoll = 20\n")
        assert settings.poll_interval_s == 10
        assert (settings.retention.sample, settings.retention.poll) == (40, 20)

    def test_lists_come_as_json(self, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
        """The servers of the environment stand in place of the file's."""
        entry = {"name": "bbb2", "url": "https://x/", "secret": "hush"}
        monkeypatch.setenv("BBBMETER_SERVER", json.dumps([entry]))
        monkeypatch.setenv("BBBMETER_ATTRIBUTION__RULES", '[{"type": "metadata", "key": "K"}]')
        settings = load(SERVER)
        assert [server.name for server in settings.server] == ["bbb2"]
        assert settings.attribution.rules == (MetadataRule(type="metadata", key="k"),)

    def test_a_list_that_is_no_json_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The message names the key and does not show the value."""
        monkeypatch.setenv("BBBMETER_SERVER", "[hush")
        with pytest.raises(SettingsError, match='"server"') as caught:
            load_settings(None)
        assert "hush" not in str(caught.value)

    @pytest.mark.parametrize(
        ("variable", "problem"),
        [
            ("BBBMETER_BOGUS", "environment variable BBBMETER_BOGUS: unknown key bogus"),
            (
                "BBBMETER_DATABASE__URL",
                "environment variable BBBMETER_DATABASE__URL: unknown key database.url",
            ),
            (
                "BBBMETER_SERVER__0__SECRET",
                "environment variable BBBMETER_SERVER__0__SECRET: unknown key server.0.secret",
            ),
            (
                "BBBMETER_RETENTION__SAMPEL",
                "retention.sampel: unknown key; did you mean sample?",
            ),
            ("BBBMETER_POLL_INTERVAL", "environment variable BBBMETER_POLL_INTERVAL: " + MEANT),
        ],
    )
    def test_unknown_variables_are_refused(
        self, monkeypatch: pytest.MonkeyPatch, variable: str, problem: str
    ) -> None:
        """A mistyped variable does not go unnoticed."""
        monkeypatch.setenv(variable, "hush")
        with pytest.raises(SettingsError) as caught:
            load_settings(None)
        assert problem in caught.value.problems
        assert "hush" not in str(caught.value)

    def test_variables_that_are_no_settings_are_left_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file's own variable and those of the tests are no unknown keys."""
        monkeypatch.setenv("BBBMETER_CONFIG", "/etc/bbbmeter.toml")
        monkeypatch.setenv("BBBMETER_TEST_DSN", "postgresql://localhost/x")
        assert load_settings(None).poll_interval_s == 30
