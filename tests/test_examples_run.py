"""Every lab of examples/ runs, holds what it expects, and does the same, byte for byte, each time."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.replay_kit import environment, netemu
from tests.support import REPO

LABS = sorted(
    path
    for path in (REPO / "examples").iterdir()
    if path.suffix == ".toml" or (path.suffix == ".py" and "async def main(lab" in path.read_text())
)


def run_lab(path: Path, folder: Path) -> dict[str, Any]:
    """What came of it, without what differs from run to run; the files of its captures in their place."""
    more = []
    if path.suffix == ".toml" and "capture" not in (scenario := tomllib.loads(path.read_text())):
        first = next(iter(scenario["guest"]))
        more = ["--set", f'capture=[{{ at = "{first}", file = "first.pcapng" }}]']
    run = netemu("run", path, "--out", folder, "--json", *more, env=environment(), timeout=600)
    assert run.stderr == b""
    outcome: dict[str, Any] = json.loads(run.stdout)
    assert outcome.pop("real_seconds") < 600
    outcome["captures"] = {Path(one["file"]).name: Path(one["file"]).read_bytes() for one in outcome["captures"]}
    assert (run.returncode, outcome["held"]) == (0, True)
    return outcome


@pytest.mark.parametrize("path", LABS, ids=lambda path: str(path.name))
def test_it_holds_and_repeats(path: Path, tmp_path: Path) -> None:
    first = run_lab(path, tmp_path / "1")
    assert first["expectations"]
    assert first["captures"]
    assert run_lab(path, tmp_path / "2") == first
