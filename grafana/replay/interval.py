"""The interval that Grafana chooses for a panel, and durations in Grafana's notation."""

import re
from datetime import timedelta

# Pairs in milliseconds: an interval below the first number is rounded to the second one.
_ROUNDED = (
    *((10, 1), (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500)),
    *((1_500, 1_000), (3_500, 2_000), (7_500, 5_000), (12_500, 10_000), (17_500, 15_000)),
    *((25_000, 20_000), (45_000, 30_000), (90_000, 60_000)),
    *((210_000, 120_000), (450_000, 300_000), (750_000, 600_000), (1_050_000, 900_000)),
    *((1_500_000, 1_200_000), (2_700_000, 1_800_000), (5_400_000, 3_600_000)),
    *((9_000_000, 7_200_000), (16_200_000, 10_800_000), (32_400_000, 21_600_000)),
    *((86_400_000, 43_200_000), (604_800_000, 86_400_000), (1_814_400_000, 604_800_000)),
    (3_628_800_000, 2_592_000_000),
)
_YEAR = 31_536_000_000
_UNITS = (
    *((_YEAR, "y"), (604_800_000, "w"), (86_400_000, "d"), (3_600_000, "h")),
    *((60_000, "m"), (1_000, "s"), (1, "ms")),
)
_DURATION = re.compile(r"(\d+)(y|w|d|h|m|s|ms)")


def interval_ms(span: timedelta, max_data_points: int, minimum: str = "1m") -> int:
    """Return the interval in milliseconds of a panel that shows `max_data_points` over `span`."""
    least = milliseconds(minimum)
    wanted = span / timedelta(milliseconds=1) / max_data_points
    rounded = next((result for below, result in _ROUNDED if wanted < below), _YEAR)
    return max(rounded, least)


def text(milliseconds_: int) -> str:
    """Return a duration as `$__interval` writes it: in the largest unit that fits into it."""
    size, unit = next((size, unit) for size, unit in _UNITS if milliseconds_ >= size)
    return f"{milliseconds_ // size}{unit}"


def milliseconds(duration: str) -> int:
    """Return a duration such as `1m` in milliseconds. Raises ValueError for any other text."""
    match = _DURATION.fullmatch(duration)
    if match is None:
        message = f"{duration!r} is not a valid duration; expected a text such as 1m"
        raise ValueError(message)
    size = next(size for size, unit in _UNITS if unit == match[2])
    return int(match[1]) * size
