"""Loading several entry points at once: those that were never compiled are compiled side by side, a process each.

The processes meet in the cache folder: each compiles one entry point and keeps its code there, where this process finds
it. One that fails, or a folder that cannot be written, costs nothing but time: what is not there is compiled here.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from netemu.jit.entries import Entry

_PROGRAM = "import sys; from netemu.jit.together import compile_named; compile_named(*sys.argv[1:])"


def load_together(*functions: Callable[..., Any]) -> None:
    """Load entry points; the first of those to be compiled is compiled here, the others by processes meanwhile.

    Plain functions, which entry points are under ``NETEMU_JIT=0``, are left alone.
    """
    entries = [function for function in functions if isinstance(function, Entry)]
    absent = [entry for entry in entries if entry.is_to_be_compiled()]
    helpers = [_start(entry) for entry in absent[1 : os.cpu_count() or 1]]
    try:
        if absent:
            absent[0].load()
    finally:
        for helper in helpers:
            helper.wait()
    for entry in entries:
        entry.load()


def _start(entry: Entry) -> subprocess.Popen[bytes]:
    """Start a Python that compiles an entry point for the cache folder."""
    function = entry.py_func
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(  # noqa: S603 - this Python, and names of our own
        [sys.executable, "-c", _PROGRAM, function.__module__, function.__qualname__],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )


def compile_named(module: str, name: str) -> None:
    """Compile the entry point ``name`` of a module: what a helper process does."""
    entry = getattr(importlib.import_module(module), name)
    assert isinstance(entry, Entry)
    entry.load()
