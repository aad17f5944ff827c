"""Two entries of `[[server]]` for one address and secret: each session would count twice."""

import json
from pathlib import Path

import pytest

from tests.support.settings import Load, Problems

URL = "https://bbb.example.org/bigbluebutton/"


def entry(name: str, url: str = URL, **keys: object) -> str:
    """Return an entry of the file; without another key for it, the secret is `hush`."""
    if not {"secret", "secret_env", "secret_file"} & set(keys):
        keys["secret"] = "hush"
    lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
    return "\n".join([f'[[server]]\nname = "{name}"\nurl = "{url}"', *lines, ""])


class TestTwins:
    """Entries with the same address and the same secret."""

    @pytest.mark.parametrize(
        "url",
        [
            URL,
            "http://bbb.example.org/bigbluebutton/",
            "https://bbb.example.org:443/bigbluebutton/",
            "http://bbb.example.org:80/bigbluebutton/",
            "https://BBB.Example.org/bigbluebutton/",
            "https://bbb.example.org/bigbluebutton",
            "https://bbb.example.org/bigbluebutton/api",
            "https://bbb.example.org/bigbluebutton/api/",
            "https://bbb.example.org./bigbluebutton/",
            "https://bbb.example.org//bigbluebutton//",
            "http://BBB.example.org.:443/bigbluebutton/api",
        ],
    )
    def test_one_address_in_two_forms_is_refused(self, problems: Problems, url: str) -> None:
        """Scheme, default port, capitals, slashes, a last dot and `api/` do not matter."""
        found = problems(entry("bbb1") + entry("other", "https://x.example/") + entry("bbb2", url))
        assert found == [
            (
                "server[bbb1] and server[bbb2]: have the same address and the same secret, so each "
                "session would count twice; remove one, or set enabled = false in it"
            )
        ]

    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ("https://hörsaal.example/", "https://xn--hrsaal-wxa.example/"),
            ("http://[::1]:8080/", "http://[0:0:0:0:0:0:0:1]:8080/"),
            ("http://bbb.example:8443/", "https://bbb.example:8443/"),
        ],
    )
    def test_other_forms_of_one_address(self, problems: Problems, one: str, two: str) -> None:
        """Names that are not ASCII, IPv6 addresses, and ports of their own."""
        assert len(problems(entry("a", one) + entry("b", two))) == 1

    @pytest.mark.parametrize(
        "url",
        [
            "https://bbb2.example.org/bigbluebutton/",
            "https://bbb.example.org:8443/bigbluebutton/",
            "https://bbb.example.org/law/bigbluebutton/",
        ],
    )
    def test_other_addresses_are_allowed(self, load: Load, url: str) -> None:
        """Many servers may have one secret."""
        assert len(load(entry("bbb1") + entry("bbb2", url)).server) == 2

    def test_tenants_of_one_load_balancer_are_allowed(self, load: Load) -> None:
        """One address with other secrets gives other sessions."""
        assert len(load(entry("law", secret="a") + entry("med", secret="b")).server) == 2

    def test_an_entry_that_is_not_enabled_is_allowed(self, load: Load) -> None:
        """It is not polled, so nothing counts twice."""
        assert len(load(entry("bbb1") + entry("bbb2", enabled=False)).server) == 2

    def test_other_keys_make_no_other_server(self, problems: Problems) -> None:
        """A tenant, a checksum algorithm or a timeout of its own does not make other sessions."""
        other = entry("b", tenant="law", checksum="sha1", timeout_s=3)
        assert len(problems(entry("a") + other)) == 1

    def test_all_entries_are_named(self, problems: Problems) -> None:
        """Three entries of one server are one problem, two pairs are two."""
        text = entry("a") + entry("b", "https://x.example/") + entry("c") + entry("d")
        first, second = problems(text + entry("e", "http://x.example/api"))
        assert first.startswith("server[a], server[c] and server[d]: ")
        assert second.startswith("server[b] and server[e]: ")

    def test_secrets_are_compared_wherever_they_are(
        self, problems: Problems, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """A file and a variable with the same secret are the same; no secret is shown."""
        (tmp_path / "secrets").mkdir()
        (tmp_path / "secrets" / "a").write_text("hush\n")
        monkeypatch.setenv("BBB_SECRET", "hush")
        (problem,) = problems(
            entry("a", secret_file="secrets/a")
            + entry("b", secret_env="BBB_SECRET")
            + entry("c")
            + entry("d", secret="other")
        )
        assert problem.startswith("server[a], server[b] and server[c]: ")
        assert "hush" not in problem

    def test_a_secret_that_cannot_be_read_is_not_compared(self, load: Load, tmp_path: Path) -> None:
        """A report may be made by a user who cannot read the secrets."""
        (tmp_path / "binary").write_bytes(b"\xff\xfe")
        unreadable = [{"secret_env": "NO_SUCH_SECRET"}, {"secret_file": "none"}]
        unreadable += [{"secret_file": "binary"}]
        entries = "".join(entry(f"s{n}", **keys) for n, keys in enumerate(unreadable * 2))
        assert len(load(entries + entry("one")).server) == 7
