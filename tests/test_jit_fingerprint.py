"""What makes compiled code stale, and what does not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPO

SOURCE = """
from __future__ import annotations
from enum import IntEnum
from netemu.jit import Struct, i64, kernel, pointer, struct
import part

LIMIT = 7
PAIR = (1, 2)

class Kind(IntEnum):
    A = 1

@struct
class Pile(Struct):
    height: i64
    width: i64

pile_at = pointer(Pile)

@kernel
def inner(a: i64) -> i64:
    \"\"\"Doc.\"\"\"
    return a + LIMIT if a in PAIR else a + Kind.A

@kernel
def apart(a: i64) -> i64:
    return a

@kernel
def outer(a: i64) -> i64:
    pile = pile_at(a)
    pile.height = inner(a) + part.more(a)
    return pile.width
"""
PART = """
from netemu.jit import i64, kernel
WIDTH = 3

@kernel
def more(a: i64) -> i64:
    return a * WIDTH
"""
PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import whole
from netemu.jit.fingerprint import fingerprint
print(fingerprint(whole.outer.py_func))
"""


def of(folder: Path, source: str, part: str = PART) -> str:
    """The fingerprint of ``outer`` in a process of its own."""
    (folder / "whole.py").write_text(source)
    (folder / "part.py").write_text(part)
    command = [sys.executable, "-B", "-c", PROGRAM, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO).stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a + LIMIT", "a - LIMIT"),
        ("a + LIMIT", "1 + LIMIT"),
        ("LIMIT = 7", "LIMIT = 8"),
        ("PAIR = (1, 2)", "PAIR = (1, 3)"),
        ("A = 1", "A = 2"),
        ("    height: i64\n    width: i64\n", "    width: i64\n    height: i64\n"),
        ("WIDTH = 3", "WIDTH = 4"),
        ("a * WIDTH", "a // WIDTH"),
    ],
)
def test_what_a_kernel_reaches_changes_its_fingerprint(old: str, new: str, tmp_path: Path) -> None:
    assert (SOURCE + PART).count(old) == 1
    before = of(tmp_path, SOURCE)
    assert of(tmp_path, SOURCE.replace(old, new), PART.replace(old, new)) != before


def test_nothing_else_does(tmp_path: Path) -> None:
    before = of(tmp_path, SOURCE)
    other = SOURCE.replace("Doc.", "Other words.").replace("    return a\n", "    return a + 1\n") + "# A comment.\n"
    assert other.count("a + 1") == 1
    assert of(tmp_path, other, "# Moved.\n\n" + PART) == before


ALL = """
import importlib, json, pkgutil
import netemu
from netemu.jit.entries import Entry
from netemu.jit.fingerprint import fingerprint
found = {}
for info in pkgutil.walk_packages(netemu.__path__, "netemu."):
    if not info.name.startswith(("netemu.cli", "netemu.__main__")):
        for value in vars(importlib.import_module(info.name)).values():
            if isinstance(value, Entry):
                found[f"{value.py_func.__module__}.{value.py_func.__qualname__}"] = fingerprint(value.py_func)
print(json.dumps(found))
"""


def test_fingerprints_are_the_same_in_every_process_and_all_differ() -> None:
    command = [sys.executable, "-c", ALL]
    first, second = (
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPO).stdout)
        for _ in range(2)
    )
    assert len(first) > 100
    assert first == second
    assert len(set(first.values())) == len(first)
