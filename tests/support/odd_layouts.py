"""Invented answers in any layout: usual ones, unusual ones, and some that are not well-formed.

Nothing is known about their content. They are for comparing two ways of reading them.
"""

import random
from collections.abc import Callable

from tests.support.answers import KEYS
from tests.support.meetings import CREATED_MS, identity

_SPACES = ("", "", "\n", "\n  ", " \t\r\n", "\r", "\n<!-- no -->\n")
_TEXTS = (
    *(
        "",
        "",
        "0",
        "1",
        "7",
        "true",
        "false",
        "x",
        "a b",
        " ",
        "\n",
        "1,202",
        "-1",
        "40000",
        "9" * 40,
    ),
    *("&amp;", "&lt;b&gt;", "&quot;", "&#34;", "&#39;", "&#x27;", "&#xA;", "&#13;", "&apos;&#x9;"),
    *("&#233;", "&#128;", "&#0;", "&#x110000;", "&uuml;", "&", "&amp", "&#38;lt;", "&amp;lt;"),
    *(
        ">",
        "/>",
        "a/>",
        "]]>",
        "]]",
        "<b/>",
        "<b>x</b>",
        "<![CDATA[a]]>",
        "<![CDATA[</attendees>]]>",
        "\r\n",
        "a\rb",
        "\x85",
    ),
    *(
        "\0",
        "\x0b",
        "tr\0ue",
        "4\x01",
        "\ufffe0",
        "1" + "\0" * 40,
        "\ufffe",
        "é",
        "\ud7ff",
        "x" * 600,
        "<",
        "</meeting>",
        "<meeting>",
    ),
)
_NAMES = (
    *("x", "x-y", "_a.b", "X1", "customdata", "role", "other", "key", "child", "metadata_key"),
    *("tenant", "meeting", "meetings", "attendee", "response", "returncode", "breakoutRooms"),
    *("duration", "createDate", "maxUsers", "participantCountX", "participantCoun", "sequence"),
    *("a:b", "é", "1a", "-a", "a b", "a b='c'", "x" * 1200),
)
_IDS = (*map(identity, range(3)), "x", "")
_HEADS = ("<message></message>", "<messageKey/>", "<version>2.0</version>")
_BESIDE = (
    *(*_HEADS, "<returncode>FAILED</returncode>", "<returncode/>", "<meetings></meetings>"),
    *("<meetings/>", "x", "<x><y>1</y></x>", "<x>&b;</x>", "<x>]]></x>", "<x>\0</x>"),
)
_TOKENS = (
    *("<", ">", "/", "</", "/>", "&", "<meeting>", "</meeting>", "<attendees>", "</attendees>"),
    *(
        "<metadata>",
        "</metadata>",
        "<!--",
        "-->",
        "<?x",
        "?>",
        "]]>",
        "<![CDATA[",
        "\0",
        "<breakout>",
    ),
    *("<participantCount>9</participantCount>", "<videoCount/>", "<x/>", " ", "\n", "</response>"),
)


def odd_answer(chance: random.Random) -> bytes:
    """Return an answer. About half of them are well-formed and have a usual layout."""
    odd = chance.choice([0.0, 0.0, 0.01, 0.03, 0.1])
    space = chance.choice(_SPACES[:5])
    order = chance.choice([_as_it_is, _shuffled_alike(chance), chance.shuffle])
    closed = chance.random() < 0.3
    meetings = [
        _Writer(chance, odd, space, closed=closed).meeting(order)
        for _ in range(chance.choice([0, 1, 2, 2, 3]))
    ]
    beside = _BESIDE if chance.random() < odd else _HEADS
    head = "".join(chance.choices(beside, k=chance.choice([0, 0, 1, 2])))
    tail = "".join(chance.choices(beside, k=chance.choice([0, 0, 0, 1])))
    declaration = chance.choice(["", f"<?xml version='1.0'?>{space}"])
    text = (
        f"{declaration}<response>{space}"
        f"<returncode>SUCCESS</returncode>{space}{head}<meetings>{space}{''.join(meetings)}"
        f"</meetings>{space}{tail}</response>{chance.choice(['', space])}"
    )
    if chance.random() < odd:
        at, length = chance.randrange(len(text)), chance.choice([0, 1, 3, 40])
        text = text[:at] + chance.choice(_TOKENS) + text[at + length :]
    return text.encode()


def _as_it_is(_: list[str]) -> None:
    pass


def _shuffled_alike(chance: random.Random) -> Callable[[list[str]], None]:
    seed = chance.random()
    return lambda elements: random.Random(seed).shuffle(elements)


class _Writer:
    """Writes a meeting. `odd` is the probability of something unusual in each place."""

    def __init__(self, chance: random.Random, odd: float, space: str, *, closed: bool) -> None:
        self._chance = chance
        self._odd = odd
        self._space = space
        self._closed = closed

    def meeting(self, order: Callable[[list[str]], None]) -> str:
        pick, odd = self._chance.choice, self._is_odd
        fields = {
            "meetingName": "Room",
            "meetingID": "room",
            "internalMeetingID": pick(_IDS[:3]),
            "createTime": str(CREATED_MS),
            "createDate": "Thu Aug 21 10:40:00 UTC 2025",
            "dialNumber": "613-555-1234",
            "moderatorPW": "",
            "hasUserJoined": pick(["true", "false"]),
            "recording": pick(["true", "false"]),
            "hasBeenForciblyEnded": "true" if odd() else "false",
            "endTime": "0",
            "participantCount": pick(["0", "4", "1,202"]),
            "listenerCount": "1",
            "voiceParticipantCount": pick(["3", "03"]),
            "videoCount": "2",
            "moderatorCount": pick(["1", ""]),
            "isBreakout": pick(["true", "false"]),
        }
        elements = [
            self._element(tag, pick(_TEXTS) if odd() else text)
            for tag, text in fields.items()
            if not odd() and pick([1, 1, 1, 1, 0] if tag == "hasUserJoined" else [1])
        ]
        elements += [self._attendees(), self._metadata()]
        parent = self._element("parentMeetingID", pick(_IDS))
        elements += pick(
            [
                *([], [], [parent]),
                [f"<breakout>{self._space}{parent}{self._element('sequence', '1')}</breakout>"],
                ["<breakoutRooms><breakout>r</breakout></breakoutRooms>"],
            ]
        )
        if odd():
            inside = pick([self._element("sequence", "1"), parent * 2, "<x/>", "x", ""])
            elements.append(f"<breakout>{inside}{pick([parent, ''])}</breakout>")
        while self._chance.random() < max(self._odd, 0.2):
            elements.append(self._unknown())
        while odd():
            elements.append(self._element(pick([*fields, "metadata", "breakout"]), pick(_TEXTS)))
        order(elements)
        if odd():
            elements.insert(self._chance.randrange(len(elements)), pick([*_TEXTS, *_SPACES]))
        name = pick(["meeting a='b'", "meeting ", "meet"]) if odd() else "meeting"
        return f"<{name}>{self._space}{''.join(elements)}</meeting>{self._space}"

    def _is_odd(self) -> bool:
        return self._chance.random() < self._odd

    def _element(self, tag: str, text: str) -> str:
        if not text and (self._closed or self._is_odd()):
            return f"<{tag}/>{self._space}"
        return f"<{tag}>{text}</{tag}>{self._space}"

    def _unknown(self) -> str:
        pick = self._chance.choice
        usual, many = _NAMES[:6], _NAMES if self._is_odd() else _NAMES[:-7]
        text = pick(_TEXTS) if self._is_odd() else "v"
        inner = self._element(pick(many), text)
        if self._is_odd():
            inner = self._element(pick(usual), inner)
        return self._element(pick(many), pick([text, inner, inner + inner]))

    def _metadata(self) -> str:
        pick = self._chance.choice
        entries = [
            self._element(pick([*KEYS, *(_NAMES if self._is_odd() else _NAMES[:6])]), pick(_TEXTS))
            if self._is_odd()
            else self._element(pick([*KEYS, "x", "y"]), pick(["v", "a &amp; b", ""]))
            for _ in range(pick([0, 1, 2]))
        ]
        inside = "".join(entries)
        return self._element("metadata", inside and self._space + inside)

    def _attendees(self) -> str:
        pick = self._chance.choice
        people = "".join(
            f"<attendee>{self._space}<userID>u</userID>{self._space}"
            f"<fullName>{pick(_TEXTS) if self._is_odd() else 'Ada'}</fullName>{self._space}"
            f"<role>{role}</role>{self._space}{self._custom()}</attendee>{self._space}"
            for role in self._chance.choices(["VIEWER", "DIAL-IN-USER"], k=pick([0, 1, 2]))
        )
        return self._element("attendees", people and self._space + people)

    def _custom(self) -> str:
        if self._chance.random() < 0.7:
            return ""
        key = self._chance.choice(["k", "1st attr", "/attendees", "role"])
        return f"<customdata>{self._space}{self._element(key, 'v')}</customdata>{self._space}"
