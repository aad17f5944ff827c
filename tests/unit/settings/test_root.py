"""The settings: what is accepted, what is refused, and what the messages say."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from collector.errors import SettingsError
from collector.rollups import ROLLUPS
from collector.settings import (
    ColumnstoreSettings,
    MetadataRule,
    ParentRule,
    RetentionSettings,
    ServerRule,
    ServerSettings,
    Settings,
    is_tenant_name,
)
from collector.settings.file import load_settings

SERVER = """
[[server]]
name = "bbb1"
url = "https://bbb1.example.org/bigbluebutton/"
secret = "hush"
"""

Load = Callable[[str], Settings]
Problems = Callable[[str], list[str]]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start each test without any variable of bbbmeter."""
    for variable in list(os.environ):
        if variable.upper().startswith("BBBMETER_"):
            monkeypatch.delenv(variable)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the file of settings stands."""
    return tmp_path / "bbbmeter.toml"


@pytest.fixture
def load(path: Path) -> Load:
    """Return a function that loads settings from a text."""

    def load_text(text: str) -> Settings:
        path.write_text(text, encoding="utf-8")
        return load_settings(path)

    return load_text


@pytest.fixture
def problems(load: Load) -> Problems:
    """Return a function that loads a text which must be refused, and gives the problems."""

    def problems_of(text: str) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            load(text)
        return caught.value.problems

    return problems_of


def server(**keys: object) -> ServerSettings:
    """Return a server with the keys that it needs, and `keys`."""
    needed = {"name": "bbb1", "url": "https://bbb1.example.org/bigbluebutton/"}
    if not {"secret_env", "secret_file"} & set(keys):
        needed["secret"] = "hush"
    return ServerSettings.model_validate({**needed, **keys})


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
        assert problem.startswith("is no TOML: ")
        assert "line 2" in problem

    def test_what_is_no_utf8_is_refused(self, path: Path) -> None:
        """A file in another encoding gives no traceback."""
        path.write_bytes(b'billing_timezone = "\xff"')
        with pytest.raises(SettingsError, match="is no TOML"):
            load_settings(path)

    def test_all_problems_come_at_once_each_with_its_key(self, problems: Problems) -> None:
        """Entries of lists are named by their name, or counted from one where they have none."""
        found = problems(
            'poll_interval_s = 31\nbogus = 1\n[http]\nprt = 1\n[[server]]\nname = "bbb1"\n'
            'url = "ftp://x/"\nsecret = "x"\n[[server]]\nurl = "https://x/"\nsecret = "x"\n'
        )
        assert sorted(found) == [
            "bogus: unknown key",
            "http.prt: unknown key",
            "poll_interval_s: must divide 60: 5, 6, 10, 12, 15, 20, 30 or 60",
            "server[2].name: Field required",
            "server[bbb1].url: must begin with http:// or https:// and name a host",
        ]

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
        assert problem == "a path begins with ~ and a user that is unknown"

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
            ("BBBMETER_RETENTION__SAMPEL", "retention.sampel: unknown key"),
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
        assert problem.startswith("billing_timezone: 'Europe/Bonn' is no time zone")

    def test_names_are_used_once(self, problems: Problems) -> None:
        """Two servers or tenants of one name would be one in the figures."""
        tenants = '[[tenant]]\nname = "law"\n' * 2
        assert problems(SERVER * 2 + tenants) == [
            "server: the name 'bbb1' is used more than once",
            "tenant: the name 'law' is used more than once",
        ]


class TestNames:
    """Names of servers and tenants."""

    @given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
    def test_what_the_message_describes_is_a_name(self, name: str) -> None:
        """1 to 64 letters, digits, dots, underscores and hyphens, not at the beginning."""
        assert is_tenant_name(name)

    @pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "ä", "a\n", "a" * 65, "٣"])
    def test_others_are_not(self, name: str, problems: Problems) -> None:
        """Nothing that would need quoting anywhere."""
        assert not is_tenant_name(name)
        (problem,) = problems(f"[[tenant]]\nname = {json.dumps(name)}\n")
        assert "must be 1 to 64 letters" in problem


class TestServer:
    """An entry of `[[server]]`."""

    @pytest.mark.parametrize(
        ("url", "api_url"),
        [
            ("https://b.example/bigbluebutton/", "https://b.example/bigbluebutton/api/"),
            ("https://b.example/bigbluebutton", "https://b.example/bigbluebutton/api/"),
            ("https://b.example/bigbluebutton/api", "https://b.example/bigbluebutton/api/"),
            ("https://b.example/bigbluebutton/api/", "https://b.example/bigbluebutton/api/"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/"),
            ("https://lb.example/bbb/law/", "https://lb.example/bbb/law/api/"),
        ],
    )
    def test_the_api_is_found_with_and_without_its_path(self, url: str, api_url: str) -> None:
        """What BigBlueButton prints and what people write both work."""
        assert str(server(url=url).api_url) == api_url

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "bbb1.example.org",
            "ftp://b.example/",
            "https://",
            "https://b.example:99999/",
            "https://u@b.example/",
            "https://u:p@b.example/",
            "https://b.example/?checksum=x",
            "https://b.example/#x",
        ],
    )
    def test_other_urls_are_refused(self, url: str) -> None:
        """No scheme, no host, or something in it that could be a secret."""
        with pytest.raises(ValidationError):
            server(url=url)

    @pytest.mark.parametrize(
        "keys",
        [
            {"secret": None},
            {"secret": "a", "secret_env": "B"},
            {"secret_env": "B", "secret_file": "c"},
            {"secret": "a", "secret_env": "B", "secret_file": "c"},
        ],
    )
    def test_it_has_exactly_one_secret(self, keys: dict[str, object]) -> None:
        """None, or two that could differ, are refused."""
        with pytest.raises(ValidationError, match="exactly one of secret, secret_env"):
            server(**keys)

    def test_an_empty_secret_is_refused(self) -> None:
        """An empty secret would be a checksum that everybody can compute."""
        with pytest.raises(ValidationError, match="secret is empty"):
            server(secret="")

    def test_the_secret_is_read_from_where_it_is(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In the file, in a variable, or in a file of its own, whose line end is cut off."""
        file = tmp_path / "secret"
        file.write_text("from file \r\n")
        monkeypatch.setenv("BBB1_SECRET", "from variable")
        assert server(secret="hush").read_secret().get_secret_value() == "hush"
        assert server(secret_env="BBB1_SECRET").read_secret().get_secret_value() == "from variable"
        assert server(secret_file=file).read_secret().get_secret_value() == "from file "

    def test_a_secret_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        """The message says which server, and where the secret was looked for."""
        binary, empty = tmp_path / "binary", tmp_path / "empty"
        binary.write_bytes(b"\xff\xfe")
        empty.write_text("\n")
        cases: list[tuple[ServerSettings, str]] = [
            (server(secret_env="BBB1_NO_SECRET"), r"BBB1_NO_SECRET \(secret_env\) is empty"),
            (server(secret_file=tmp_path / "none"), r"none \(secret_file\): No such file"),
            (server(secret_file=binary), r"binary \(secret_file\): is not UTF-8"),
            (server(secret_file=empty), r"empty \(secret_file\) is empty"),
        ]
        for entry, message in cases:
            with pytest.raises(SettingsError, match=rf"^server\[bbb1\]: .*{message}"):
                entry.read_secret()

    @pytest.mark.parametrize("timeout_s", [0, -1, 61, float("nan")])
    def test_the_timeout_is_bounded(self, timeout_s: float) -> None:
        """Above nothing and at most a minute."""
        with pytest.raises(ValidationError):
            server(timeout_s=timeout_s)


class TestAttribution:
    """The rules."""

    def test_rules_keep_their_order(self, load: Load) -> None:
        """The first match wins, so the order is the operator's."""
        settings = load(
            '[attribution]\nrules = [{type = "parent"}, {type = "prefix", prefix = "x", '
            'tenant = "law"}, {type = "suffix"}, {type = "origin", hosts = {"h" = "law"}}]'
        )
        assert [r.type for r in settings.attribution.rules] == [
            "parent",
            "prefix",
            "suffix",
            "origin",
        ]

    def test_a_metadata_key_is_compared_in_lower_case(self) -> None:
        """BigBlueButton answers with the keys in lower case."""
        assert MetadataRule(type="metadata", key="BBBLB-Tenant").key == "bbblb-tenant"

    @pytest.mark.parametrize(
        "rule",
        [
            '{type = "magic"}',
            '{key = "x"}',
            '{type = "metadata"}',
            '{type = "metadata", key = ""}',
            '{type = "metadata", key = "x", tenants = {a = "no name"}}',
            '{type = "suffix", separator = ""}',
            '{type = "prefix", prefix = "", tenant = "law"}',
            '{type = "origin"}',
            '{type = "parent", tenant = "law"}',
        ],
    )
    def test_a_broken_rule_is_named_by_its_place(self, problems: Problems, rule: str) -> None:
        """Unknown types, missing keys, and tenants that can be none."""
        (problem,) = problems(f'[attribution]\nrules = [{{type = "server"}}, {rule}]')
        assert problem.startswith("attribution.rules[2]")


class TestRetention:
    """How long tables are kept."""

    @pytest.mark.parametrize(("rollup", "source"), [(r.name, r.source) for r in ROLLUPS.values()])
    def test_a_source_outlives_the_refresh_of_its_rollup(
        self, load: Load, problems: Problems, rollup: str, source: str
    ) -> None:
        """A refresh behind what was dropped would delete figures, so such settings are refused."""
        needed = ROLLUPS[rollup].min_source_days
        found = problems(f"[retention]\n{source} = {needed - 1}")
        assert (
            f"retention.{source}: {needed - 1} days are less than the {needed} that the "
            f"refresh of {rollup} needs"
        ) in found
        longest = max(r.min_source_days for r in ROLLUPS.values() if r.source == source)
        assert getattr(load(f"[retention]\n{source} = {longest}").retention, source)

    def test_nought_keeps_for_ever(self, load: Load) -> None:
        """Nought is no retention, not a short one."""
        assert load("[retention]\nsample = 0\nsession = 0").retention.sample == 0

    def test_days_are_not_negative(self, problems: Problems) -> None:
        """In both tables of days."""
        assert len(problems("[retention]\nsample = -1\n[columnstore]\npoll = -1")) == 2

    def test_every_rollup_has_a_window_and_is_kept_by_a_setting(self) -> None:
        """The tables of rollups, and the settings about them, name the same ones."""
        kept = set(RetentionSettings.model_fields)
        assert {*ROLLUPS, *(rollup.source for rollup in ROLLUPS.values())} <= kept
        assert set(ColumnstoreSettings.model_fields) <= kept
