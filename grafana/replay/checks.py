"""Checks that a panel's data fit the panel. Otherwise Grafana shows an error, or nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from grafana.replay.board import COLUMNS, Json
from grafana.replay.frames import Field, Frame, kind

_COLUMN_IN_LINK = re.compile(r'__data\.fields\["([^"]+)"\]')
# Panels that show series over time.
_SERIES = {"timeseries", "heatmap", "state-timeline"}
# Units of times, and units for values of any type. All other units are for numbers.
_TIME_UNITS = {"dateTimeAsIso", "dateTimeFromNow"}
_ANY_UNIT = {"none", "string"}


def board_faults(board: Json, panels: Sequence[Json]) -> Iterator[str]:
    """Yield the faults of a dashboard that do not depend on its data."""
    if board["schemaVersion"] != 42:  # noqa: PLR2004 - Grafana 13.2's
        yield f"schemaVersion is {board['schemaVersion']}, not 42"
    for key in ("uid", "title", "description", "tags", "refresh"):
        if not board.get(key):
            yield f"no {key}"
    ids = [panel["id"] for panel in panels]
    if len(set(ids)) != len(ids):
        yield "two panels have the same id"
    yield from _place_faults(panels)
    for panel in panels:
        for key in ("title", "description", "targets"):
            if not panel.get(key):
                yield f"panel {panel['id']} ({panel['title']}) has no {key}"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{panel['title']} has no unit"


def _place_faults(panels: Sequence[Json]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > COLUMNS:
            yield f"{panel['title']} is wider than the screen"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    yield f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]


def panel_faults(panel: Json, frames: Sequence[Frame]) -> Iterator[str]:
    """Yield the faults between a panel and the frames of its queries, in the queries' order."""
    columns = {name: kind(of) for frame in frames for name, of in frame.columns.items()}
    if panel["type"] in _SERIES:
        faults = _series_faults(panel, frames)
    elif panel["type"] == "table":
        faults = _table_faults(panel, columns)
    elif panel["type"] == "barchart":
        faults = _bar_faults(panel, columns)
    elif panel["type"] == "stat":
        faults = _stat_faults(panel, frames, columns)
    else:
        faults = iter([f"no rule for panels of type {panel['type']}"])
    yield from faults
    yield from _override_faults(panel, columns)
    yield from _unit_faults(panel, columns)


def annotation_faults(frame: Frame) -> Iterator[str]:
    """Yield the faults of an annotation's frame."""
    kinds = {name: kind(of) for name, of in frame.columns.items()}
    for name, wanted in (("time", "time"), ("text", "string")):
        if kinds.get(name) != wanted:
            yield f"{name} is {kinds.get(name)}, not {wanted}"
    if kinds.get("timeend", "time") != "time":
        yield "timeend is not a time"
    for field in frame.fields:
        if field.name in {"time", "text"} and None in field.values:
            yield f"{field.name} is null in a row"


def _series_faults(panel: Json, frames: Sequence[Frame]) -> Iterator[str]:
    for frame in frames:
        if kind(frame.columns.get("time", "")) != "time":
            yield "no time"
        if not any(kind(of) == "number" for of in frame.columns.values()):
            yield "no number"
        if not frame.fields:
            continue
        series = frame.fields[1:]
        if frame.fields[0].type != "time" or not series:
            yield "no series"
        if wrong := [field.name for field in series if field.type != "number"]:
            yield f"series that are not numbers: {wrong}"
        if len({field.display for field in series}) != len(series):
            yield "two series have the same name"
        if panel["type"] == "heatmap":
            yield from _bucket_faults(series)
        if any(a >= b for a, b in zip(_times(frame), _times(frame)[1:], strict=False)):
            yield "times do not rise"


def _bucket_faults(series: Sequence[Field]) -> Iterator[str]:
    for field in series:
        if not field.display.isdecimal():
            yield f"a bucket's name is not a number: {field.display}"


def _times(frame: Frame) -> list[float]:
    return frame.fields[0].values


def _table_faults(panel: Json, columns: Mapping[str, str]) -> Iterator[str]:
    for sorting in panel["options"].get("sortBy") or ():
        if sorting["displayName"] not in columns:
            yield f"sorted by {sorting['displayName']}, which is not a column"
    for name, link in _links(panel):
        for column in _COLUMN_IN_LINK.findall(link["url"]):
            if column not in columns:
                yield f"the link of {name} needs {column}, which is not a column"


def _bar_faults(panel: Json, columns: Mapping[str, str]) -> Iterator[str]:
    if columns.get(panel["options"]["xField"]) not in {"string", "time"}:
        yield f"x is {panel['options']['xField']}, which is neither a text nor a time"
    if "number" not in columns.values():
        yield "no number"


def _stat_faults(panel: Json, frames: Sequence[Frame], columns: Mapping[str, str]) -> Iterator[str]:
    if any(frame.rows > 1 for frame in frames):
        yield "more than one row for one figure"
    wanted = {"number"} if not panel["options"]["reduceOptions"]["fields"] else {"string", "time"}
    if len(columns) != 1 or not wanted & set(columns.values()):
        yield f"expected one column of {wanted}, not {columns}"


def _override_faults(panel: Json, columns: Mapping[str, str]) -> Iterator[str]:
    # If a text column names the series, the series' names are data.
    are_data = panel["type"] in _SERIES and "string" in columns.values()
    for override in panel["fieldConfig"]["overrides"]:
        name = override["matcher"]["options"]
        if override["matcher"]["id"] != "byName":
            yield f"an override by {override['matcher']['id']}"
        elif name not in columns and not are_data:
            yield f"an override of {name}, which is not a column"


def _unit_faults(panel: Json, columns: Mapping[str, str]) -> Iterator[str]:
    own = {
        override["matcher"]["options"]: given["value"]
        for override in panel["fieldConfig"]["overrides"]
        for given in override["properties"]
        if given["id"] == "unit"
    }
    default = panel["fieldConfig"]["defaults"].get("unit", "")
    for name, of in columns.items():
        if name == "time" and panel["type"] in _SERIES:
            continue
        unit = own.get(name, default)
        if of == "time" and unit not in _TIME_UNITS:
            yield f"{name} is a time in {unit}"
        # Grafana ignores the unit of a text. So only a unit in the text's own override is a fault.
        if of == "string" and unit not in _ANY_UNIT and name in own:
            yield f"{name} is a text in {unit}"
        if of == "number" and unit in _TIME_UNITS:
            yield f"{name} is a number in {unit}"


def _links(panel: Json) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for override in panel["fieldConfig"]["overrides"]:
        for given in override["properties"]:
            if given["id"] == "links":
                for link in given["value"]:
                    yield override["matcher"]["options"], link
