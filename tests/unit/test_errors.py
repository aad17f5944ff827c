"""The tree of errors, and what of them is stored."""

import inspect
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector import errors
from collector.errors import (
    ApiError,
    BbbmeterError,
    HttpStatusError,
    InternalError,
    PollError,
    SettingsError,
)

CLASSES = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, BbbmeterError)
}
POLL_ERRORS = [cls for cls in CLASSES.values() if issubclass(cls, PollError)]


def drawn() -> dict[str, tuple[str | None, str]]:
    """Return the module's drawing as {class: (its base, the text beside it)}."""
    tree: dict[str, tuple[str | None, str]] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.fullmatch(r"    ([│ ├└─]*)(\w+Error)(?: +(\S.*))?", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            tree[found[2]] = (path[-2] if depth else None, found[3] or "")
    return tree


def test_the_drawing_is_the_tree() -> None:
    """Every class stands in the module's docstring, below its base."""
    bases = {
        name: cls.__base__.__name__ if cls is not BbbmeterError else None  # type: ignore[union-attr]
        for name, cls in CLASSES.items()
    }
    assert {name: base for name, (base, _) in drawn().items()} == bases


@pytest.mark.parametrize("cls", POLL_ERRORS)
def test_each_kind_of_poll_error_has_its_code(cls: type[PollError]) -> None:
    """What `poll.outcome` stores is drawn beside the class, and begins with the class's kind."""
    _, text = drawn()[cls.__name__]
    if cls is PollError:
        assert cls().full_outcome == InternalError.outcome
    elif cls is ApiError:
        assert text == "api_error:<messageKey>"
        assert ApiError("checksumError").full_outcome == "api_error:checksumError"
    elif cls is HttpStatusError:
        assert text == "http_status"
        assert HttpStatusError(502).full_outcome == "http_status:502"
    else:
        assert cls("text from outside").full_outcome == cls.outcome == text


def test_no_two_kinds_are_the_same() -> None:
    """Counted by kind, errors of two classes do not mix."""
    kinds = [cls.outcome for cls in POLL_ERRORS if cls is not PollError]
    assert len(kinds) == len(set(kinds)) == 13


@given(st.text() | st.text("abZ9_é", min_size=99, max_size=200))
def test_no_text_from_outside_becomes_a_code(key: str) -> None:
    """Of a messageKey only ASCII letters are kept, 40 of them at most, in code and message."""
    error = ApiError(key)
    kept = "".join(re.findall("[A-Za-z]", key))[:40]
    assert error.full_outcome == (f"api_error:{kept}" if kept else "api_error")
    assert str(error) == f"BigBlueButton answered FAILED, messageKey {kept or 'missing'}"


def test_a_message_key_is_cut() -> None:
    """Names that BigBlueButton uses are kept whole; markup and line ends are not."""
    assert ApiError("invalidMeetingIdentifier").full_outcome == "api_error:invalidMeetingIdentifier"
    assert ApiError('<b>no\n"x"</b> é').full_outcome == "api_error:bnoxb"
    assert ApiError("").full_outcome == "api_error"
    assert "missing" in str(ApiError(""))
    assert ApiError("k" * 100).full_outcome == f"api_error:{'k' * 40}"
    checksum = "0123456789abcdef" * 4
    assert checksum not in ApiError(checksum).full_outcome


def test_settings_errors_have_a_line_a_problem() -> None:
    """Each line names where it was found, and the problems are there one by one."""
    error = SettingsError(["a: bad", "b: worse"], "x.toml")
    assert str(error) == "x.toml: a: bad\nx.toml: b: worse"
    assert (error.problems, error.source) == (["a: bad", "b: worse"], "x.toml")
