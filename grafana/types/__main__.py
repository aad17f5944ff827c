"""Type-checks each dashboard with tsc and @grafana/schema. The exit code is tsc's: 0 is correct."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from grafana.generate import DASHBOARDS
from grafana.replay.board import Json, panels

HERE = Path(__file__).parent
# The names in @grafana/schema of each type of panel, by the type in the JSON.
_PANELS = {
    "barchart": "BarChart",
    "heatmap": "Heatmap",
    "stat": "Stat",
    "state-timeline": "StateTimeline",
    "table": "Table",
    "text": "Text",
    "timeseries": "TimeSeries",
}
# These types of panels have no field options.
_WITHOUT_FIELDS = {"stat", "text"}
_SETTINGS = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "module": "esnext",
        "moduleResolution": "bundler",
        "skipLibCheck": True,
        "types": [],
    },
    "include": ["*.ts"],
}
# JSON has the text of an enumeration where TypeScript expects a member. The keys of a query, except
# refId, are defined by its data source.
_PLAIN = """
type Plain<T> = T extends string ? `${T}` : T extends number | boolean | null | undefined ? T
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Annotation = Omit<Plain<AnnotationQuery>, 'target'>
  & { target?: Plain<DataQuery> & Record<string, unknown> };
type Board = Omit<Plain<Dashboard>, 'annotations'> & { annotations: { list: Annotation[] } };
"""


def main() -> int:
    """Write the dashboards as TypeScript next to the packages, and run tsc."""
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".check-") as folder:
        Path(folder, "tsconfig.json").write_text(json.dumps(_SETTINGS))
        for path in sorted(DASHBOARDS.glob("*.json")):
            source = "\n".join(_source(json.loads(path.read_text())))
            Path(folder, f"{path.stem}.ts").write_text(source)
        tsc = HERE / "node_modules" / ".bin" / "tsc"
        return subprocess.run([tsc, "--project", folder], check=False).returncode  # noqa: S603


def _source(board: Json) -> Iterator[str]:
    """Yield the TypeScript lines: the whole dashboard, then the options of each panel's type."""
    yield "import type { AnnotationQuery, Dashboard, DataQuery } from '@grafana/schema';"
    shown = list(panels(board))
    for kind in sorted({panel["type"] for panel in shown}):
        name = _PANELS[kind]
        folder = f"@grafana/schema/dist/esm/raw/composable/{name.lower()}/panelcfg/x"
        yield f"import type * as {name} from '{folder}/{name}PanelCfg_types.gen';"
    yield _PLAIN
    yield f"export const board: Board = {json.dumps(board)};"
    for panel in shown:
        name = _PANELS[panel["type"]]
        at = panel["id"]
        options = json.dumps(panel["options"])
        yield f"export const options{at}: Partial<Plain<{name}.Options>> = {options};"
        if panel["type"] not in _WITHOUT_FIELDS:
            custom = json.dumps(_custom(panel))
            yield f"export const fields{at}: Partial<Plain<{name}.FieldConfig>> = {custom};"


def _custom(panel: Json) -> Json:
    """Return the panel's field options, merged with those of all overrides."""
    found = dict(panel["fieldConfig"]["defaults"].get("custom", {}))
    for override in panel["fieldConfig"]["overrides"]:
        for given in override["properties"]:
            if given["id"].startswith("custom."):
                found[given["id"].removeprefix("custom.")] = given["value"]
    return found


if __name__ == "__main__":
    sys.exit(main())
