"""Every lab of examples/ holds what it expects, does the same each time, and its captures are in order for tshark.

All run within this process, through the command's own code, since what they compile is then loaded once.
"""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netemu.cli.run import run
from tests.support import REPO, needs

LABS = sorted(
    path
    for path in (REPO / "examples").iterdir()
    if path.suffix == ".toml" or (path.suffix == ".py" and "async def main(lab" in path.read_text())
)
INTENDED = {
    # One bit of a frame is wrong: its checksum, and perhaps what tshark makes of the field it is in.
    "checksum-noisy.pcapng": r"Bad checksum.*|.*(malformed|Malformed|invalid|Invalid|bogus|Bogus).*",
}
"""Errors that a capture is meant to show."""


@dataclass
class Told:
    """What came of a run, without what differs from one to the next, and its captures by name."""

    outcome: dict[str, Any]
    files: dict[str, Path]


def run_lab(path: Path, folder: Path) -> Told:
    done = CliRunner().invoke(run, [str(path), "--out", str(folder), "--json"], catch_exceptions=False)
    outcome: dict[str, Any] = json.loads(done.stdout)
    failed = [one["text"] for one in outcome["expectations"] if not one["held"]]
    assert (done.exit_code, failed, outcome["error"], outcome["held"]) == (0, [], None, True)
    assert outcome.pop("real_seconds") < 600
    files = {Path(one["file"]).name: Path(one.pop("file")) for one in outcome["captures"]}
    return Told(outcome, files)


def on_a_wire(told: Told, name: str) -> bool:
    """Whether a capture is of a link, where all checksums are finished, and not of a guest."""
    at = {file: one["at"] for file, one in zip(told.files, told.outcome["captures"], strict=True)}[name]
    return at.removeprefix("link.") in told.outcome["links"]


def complaints(path: Path, *, checksums: bool) -> list[str]:
    """tshark's expert messages of a capture: all errors, and warnings of what is malformed."""
    look = str(checksums).upper()
    preferences = [f"{layer}.check_checksum:{look}" for layer in ("ip", "tcp", "udp")]
    run = subprocess.run(
        ["tshark", "-n", "-r", path, *(part for one in preferences for part in ("-o", one)),
         "-Y", "_ws.expert.severity == error || _ws.malformed", "-T", "fields", "-E", "occurrence=a",
         "-E", "aggregator=;", "-e", "frame.number", "-e", "_ws.expert.severity", "-e", "_ws.expert.message"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return run.stdout.splitlines()


@pytest.fixture(scope="module", params=LABS, ids=lambda path: str(path.name))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Told]:
    """An example, and what came of it."""
    path: Path = request.param
    return path, run_lab(path, tmp_path_factory.mktemp("lab"))


def test_it_holds_and_repeats(lab: tuple[Path, Told], tmp_path: Path) -> None:
    path, first = lab
    assert first.outcome["title"]
    assert first.outcome["expectations"]
    assert first.files
    second = run_lab(path, tmp_path)
    assert second.outcome == first.outcome
    assert second.files.keys() == first.files.keys()
    for name, file in first.files.items():
        assert second.files[name].read_bytes() == file.read_bytes(), name


@needs("tshark")
def test_its_captures_have_no_errors_but_those_it_intends(lab: tuple[Path, Told]) -> None:
    _, told = lab
    for name, file in told.files.items():
        found = complaints(file, checksums=on_a_wire(told, name))
        if name not in INTENDED:
            assert found == [], name
        else:
            assert found, f"{name} was meant to have some"
            messages = [line.split("\t")[2] for line in found]
            assert all(re.fullmatch(f"({INTENDED[name]})(;.*)?", message) for message in messages), messages


@needs("tshark")
def test_a_guests_capture_is_where_checksums_are_unfinished(tmp_path: Path) -> None:
    """The example's own point, told by tshark and not by netemu: wrong in the guest, right on the wire."""
    told = run_lab(REPO / "examples" / "checksum-offload.toml", tmp_path)
    assert not on_a_wire(told, "checksum-guest.pcapng")
    assert on_a_wire(told, "checksum-wire.pcapng")
    assert len(complaints(told.files["checksum-guest.pcapng"], checksums=True)) > 10


def test_every_intended_error_is_of_a_capture_that_there_is() -> None:
    written = "".join(path.read_text() for path in LABS)
    assert all(f'"{name}"' in written for name in INTENDED)
