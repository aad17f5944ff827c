"""An entry of `[[server]]`: its address, its secret, its timeout."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from collector.errors import SettingsError
from collector.settings import ServerSettings


def server(**keys: object) -> ServerSettings:
    """Return a server with the keys that it needs, and `keys`."""
    needed = {"name": "bbb1", "url": "https://bbb1.example.org/bigbluebutton/"}
    if not {"secret_env", "secret_file"} & set(keys):
        needed["secret"] = "hush"
    return ServerSettings.model_validate({**needed, **keys})


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

    def test_entries_of_a_host_share_it(self) -> None:
        """The host has a port, and neither case, path nor a dot at the end matter."""
        urls = ("https://LB.example.org/a/", "https://lb.example.org.:443/b/bigbluebutton/api")
        assert {server(url=url).host for url in urls} == {"lb.example.org:443"}
        assert server(url="http://lb.example.org/a/").host == "lb.example.org:80"
        assert server(url="http://[::1]:8080/").host == "::1:8080"
