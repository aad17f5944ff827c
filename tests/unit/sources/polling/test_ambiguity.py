"""The ways to read an answer whose custom data may be named so as to bring markup."""

import itertools

import pytest

from collector.errors import NotXmlError
from collector.sources.polling.ambiguity import readings

MARK = b"</attendees><attendees>"


def answer(*names: bytes, value: bytes = b"v") -> bytes:
    """Render what matters of an answer: an attendee each for `names`, written as they are."""
    attendees = b"".join(
        b"<attendee>\n<customdata>\n<%b>%b</%b>\n</customdata>\n</attendee>\n" % (name, value, name)
        for name in names
    )
    return b"<meeting>\n<attendees>\n" + attendees + b"</attendees>\n</meeting>\n"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        answer(),
        answer(b"k"),
        answer(b"", b"/", b"1st attr", b"a/", b"/customdata", b"customdata", b"/attendee"),
        answer(b"![CDATA[", b"]]", b"!--", b"?x ", b"attendees", b"/attendees", b"//customdata"),
        answer(b"k").replace(b"\n", b""),
        answer(b"k").replace(b"<k>v</k>", b"<k/>"),
        answer(b"k", b"/customdata", b"customdata").replace(b"<k>v</k>", b"<k/>"),
        answer(b"k") + b"<metadata><customdata>1</customdata></metadata>",
        answer(b"k") + b"<metadata></customdata></metadata>",
        answer(b"k").replace(b"v</k>", b"<b>v</b></k>"),
        b"<customdata>",
    ],
)
def test_one_reading(text: bytes) -> None:
    """Escaped names, whatever they are, and custom data of other servers are left as they are."""
    assert readings(text) == [text]


PIECES = (
    *(b"<customdata>", b"</customdata>", b"/customdata>", b"<customdata", b"<//customdata>"),
    *(
        b"</attendee>",
        b"<attendee>",
        b"</attendees>",
        b"a/>",
        b"a>",
        b"<a",
        b"</a>",
        b"/",
        b"x",
        b">",
    ),
    *(b"customdata", b"attendee>", b"<a/>"),
)


@pytest.mark.parametrize("value", [b"", b"v"])
def test_every_short_name_with_markup_is_cut_out(value: bytes) -> None:
    """No chain of up to three pieces, of all that matter, is taken for a plain name."""
    plain = answer(b"k")
    for length in (1, 2, 3):
        for pieces in itertools.product(PIECES, repeat=length):
            name = b"".join(pieces)
            if b"<" in name or b">" in name:
                text = answer(b"k", name, value=value)
                cut = text.replace(b"<%b>%b</%b>\n" % (name, value, name), MARK + b"\n")
                assert cut in readings(text), name
    assert readings(plain) == [plain]


def test_names_made_for_each_other_are_cut_out() -> None:
    """Two names that are well-formed together are two names all the same."""
    opener = b"k></k></customdata></attendee></attendees><attendees><attendee><customdata><k><k"
    assert readings(answer(opener, b"k></k")) == [
        answer(b"k", b"k").replace(b"<k>v</k>", MARK),
    ]


def test_several_readings() -> None:
    """A name within a name can be read in two ways."""
    whole, part = readings(answer(b"a></a><a></a"))
    assert {whole, part} == {
        answer(b"k").replace(b"<k>v</k>", MARK),
        answer(b"k").replace(b"<k>v</k>", b"<a></a>" + MARK + b"<a></a>"),
    }


@pytest.mark.parametrize(
    "names",
    [
        [b"a%d></a%d><a%d></a%d" % ((number,) * 4) for number in range(12)],
        [b"a></a><" * 3000 + b"a"] * 40,
    ],
)
def test_too_many_readings_are_refused(names: list[bytes]) -> None:
    """An answer that would take too long to tell apart is refused."""
    with pytest.raises(NotXmlError):
        readings(answer(*names))
