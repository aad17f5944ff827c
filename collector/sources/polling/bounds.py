"""The largest numbers that an answer may contain. An answer beyond them is a server's own trouble.

A server's word for its counts is stored as it is. These bounds keep one server's false word from
stopping the rollups of all servers. `meter.server_1h` multiplies each total of a poll by the poll's
seconds (60 at most) in 32 bits, and 2^31 is 35 million for a minute. No real server comes near: a
large load balancer has some ten thousand participants.
"""

from operator import itemgetter

from collector.errors import ImplausibleError
from collector.model import ALL_COUNTS, COUNTS, MAX_COUNT, Answer, Meeting

# The largest sum of each count over all meetings of one answer, breakout rooms too.
MAX_TOTAL = 1_000_000
# The largest number of meetings in one answer, unreadable ones too.
MAX_MEETINGS = 100_000

_COUNTS = [(name, itemgetter(Meeting._fields.index(name))) for name in ALL_COUNTS]


def check_totals(answer: Answer) -> None:
    """Raise ImplausibleError if `answer` has more meetings or larger totals than the bounds."""
    meetings = answer.meetings
    if len(meetings) + answer.skipped > MAX_MEETINGS:
        msg = f"the answer has more than {MAX_MEETINGS} meetings"
        raise ImplausibleError(msg)
    if len(meetings) * MAX_COUNT <= MAX_TOTAL:
        return
    for name, count in _COUNTS:
        counts = map(count, meetings)
        # A later count is None where it is not known.
        if sum(counts if name in COUNTS else filter(None, counts)) > MAX_TOTAL:
            msg = f"the {name} of all meetings together are more than {MAX_TOTAL}"
            raise ImplausibleError(msg)
