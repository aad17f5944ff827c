"""The events in a session: who joins and leaves when, voice, webcams, and breakout rooms."""

import hashlib
import random
from dataclasses import dataclass, replace
from typing import NamedTuple

from collector.simulator import marks
from collector.simulator.people import Person, invent, invent_caller
from collector.simulator.plan import FleetPlan
from collector.simulator.schedule import Session

_EARLY_SHARE = 0.85  # of all persons, who arrive around the beginning
_STAYING_SHARE = 0.7  # of all persons, who stay until the end
_REJOIN_SHARE = 0.06  # of all persons, who leave and join again
_LINGER_SHARE = 0.5  # of the persons who leave, who are still listed for some time
_LINGER_MS = 60_000  # the longest such time
_BREAKOUT_SHARE = 0.9  # of the persons present, who go into their breakout room
_SECOND_STREAM_SHARE = 0.03  # of the persons with a webcam, who share a second stream


class Span(NamedTuple):
    """From `start_ms` until just before `end_ms` (epoch ms)."""

    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Stay:
    """A person's stay, from joining to leaving. Times are in epoch ms.

    The person counts as participant until `left_ms`. As in BBB, the person is listed as attendee
    until `gone_ms`, with voice and webcams. Each span of `video` is one stream.
    """

    person: Person
    join_ms: int
    left_ms: int
    gone_ms: int
    voice: tuple[Span, ...] = ()
    listening: tuple[Span, ...] = ()
    video: tuple[Span, ...] = ()

    @property
    def present(self) -> Span:
        """The span in which the person counts as participant."""
        return Span(self.join_ms, self.left_ms)

    @property
    def dialin(self) -> bool:
        """Whether the person is on the telephone."""
        return self.person.role == "DIAL-IN-USER"


@dataclass(frozen=True, slots=True)
class Meeting:
    """A main or breakout session as its server lists it, while start_ms <= t < end_ms (epoch ms).

    `sequence` is 0 for a main session. `room` is the tenant's own id of the room. A breakout has
    the room of its parent.
    """

    tenant: str
    server: str
    old: bool
    room: str
    name: str
    external_id: str
    start_ms: int
    end_ms: int
    metadata: dict[str, str]
    stays: tuple[Stay, ...]
    voice_bridge: int
    duration_min: int = 0
    max_users: int = 0
    recording: bool = False
    sequence: int = 0
    parent_internal_id: str = ""
    breakouts: tuple["Meeting", ...] = ()

    @property
    def internal_id(self) -> str:
        """BBB's internalMeetingID."""
        return f"{_sha1(self.external_id)}-{self.start_ms}"


def meetings_of(plan: FleetPlan, session: Session) -> list[Meeting]:
    """Return the meeting of a session, and its breakouts after it."""
    rng = random.Random(f"session/{plan.seed}/{session.number}")
    tenant = plan.tenants[session.tenant]
    server = plan.server_names[session.server]
    room = marks.room_id(tenant, session.room)
    name = marks.room_name(tenant, session.room)
    stays = _stays(rng, plan, session)
    main = Meeting(
        tenant=tenant.name,
        server=server,
        old=plan.is_old(session.server),
        room=room,
        name=name,
        external_id=marks.external_id(tenant, room),
        start_ms=session.start_ms,
        end_ms=session.end_ms,
        metadata=marks.metadata(tenant, room, name, server, session.size, rng),
        stays=tuple(stays),
        voice_bridge=rng.randint(10_000, 99_999),
        duration_min=rng.choice((0, 0, 0, 90, 240)),
        max_users=rng.choice((0, 0, 25, 1500)),
        recording=rng.choice((True, False, False, False)),
    )
    if session.breakouts is None:
        return [main]
    rooms: list[list[Stay]] = [[] for _ in range(session.breakouts.rooms)]
    window = Span(session.breakouts.start_ms, session.breakouts.end_ms)
    for number, stay in enumerate(stays):
        sequence = number % len(rooms) + 1
        inside = _in_breakout(rng, stay, window, sequence)
        if inside is not None:
            rooms[sequence - 1].append(inside)
            stays[number] = replace(
                stay,
                voice=_without(stay.voice, inside.present),
                listening=_without(stay.listening, inside.present),
                video=_without(stay.video, inside.present),
            )
    breakouts = tuple(
        _breakout(main, window, sequence, inside) for sequence, inside in enumerate(rooms, start=1)
    )
    return [replace(main, stays=tuple(stays), breakouts=breakouts), *breakouts]


def _stays(rng: random.Random, plan: FleetPlan, session: Session) -> list[Stay]:
    """Return the stays of a main session in the order of joining."""
    if not session.size:
        return []
    length_ms = session.last_left_ms - session.start_ms
    first_ms = session.start_ms + min(int(rng.uniform(300, 20_000)), length_ms // 10)
    old = plan.is_old(session.server)
    stays: list[Stay] = []
    for number in range(session.size):
        person = invent(rng, host=number == 0)
        join_ms, left_ms = first_ms, session.last_left_ms
        if number:
            join_ms, left_ms = _from_until(rng, first_ms, session)
        stays.append(_stay(rng, plan, session, person, Span(join_ms, left_ms), old=old))
        away_ms = int(rng.uniform(0.01, 0.1) * length_ms)
        if left_ms + away_ms < session.last_left_ms and rng.random() < _REJOIN_SHARE:
            again = Span(left_ms + away_ms, session.last_left_ms)
            stays.append(_stay(rng, plan, session, person, again, old=old))
    if rng.random() < plan.dialin_share:
        for _ in range(rng.randint(1, 3)):
            called = Span(*_from_until(rng, first_ms, session))
            stays.append(Stay(invent_caller(rng), *called, called.end_ms, voice=(called,)))
    return sorted(stays, key=lambda stay: stay.join_ms)


def _from_until(rng: random.Random, first_ms: int, session: Session) -> tuple[int, int]:
    """Return when a person joins and leaves (epoch ms).

    Most persons join around the beginning, and most leave together at the end.
    """
    last_ms = session.last_left_ms
    length_ms = last_ms - first_ms
    if rng.random() < _EARLY_SHARE:
        join_ms = first_ms + int(min(abs(rng.gauss(0.04, 0.04)), 0.5) * length_ms)
    else:
        join_ms = first_ms + int(rng.uniform(0, 0.8) * length_ms)
    if rng.random() >= _STAYING_SHARE:
        return join_ms, rng.randint(join_ms + 1, last_ms)
    if last_ms == session.end_ms:  # the moderator ends the meeting for all
        return join_ms, last_ms
    return join_ms, max(join_ms + 1, last_ms - int(rng.expovariate(1 / (0.015 * length_ms))))


def _stay(
    rng: random.Random,
    plan: FleetPlan,
    session: Session,
    person: Person,
    present: Span,
    *,
    old: bool,
) -> Stay:
    """Return a stay with its voice and webcams. BBB 3 counts listeners as voice."""
    gone_ms = present.end_ms
    if session.end_ms > session.last_left_ms and rng.random() < _LINGER_SHARE:
        most_ms = min(_LINGER_MS, session.end_ms - session.last_left_ms)
        gone_ms += rng.randint(1, most_ms)
    patience_ms = (present.end_ms - present.start_ms) // 10
    connected_ms = present.start_ms + min(rng.randint(2000, 15_000), patience_ms)
    heard: tuple[Span, ...] = (Span(connected_ms, gone_ms),)
    audio = rng.random()
    speaks = audio < plan.voice_share
    listens = not speaks and audio < plan.voice_share + plan.listener_share
    return Stay(
        person=person,
        join_ms=present.start_ms,
        left_ms=present.end_ms,
        gone_ms=gone_ms,
        voice=heard if speaks or (listens and not old) else (),
        listening=heard if listens and old else (),
        video=_video(rng, plan, Span(connected_ms, gone_ms)),
    )


def _video(rng: random.Random, plan: FleetPlan, possible: Span) -> tuple[Span, ...]:
    """Return the webcam streams of a stay: usually none, sometimes one, rarely two at once."""
    if rng.random() >= plan.webcam_share:
        return ()
    start_ms = rng.randint(*possible)
    stopped_ms = rng.randint(start_ms, possible.end_ms)
    stream = Span(start_ms, rng.choice((stopped_ms, possible.end_ms, possible.end_ms)))
    if rng.random() < _SECOND_STREAM_SHARE:
        return stream, Span(rng.randint(*stream), stream.end_ms)
    return (stream,)


def _in_breakout(rng: random.Random, stay: Stay, window: Span, sequence: int) -> Stay | None:
    """Return the stay of a person in a breakout room, None if the person does not go there.

    Voice and webcam move with the person. The person also stays in the parent all the time.
    """
    hesitation_ms = rng.randint(500, max(501, (window.end_ms - window.start_ms) // 15))
    inside = Span(window.start_ms + hesitation_ms, min(stay.left_ms, window.end_ms))
    absent = stay.join_ms > inside.start_ms or inside.start_ms >= inside.end_ms
    if stay.dialin or absent or rng.random() >= _BREAKOUT_SHARE:
        return None
    return Stay(
        person=replace(stay.person, user_id=f"{stay.person.user_id}-{sequence}"),
        join_ms=inside.start_ms,
        left_ms=inside.end_ms,
        gone_ms=inside.end_ms,
        voice=_within(stay.voice, inside),
        listening=_within(stay.listening, inside),
        video=_within(stay.video, inside),
    )


def _breakout(main: Meeting, window: Span, sequence: int, stays: list[Stay]) -> Meeting:
    """Return a breakout room of `main`. It inherits the same properties as in BBB."""
    start_ms = window.start_ms + 20 * sequence
    return Meeting(
        tenant=main.tenant,
        server=main.server,
        old=main.old,
        room=main.room,
        name=f"Room {sequence}",
        external_id=f"{_sha1(f'{main.internal_id}/{sequence}')}-{start_ms}",
        start_ms=start_ms,
        end_ms=window.end_ms,
        metadata=main.metadata,
        stays=tuple(sorted(stays, key=lambda stay: stay.join_ms)),
        voice_bridge=main.voice_bridge * 10 + sequence,
        duration_min=-(-(window.end_ms - window.start_ms) // 60_000),
        sequence=sequence,
        parent_internal_id=main.internal_id,
    )


def _within(spans: tuple[Span, ...], limits: Span) -> tuple[Span, ...]:
    """Return the parts of `spans` inside `limits`."""
    cut = (Span(max(s.start_ms, limits.start_ms), min(s.end_ms, limits.end_ms)) for s in spans)
    return tuple(span for span in cut if span.start_ms < span.end_ms)


def _without(spans: tuple[Span, ...], limits: Span) -> tuple[Span, ...]:
    """Return the parts of `spans` outside `limits`."""
    before = _within(spans, Span(0, limits.start_ms))
    return before + _within(spans, Span(limits.end_ms, max((s.end_ms for s in spans), default=0)))


def _sha1(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
