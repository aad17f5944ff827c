"""The figures of a report: the columns of meter.tenant_report, and their formats."""

from typing import Literal, NamedTuple


class Figure(NamedTuple):
    """A column: its name in SQL, JSON and CSV, its short heading and its format.

    A terminal shows the figures in two tables, each as wide as a screen: `table` says in which.
    """

    name: str
    heading: str
    format: str
    table: Literal["usage", "sessions"] = "usage"


FIGURES = (
    Figure("participant_minutes", "participant\nminutes", ",.1f"),
    Figure("voice_minutes", "voice\nminutes", ",.1f"),
    Figure("video_minutes", "video\nminutes", ",.1f"),
    Figure("dialin_minutes", "dial-in\nminutes", ",.1f"),
    Figure("sessions", "sessions", ",d", "sessions"),
    Figure("session_minutes", "session\nminutes", ",.1f", "sessions"),
    Figure("avg_session_minutes", "avg\nlength", ",.1f", "sessions"),
    Figure("max_session_minutes", "max\nlength", ",.1f", "sessions"),
    Figure("avg_session_size", "avg\nsize", ",.1f", "sessions"),
    Figure("max_session_size", "max\nsize", ",d", "sessions"),
    Figure("large_sessions", "large", ",d", "sessions"),
    Figure("peak_participants", "peak\nparticipants", ",.1f"),
    Figure("peak_participants_at", "peak at", ""),
    Figure("peak_sessions", "peak\nsessions", ",.1f"),
    Figure("breakout_minutes", "breakout\nminutes", ",.1f"),
    Figure("coverage", "coverage", ".2%"),
    Figure("filled_share", "filled", ".2%"),
    Figure("moderator_minutes", "moderator\nminutes", ",.1f", "sessions"),
    Figure("empty_sessions", "empty", ",d", "sessions"),
)
