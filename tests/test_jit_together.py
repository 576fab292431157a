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
from netemu.capture.pcap import parse_pcap
from netemu.capture.pcapng import parse_pcapng
from netemu.driver.refill import virtnet_open
from netemu.jit import compiled, load_together, loader, together
if sys.argv[1] == "broken helper":
    together._PROGRAM = "raise SystemExit(1)"
here = []
original = compiled.compile_entry
compiled.compile_entry = lambda entry: here.append(entry.py_func.__name__) or original(entry)
os.cpu_count = lambda: int(sys.argv[2])
load_together(parse_pcap, parse_pcapng, len, virtnet_open)
assert parse_pcap.address and parse_pcapng.address and virtnet_open.address
print(*here)
"""


def compiled_here(cache: Path, helper: str, processors: int = 2) -> list[str]:
    """Load three entry points in a fresh process; which of them that process compiled itself."""
    environment = {"NETEMU_CACHE_DIR": str(cache), "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, helper, str(processors)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=REPO,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_first_is_compiled_here_the_others_by_one_helper_and_none_again(tmp_path: Path) -> None:
    assert compiled_here(tmp_path, "helper") == ["parse_pcap"]
    assert len([*tmp_path.glob("kernels-*/*.o")]) == 3
    assert compiled_here(tmp_path, "helper") == []


@pytest.mark.parametrize("processors", [3, 8])
def test_more_processors_take_a_share_each(tmp_path: Path, processors: int) -> None:
    assert compiled_here(tmp_path, "helper", processors) == ["parse_pcap"]
    assert len([*tmp_path.glob("kernels-*/*.o")]) == 3


def test_one_processor_has_no_helpers(tmp_path: Path) -> None:
    assert compiled_here(tmp_path, "helper", 1) == ["parse_pcap", "parse_pcapng", "virtnet_open"]


def test_what_a_helper_leaves_undone_is_compiled_here(tmp_path: Path) -> None:
    assert compiled_here(tmp_path, "broken helper") == ["parse_pcap", "parse_pcapng", "virtnet_open"]
