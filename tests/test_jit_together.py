"""Entry points compiled side by side: who compiles what, and what happens when a helper does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPO

PROGRAM = """
import sys
from netemu.capture.pcap import parse_pcap
from netemu.capture.pcapng import parse_pcapng
from netemu.jit import compiled, load_together, loader, together
if sys.argv[1] == "broken helper":
    together._PROGRAM = "raise SystemExit(1)"
here = []
original = compiled.compile_entry
compiled.compile_entry = lambda entry: here.append(entry.py_func.__name__) or original(entry)
load_together(parse_pcap, parse_pcapng, len)
assert parse_pcap.address and parse_pcapng.address
print(*here)
"""


def compiled_here(cache: Path, helper: str) -> list[str]:
    """Load two entry points in a fresh process; which of them that process compiled itself."""
    environment = {"NETEMU_CACHE_DIR": str(cache), "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, helper], capture_output=True, text=True, check=False, env=environment, cwd=REPO
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_first_is_compiled_here_the_second_by_a_helper_and_neither_again(tmp_path: Path) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor: there is nobody to help")
    assert compiled_here(tmp_path, "helper") == ["parse_pcap"]
    assert len([*tmp_path.glob("kernels-*/*.o")]) == 2
    assert compiled_here(tmp_path, "helper") == []


def test_what_a_helper_leaves_undone_is_compiled_here(tmp_path: Path) -> None:
    assert compiled_here(tmp_path, "broken helper") == ["parse_pcap", "parse_pcapng"]
