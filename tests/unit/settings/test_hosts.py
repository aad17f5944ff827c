"""Host names: one form for what operators, clients and servers write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.settings.hosts import host_of


class TestHost:
    """The form in which two hosts are compared."""

    @pytest.mark.parametrize(
        "text",
        [
            "lms.example.edu",
            "LMS.Example.EDU",
            "  lms.example.edu\n",
            "lms.example.edu.",
            "lms.example.edu/",
            "lms.example.edu:8443",
            "lms.example.edu:",
            "https://lms.example.edu",
            "HTTP://lms.example.edu/",
            "https://LMS.example.edu.:8443/moodle/?id=1#top",
            "//lms.example.edu/moodle",
            "https://lms.example.edu?next=https://other.example",
        ],
    )
    def test_what_people_write_for_a_host_is_one_host(self, text: str) -> None:
        """Capitals, blanks, a scheme, a port, a path and a last dot do not matter."""
        assert host_of(text) == "lms.example.edu"

    @pytest.mark.parametrize(
        ("text", "host"),
        [
            ("moodle", "moodle"),
            ("localhost:8080", "localhost"),
            ("my_lms.example", "my_lms.example"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("::1", "::1"),
            ("[0:0:0:0:0:0:0:1]:443", "::1"),
            ("https://[2001:DB8::1]/x", "2001:db8::1"),
            ("hörsaal.example", "xn--hrsaal-wxa.example"),
            ("HÖRSAAL.example.", "xn--hrsaal-wxa.example"),
            ("xn--hrsaal-wxa.example", "xn--hrsaal-wxa.example"),
        ],
    )
    def test_other_forms_of_hosts(self, text: str, host: str) -> None:
        """Short names, addresses, and names with letters that are not ASCII."""
        assert host_of(text) == host

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "https://",
            "lms example.edu",
            "lms..example.edu",
            ".example.edu",
            "-lms.example.edu",
            "*.example.edu",
            "a@lms.example.edu",
            "lms.example.edu, proxy.example.edu",
            "lms.example.edu:port",
            "1.2.3",
            "256.0.0.1",
            "[::1",
            "1:2:3",
            "x" * 64 + ".example",
            "x." * 127 + "example",
            "\udcff.example",
        ],
    )
    def test_what_cannot_be_a_host(self, text: str) -> None:
        """A text in which there is no valid host gives none."""
        assert host_of(text) is None

    @given(st.text())
    def test_any_text_gives_a_host_in_its_final_form_or_none(self, text: str) -> None:
        """A client chooses the text, so it never raises; a host stays as it is."""
        host = host_of(text)
        assert host is None or host_of(host) == host
