"""Shows the results of a verification, as a table or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from collector.verify.result import Result

_STYLES = {"ok": "green", "differs": "red", "failed": "red", "nothing": "yellow", "skipped": "dim"}


def as_table(results: Sequence[Result]) -> Group:
    """Return a table with a row for each check, and the first findings as sentences below it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("examined", justify="right", no_wrap=True)
    table.add_column("findings", justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    parts: list[RenderableType] = [table]
    for result in results:
        table.add_row(
            result.name,
            Text(result.status, _STYLES[result.status]),
            f"{result.examined:,}",
            f"{result.total:,}",
            # Text: an error can quote outside text, in which `[` would begin markup.
            Text(result.note),
        )
        for finding in result.findings:
            words = f"{finding.check}: {finding.what}: {finding.found}; expected {finding.expected}"
            parts.append(Text(words + (" (repairable)" if finding.repairable else "")))
        if result.total > len(result.findings):
            parts.append(Text(f"{result.name}: … {result.total - len(result.findings):,} more"))
    return Group(*parts)


def as_json(results: Sequence[Result]) -> str:
    """Return the checks as a JSON list of objects, each with its first findings."""
    return json.dumps(
        [
            {
                "check": result.name,
                "ok": result.ok,
                "status": result.status,
                "examined": result.examined,
                "total": result.total,
                "note": result.note,
                "findings": [
                    {key: value for key, value in asdict(finding).items() if key != "check"}
                    for finding in result.findings
                ],
            }
            for result in results
        ],
        indent=2,
        ensure_ascii=False,
    )
