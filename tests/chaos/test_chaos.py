"""A short run with many faults; `make chaos` is the long one."""

import asyncio
import json
import sys
from pathlib import Path

PATIENCE_S = 400.0  # ends a run that hangs


async def test_nothing_is_lost_doubled_or_bent(tmp_path: Path) -> None:
    """Kills, cuts and an outage leave each tick stored once, or missing for a known reason."""
    out = tmp_path / "run.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.chaos.run"),
        *("--seconds", "25", "--seed", "7", "--out", str(out)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, said.decode()
    figures = json.loads(out.read_text(encoding="utf-8"))
    assert figures["problems"] == []
    assert figures["injected"] == figures["survived"]
    assert {"kill", "away", "disk_full"} <= figures["injected"].keys()
    assert figures["account"]["outcomes"]["ok"] > 0
    assert figures["account"]["quarantined"] == 0
