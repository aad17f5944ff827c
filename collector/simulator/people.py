"""Invented people: their names, some of them difficult to parse, and their custom data."""

import random
from dataclasses import dataclass
from typing import Literal

Role = Literal["MODERATOR", "VIEWER", "DIAL-IN-USER"]

_FIRST, _LAST = (
    names.split()
    for names in (
        "Ada Änne Björn Dörte Emil Fjodor Håkon Inés Jürgen Käthe Łukasz Noël Özlem Søren Zoë",
        "Ahrens Bäcker Çelebi Đorđević Eßer Groß Høst Ibáñez Kovács Müller Nuñez Ölmez Råberg Weiß",
    )
)
_AWKWARD = (
    "<b>Max</b> Power",
    "O'Neil & Sons",
    'Kim "the cat" Lee',
    "Ada 🐝 Bee",
    "a < b && b > c",
    "李小龙",
    "  spaced   out  ",
    "]]> CDATA",
)
_AWKWARD_SHARE = 0.05
_CUSTOM = (
    ("bbb_custom_style", "a:focus{color:#0181eb} b>i{}"),
    ("bbb_auto_join_audio", "true"),
    ("matrikel", '"12&34"'),
)
_CUSTOM_SHARE = 0.1
_MODERATOR_SHARE = 0.05
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Person:
    """A person in a meeting. `customdata` is the name and value of one element, or None."""

    user_id: str
    name: str
    role: Role
    presenter: bool = False
    customdata: tuple[str, str] | None = None


def invent(rng: random.Random, *, host: bool) -> Person:
    """Return a new person. The host is moderator and presenter."""
    name = f"{rng.choice(_FIRST)} {rng.choice(_LAST)}"
    if rng.random() < _AWKWARD_SHARE:
        name = rng.choice(_AWKWARD)
    return Person(
        user_id=f"w_{''.join(rng.choices(_ALPHABET, k=12))}",
        name=name,
        role="MODERATOR" if host or rng.random() < _MODERATOR_SHARE else "VIEWER",
        presenter=host,
        customdata=rng.choice(_CUSTOM) if rng.random() < _CUSTOM_SHARE else None,
    )


def invent_caller(rng: random.Random) -> Person:
    """Return a person on the telephone. BBB uses the telephone number as the name."""
    return Person(
        user_id=f"v_{''.join(rng.choices(_ALPHABET, k=12))}",
        name=f"4930{rng.randrange(10**7):07}",
        role="DIAL-IN-USER",
    )
