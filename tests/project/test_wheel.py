"""The wheel, built and installed into a virtual environment without the checkout."""

import asyncio
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import asyncpg
import pytest

from collector import __version__
from tests.support.repository import ROOT

TIMEOUT_S = 120


def run(*command: str | Path, cwd: Path) -> str:
    """Run `command` in the folder `cwd` and return its output; a failure shows all of it."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the path of the wheel, built as `make build` does."""
    return build(tmp_path_factory.mktemp("dist"))


def build(folder: Path) -> Path:
    """Build the wheel into `folder`."""
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of programs of an environment that the wheel is installed into.

    The dependencies are those of the environment that runs the tests, found through a path
    file, so that nothing is downloaded. An editable installation's own path file has no effect
    there: `collector` can come from the wheel alone.
    """
    folder = tmp_path_factory.mktemp("wheel") / "venv"
    venv.create(folder, symlinks=True)
    (site_packages,) = folder.glob("lib/python3*/site-packages")
    dependencies = next(path for path in sys.path if path.endswith("site-packages"))
    (site_packages / "dependencies.pth").write_text(f"{dependencies}\n")
    # The pip of the running environment, put to work on the new one.
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python"]
    run(*pip, "install", "--no-index", "--no-deps", "--quiet", wheel, cwd=folder)
    return folder / "bin"


def test_the_wheel_holds_all_sql_and_the_example(wheel: Path) -> None:
    """What the program reads at run time travels in the package."""
    names = set(zipfile.ZipFile(wheel).namelist())
    sql = {
        f"collector/_schema/{p.relative_to(ROOT / 'schema')}" for p in ROOT.glob("schema/**/*.sql")
    }
    engine = {
        f"collector/_embedded/{path.name}"
        for path in (ROOT / "embedded").iterdir()
        if path.suffix in {".mjs", ".json"}
    }
    assert sql
    assert engine
    assert sql | engine | {"collector/settings/example.toml", "collector/__main__.py"} <= names


def test_the_wheel_holds_nothing_else_of_the_checkout(wheel: Path) -> None:
    """Only the package and its metadata: no tests, no data, no settings."""
    names = zipfile.ZipFile(wheel).namelist()
    roots = {name.partition("/")[0] for name in names}
    assert roots == {"collector", f"bbbmeter-{__version__}.dist-info"}
    assert {Path(name).suffix for name in names if name.startswith("collector/")} <= {
        ".py",
        ".sql",
        ".toml",
        ".md",
        ".typed",
        ".mjs",
        ".json",
    }


def test_the_wheel_holds_its_sbom(wheel: Path) -> None:
    """Where PEP 770 puts it, so that scanners find it."""
    with zipfile.ZipFile(wheel) as archive:
        name = f"bbbmeter-{__version__}.dist-info/sboms/sbom.cdx.json"
        assert json.loads(archive.read(name))["bomFormat"] == "CycloneDX"


def test_the_same_files_give_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    """Byte for byte, so that anybody can check it."""
    assert build(tmp_path).read_bytes() == wheel.read_bytes()


def test_the_installed_program_runs_without_the_checkout(programs: Path, tmp_path: Path) -> None:
    """It finds its code in its own environment, says its version, and writes the example."""
    code = "import collector; print(collector.__file__)"
    found = Path(run(programs / "python", "-c", code, cwd=tmp_path).strip())
    assert found.is_relative_to(programs.parent)
    assert __version__ in run(programs / "bbbmeter", "--version", cwd=tmp_path)
    run(programs / "bbbmeter", "init", cwd=tmp_path)
    assert (tmp_path / "bbbmeter.toml").stat().st_size > 0


async def test_the_installed_program_makes_and_reads_a_database(
    programs: Path, tmp_path: Path, empty_dsn: str
) -> None:
    """Its `migrate` applies the SQL of the package, as it was built, and `report` finds it."""
    code = "from collector.database.migrate import schema_dir; print(schema_dir())"
    folder = Path(run(programs / "python", "-c", code, cwd=tmp_path).strip())
    assert folder.is_relative_to(programs.parent)
    (tmp_path / "bbbmeter.toml").write_text(f'database = "{empty_dsn}"\n', encoding="utf-8")

    async def bbbmeter(*arguments: str) -> str:
        return await asyncio.to_thread(run, programs / "bbbmeter", *arguments, cwd=tmp_path)

    files = sorted(path.name for path in (folder / "migrations").glob("*.sql"))
    assert files
    assert f"applied {', '.join(files)}\n" in await bbbmeter("migrate")
    connection = await asyncpg.connect(empty_dsn)
    rows = await connection.fetch("SELECT name FROM meter.migration ORDER BY name")
    await connection.close()
    assert [row["name"] for row in rows] == files
    assert "up to date" in await bbbmeter("migrate")
    assert json.loads(await bbbmeter("report", "--format", "json")) == []


def test_the_installed_engine_fetches_its_packages(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, by the lock file, into the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = (
        "import asyncio\n"
        "from collector.database.engine import MEMORY, EmbeddedEngine\n"
        "from collector.database.packages import engine_folder\n"
        "async def main():\n"
        "    async with EmbeddedEngine(MEMORY) as engine:\n"
        "        print(engine_folder(), engine.pid > 0)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(2):
        folder, runs = run(programs / "python", "-c", code, cwd=tmp_path).split()[-2:]
        assert runs == "True"
        assert Path(folder).parent == tmp_path / "bbbmeter"
        assert [str(path) for path in Path(folder).parent.iterdir()] == [folder]
