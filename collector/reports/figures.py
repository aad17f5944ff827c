"""The figures of a report: the columns of meter.tenant_report, and their formats."""

from typing import NamedTuple


class Figure(NamedTuple):
    """A column: its name in SQL, JSON and CSV, and its heading and format in a table."""

    name: str
    heading: str
    format: str


FIGURES = (
    Figure("participant_minutes", "participant\nminutes", ",.1f"),
    Figure("voice_minutes", "voice\nminutes", ",.1f"),
    Figure("video_minutes", "video\nminutes", ",.1f"),
    Figure("dialin_minutes", "dial-in\nminutes", ",.1f"),
    Figure("sessions", "sessions", ",d"),
    Figure("session_minutes", "session\nminutes", ",.1f"),
    Figure("avg_session_minutes", "avg\nlength", ",.1f"),
    Figure("max_session_minutes", "max\nlength", ",.1f"),
    Figure("avg_session_size", "avg\nsize", ",.1f"),
    Figure("max_session_size", "max\nsize", ",d"),
    Figure("large_sessions", "large", ",d"),
    Figure("peak_participants", "peak\nparticipants", ",.1f"),
    Figure("peak_participants_at", "peak at", ""),
    Figure("peak_sessions", "peak\nsessions", ",.1f"),
    Figure("breakout_minutes", "breakout\nminutes", ",.1f"),
    Figure("coverage", "coverage", ".2%"),
    Figure("filled_share", "filled", ".2%"),
)
