"""The request checksum, against known vectors and against itself."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from yarl import URL

from collector.bbb.checksum import Algorithm, checksum, signed_url, verify

ALGORITHMS: list[Algorithm] = ["sha1", "sha256", "sha384", "sha512"]
algorithms = st.sampled_from(ALGORITHMS)
queries = st.text("abcXYZ019=%+&-_.", max_size=40).filter(lambda q: "checksum=" not in q)
secrets = st.text(min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("algorithm", "digits"), [("sha1", 40), ("sha256", 64), ("sha384", 96), ("sha512", 128)]
)
def test_checksum_hashes_call_query_and_secret(algorithm: Algorithm, digits: int) -> None:
    """The checksum is the hash over the three texts one after the other, in hexadecimal."""
    expected = hashlib.new(algorithm, b"createname=A+B&meetingID=x639259d4-9dd8").hexdigest()
    result = checksum("create", "name=A+B&meetingID=x", "639259d4-9dd8", algorithm)
    assert result == expected
    assert len(result) == digits


def test_checksum_of_bigbluebuttons_documentation() -> None:
    """The example in BigBlueButton's API documentation comes out."""
    query = "name=Test+Meeting&meetingID=abc123&attendeePW=111222&moderatorPW=333444"
    secret = "639259d4-9dd8-4b25-bf01-95f9567eaf4b"
    assert checksum("create", query, secret, "sha1") == "1fcbb0c4fc1f039f73aa6d697d2db9ba7f803f17"


def test_signed_url_has_the_checksum_alone() -> None:
    """Without a query the checksum is the whole query."""
    url = signed_url(URL("https://h/bigbluebutton/api/"), "getMeetings", SecretStr("s"), "sha1")
    expected = hashlib.sha1(b"getMeetingss").hexdigest()  # noqa: S324 - BigBlueButton's default
    assert str(url) == f"https://h/bigbluebutton/api/getMeetings?checksum={expected}"


def test_signed_url_leaves_the_query_as_it_is() -> None:
    """No part of the query is encoded anew, which would break the checksum."""
    query = "name=a%20b+c&x=%2F%c3%a4"
    url = signed_url(URL("https://h/api/"), "create", SecretStr("s"), "sha256", query)
    assert url.raw_query_string.startswith(query + "&checksum=")
    assert verify("create", url.raw_query_string, "s")


@given(query=queries, secret=secrets, algorithm=algorithms, place=st.integers(0, 5))
def test_verify_finds_the_checksum_anywhere(
    query: str, secret: str, algorithm: Algorithm, place: int
) -> None:
    """A right checksum is accepted wherever it stands among the parameters."""
    parameters = query.split("&")
    mark = "checksum=" + checksum("getMeetings", query, secret, algorithm)
    parameters.insert(place, mark)
    assert verify("getMeetings", "&".join(parameters), secret)


@given(query=queries, secret=secrets, other=secrets, algorithm=algorithms)
def test_verify_refuses_another_secret(
    query: str, secret: str, other: str, algorithm: Algorithm
) -> None:
    """A checksum made with another secret is refused."""
    mark = checksum("getMeetings", query, other, algorithm)
    assert verify("getMeetings", f"{query}&checksum={mark}", secret) == (secret == other)


@given(st.text() | st.text().map("checksum={}".format) | st.text("é\udcff").map("checksum=".join))
def test_verify_refuses_anything_else(raw_query: str) -> None:
    """Whatever a client sends, the answer is no, not an exception."""
    assert not verify("getMeetings", raw_query, "secret")


@pytest.mark.parametrize("length", [40, 64])
def test_verify_refuses_a_checksum_that_is_no_ascii(length: int) -> None:
    """Letters outside ASCII, and bytes that are no UTF-8, are compared like any others."""
    assert not verify("getMeetings", "checksum=" + "é" * length, "secret")
    assert not verify("getMeetings", "checksum=" + "\udcff" * length, "secret")


def test_verify_refuses_two_checksums() -> None:
    """Of two checksums it is unknown which one counts."""
    mark = "checksum=" + checksum("getMeetings", "", "s", "sha256")
    assert verify("getMeetings", mark, "s")
    assert not verify("getMeetings", f"{mark}&{mark}", "s")
