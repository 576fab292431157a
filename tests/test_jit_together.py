"""Entry points compiled side by side: who compiles what, and what happens when a helper does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPO

PROGRAM = """
import os
import sys
import time
from netemu.capture.pcap import parse_pcap
from netemu.capture.pcapng import parse_pcapng
from netemu.driver.refill import virtnet_open
from netemu.jit import cache, compiled, load_together, loader, together
helper, processors, others = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if helper == "broken helper":
    together._PROGRAM = "raise SystemExit(1)"
here = []
original = compiled.compile_entry
def compile_entry(entry):
    here.append(entry.py_func.__name__)
    code = original(entry)
    while len([*cache.folder().glob("*.o")]) < others:  # helpers are slow where the machine has much to do
        time.sleep(0.01)
    return code
compiled.compile_entry = compile_entry
os.cpu_count = lambda: processors
load_together(parse_pcap, parse_pcapng, len, virtnet_open)
assert parse_pcap.address and parse_pcapng.address and virtnet_open.address
print(*here)
"""


def start(cache: Path, helper: str, processors: int, others: int = 0) -> subprocess.Popen[str]:
    """Load three entry points in a fresh process, which goes on after its first when ``others`` are kept."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, helper, str(processors), str(others)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"NETEMU_CACHE_DIR": str(cache), "PYTHONPATH": str(REPO)},
        cwd=REPO,
    )


def compiled_by(process: subprocess.Popen[str]) -> list[str]:
    """Which of them that process compiled itself."""
    told, errors = process.communicate()
    assert process.returncode == 0, errors
    return told.split()


@pytest.mark.parametrize("processors", [2, 3, 8])
def test_the_first_is_compiled_here_the_others_by_helpers_and_none_again(processors: int, tmp_path: Path) -> None:
    assert compiled_by(start(tmp_path, "helper", processors, others=2)) == ["parse_pcap"]
    assert len([*tmp_path.glob("kernels-*/*.o")]) == 3
    assert compiled_by(start(tmp_path, "helper", processors)) == []


def test_processes_that_start_at_once_share_the_work(tmp_path: Path) -> None:
    both = [start(tmp_path, "helper", 1) for _ in range(2)]
    assert sorted(compiled_by(both[0]) + compiled_by(both[1])) == ["parse_pcap", "parse_pcapng", "virtnet_open"]
    assert [*tmp_path.glob("kernels-*/*.lock")] == []


def test_one_processor_has_no_helpers(tmp_path: Path) -> None:
    assert compiled_by(start(tmp_path, "helper", 1)) == ["parse_pcap", "parse_pcapng", "virtnet_open"]


def test_what_a_helper_leaves_undone_is_compiled_here(tmp_path: Path) -> None:
    assert compiled_by(start(tmp_path, "broken helper", 2)) == ["parse_pcap", "parse_pcapng", "virtnet_open"]
