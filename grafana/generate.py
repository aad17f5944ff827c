"""Writes the dashboards and alert rules that Grafana loads: `make dashboards`.

With `--check` it writes nothing, but lists the files that differ from the code. The exit code is 1
if any differ.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from grafana import alerts
from grafana.boards import fleet, quality, room, rooms, session, tenant, tenants
from grafana.replay.board import panels

HERE = Path(__file__).parent
DASHBOARDS = HERE / "dashboards"
BOARDS = (fleet, tenants, tenant, rooms, room, session, quality)


def dashboards() -> Mapping[str, Dashboard]:
    """Return all dashboards by file name without the suffix."""
    return {module.__name__.rpartition(".")[2]: module.board() for module in BOARDS}


def files() -> dict[Path, str]:
    """Return the text of each generated file, by path."""
    made = {
        DASHBOARDS / f"{name}.json": json.dumps(_as_known(board), indent=2, ensure_ascii=False)
        + "\n"
        for name, board in dashboards().items()
    }
    made[HERE / "provisioning" / "alerting" / "bbbmeter.yaml"] = (
        "# Written by `make dashboards` from grafana/alerts.py. docs/runbooks says what to do.\n"
        + yaml.dump(alerts.provisioning(), sort_keys=False, width=100, Dumper=_Dumper)
    )
    return made


def _as_known(board: Dashboard) -> Any:  # noqa: ANN401 - JSON
    """Return a dashboard without the keys that the SDK writes and Grafana no longer knows."""
    made = json.loads(json.dumps(board, cls=JSONEncoder))
    for variable in made["templating"]["list"]:
        # Keys of variables of type interval. The dashboards have no such variable.
        for key in ("auto", "auto_min", "auto_count"):
            variable.pop(key, None)
    for panel in panels(made):
        if panel["type"] == "table":
            panel["options"].pop("footer", None)
    return made


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as YAML blocks, so that SQL stays readable."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def main() -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; list differences")
    check = parser.parse_args().check
    differ = False
    for path, text in files().items():
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        differ = True
        if check:
            name = path.relative_to(HERE.parent)
            sys.stderr.write(f"{name} differs from the code: run `make dashboards`\n")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(check and differ)


if __name__ == "__main__":
    sys.exit(main())
