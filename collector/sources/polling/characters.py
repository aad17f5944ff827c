"""Characters and marks of XML that need care."""

import re
from typing import AnyStr

# CDATA, comments, processing instructions.
CDATA = b"[CDATA["
# Characters that XML forbids, and lxml with it.
_FORBIDDEN = dict.fromkeys({*range(32), 0xFFFE, 0xFFFF} - set(b"\t\n\r"))
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def has(text: AnyStr, part: AnyStr) -> bool:
    """Say whether `text` has `part`."""
    # Searching for one character is many times faster than for several.
    return part[:1] in text and part in text


def allowed(text: str) -> str:
    """Return `text` without characters that XML forbids."""
    # Nearly all texts are printable and have no forbidden characters. This check is fast.
    return text if text.isprintable() else text.translate(_FORBIDDEN)
