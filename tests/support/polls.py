"""Meetings and poll results, as the parser and the poller give them."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from collector.model import Answer, Meeting, PollResult
from collector.simulator.plan import epoch_ms

START = datetime(2026, 2, 2, 8, tzinfo=UTC)


def meeting(room: str = "room", participants: int = 3, **changes: Any) -> Meeting:  # noqa: ANN401
    """Return a meeting with invented figures, created five minutes before START."""
    values: dict[str, Any] = {
        "internal_id": f"{room}-internal",
        "external_id": room,
        "created_ms": epoch_ms(START - timedelta(minutes=5)),
        "participants": participants,
        "voice": 2,
        "video": 1,
        "listeners": 1,
        "dialins": 1,
        "breakout": False,
        "parent_internal_id": None,
        "recording": True,
        "metadata": {},
        "name": "Analysis I",
        **changes,
    }
    return Meeting(**values)


def ok(
    at_s: int,
    *meetings: Meeting,
    skipped: int = 0,
    unread: Collection[str] = (),
    doubtful: Collection[str] = (),
    **changes: Any,  # noqa: ANN401
) -> PollResult:
    """Return a successful poll of bbb1, `at_s` seconds after START."""
    ts = START + timedelta(seconds=at_s)
    answer = Answer(meetings, max(skipped, len(unread)), frozenset(unread), frozenset(doubtful))
    return PollResult("bbb1", ts, ok=True, latency_ms=12, answer=answer, **changes)


def failed(at_s: int) -> PollResult:
    """Return a failed poll of bbb1, `at_s` seconds after START."""
    ts = START + timedelta(seconds=at_s)
    return PollResult("bbb1", ts, ok=False, latency_ms=9, outcome="timeout")


def breakout(room: str, participants: int, parent: str, **changes: Any) -> Meeting:  # noqa: ANN401
    """Return a meeting that names the room `parent` as its parent."""
    return meeting(
        room, participants, breakout=True, parent_internal_id=f"{parent}-internal", **changes
    )
