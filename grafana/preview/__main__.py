"""Writes a page for each dashboard, drawn from the real results of its queries."""

import argparse
import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any

import asyncpg

from grafana import generate
from grafana.generate import DASHBOARDS
from grafana.replay import arrival, board
from grafana.replay.board import Json, Screen
from grafana.replay.frames import Frame
from grafana.replay.macros import TimeRange
from tests.bench.database import past
from tests.support.history import TIMEZONE, History

HERE = Path(__file__).parent
# The tenant whose dashboards are shown.
_TENANT = "law"
_UNITS = {"h": "hours", "d": "days"}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<link rel="stylesheet" href="page.css">
<script type="application/json" id="page">{data}</script>
<body><script src="preview.js"></script></body>
</html>
"""


async def pages(dsn: str) -> Mapping[str, Json]:
    """Return the data of each page: dashboard, frames, annotations, values of variables."""
    boards = {
        name: json.loads((DASHBOARDS / f"{name}.json").read_text())
        for name in generate.dashboards()
    }
    common = {
        "timezone": TIMEZONE,
        "pages": {made["uid"]: name for name, made in boards.items()},
        "titles": {name: made["title"] for name, made in boards.items()},
    }
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("SET ROLE bbbmeter_reader")
        session = await arrival.a_session(connection, _TENANT)
        return {
            name: common | await _page(connection, name, made, session)
            for name, made in boards.items()
        }
    finally:
        await connection.close()


async def _come_alive(dsn: str) -> None:
    """Store a heartbeat of the last collector, so that it counts as alive."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "UPDATE meter.collector SET until = now(), newest_stored_at = now() "
        "WHERE since = (SELECT max(c.since) FROM meter.collector AS c)"
    )
    await connection.close()


async def _page(
    connection: asyncpg.Connection, name: str, made: Json, session: Mapping[str, str]
) -> dict[str, Any]:
    screen = Screen(made, await _range(connection, made, session if name == "session" else {}))
    await screen.choose(connection, **arrival.given(name, session))
    frames = {
        panel["id"]: [_as_json(await board.run(connection, s)) for s in screen.statements(panel)]
        for panel in board.panels(made)
    }
    annotations = [a for a in made["annotations"]["list"] if "target" in a]
    return {
        "name": name,
        "board": made,
        "from": screen.shown.since.timestamp() * 1000,
        "to": screen.shown.until.timestamp() * 1000,
        "frames": frames,
        "annotations": [
            {
                "color": annotation["iconColor"],
                "events": _events(await board.run(connection, statement)),
            }
            for annotation, statement in zip(annotations, screen.annotations(), strict=True)
        ],
        "variables": [
            {"label": variable.get("label") or variable["name"], "value": _chosen(screen, variable)}
            for variable in made["templating"]["list"]
            if variable["type"] != "datasource"
        ],
    }


async def _range(
    connection: asyncpg.Connection, made: Json, session: Mapping[str, str]
) -> TimeRange:
    """Return the dashboard's default time range; for a session, the range that links to it set."""
    if session:
        (row,) = await connection.fetch(
            "SELECT started_at - interval '15 minutes', ended_at + interval '15 minutes' "
            "FROM meter.session_figures WHERE session_id = $1::text::bigint",
            session["session"],
        )
        return TimeRange(*row)
    until = datetime.now(UTC).replace(microsecond=0)
    ((number, unit),) = re.findall(r"^now-(\d+)([hd])$", made["time"]["from"])
    return TimeRange(until - timedelta(**{_UNITS[unit]: int(number)}), until)


def _as_json(frame: Frame) -> dict[str, Any]:
    return {"fields": [asdict(field) for field in frame.fields]}


def _events(frame: Frame) -> list[dict[str, Any]]:
    columns = {field.name: field.values for field in frame.fields}
    ends = columns.get("timeend") or [None] * frame.rows
    pairs = zip(columns.get("time", ()), ends, strict=True)
    return [{"time": time, "timeEnd": end} for time, end in pairs]


def _chosen(screen: Screen, variable: Json) -> str:
    value = screen.chosen[variable["name"]].value
    if isinstance(value, str):
        return value
    offered = screen.offered[variable["name"]]
    return "All" if len(value) == len(offered) else " + ".join(value)


def write(folder: Path, made: Mapping[str, Json]) -> None:
    """Write the pages, their script and their style sheet to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    esbuild = HERE / "node_modules" / ".bin" / "esbuild"
    subprocess.run(  # noqa: S603
        [
            *(esbuild, HERE / "js" / "main.mjs", "--bundle", "--minify", "--log-level=warning"),
            f"--outfile={folder / 'preview.js'}",
        ],
        check=True,
    )
    shutil.copy(HERE / "page.css", folder)
    for name, page in made.items():
        # "</" would end the script element.
        data = json.dumps(page).replace("</", "<\\/")
        title = escape(page["board"]["title"])
        (folder / f"{name}.html").write_text(_PAGE.format(title=title, data=data))


async def main(arguments: argparse.Namespace) -> int:
    """Create a database with a history, run all queries, write the pages."""
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    made = History(end, arguments.days, arguments.servers, arguments.sessions)
    async with past(made, arguments.keep) as (dsn, _):
        await _come_alive(dsn)
        write(arguments.folder, await pages(dsn))
    print(f"open {arguments.folder / 'fleet.html'} in a browser")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--days", type=int, default=35)
    parser.add_argument("--servers", type=int, default=6)
    parser.add_argument("--sessions", type=float, default=12, help="mean number of concurrent ones")
    parser.add_argument("--keep", help="keep the database under this name, and reuse it")
    sys.exit(asyncio.run(main(parser.parse_args())))
