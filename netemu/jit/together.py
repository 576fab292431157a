"""Loading several entry points at once: those that were never compiled are compiled side by side, on all processors.

The processes meet in the cache folder: each takes the next entry point that nobody has compiled or is compiling, which
locks tell, and keeps the code there, where this process finds it. So two that start at once share the work, too. A
helper that fails, or a folder that cannot be written, costs nothing but time: what is not there is compiled here.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from netemu.jit import cache
from netemu.jit.entries import Entry

_PROGRAM = "import sys; from netemu.jit.together import compile_named; compile_named(*sys.argv[1:])"


def load_together(*functions: Callable[..., Any]) -> None:
    """Load entry points; those to be compiled are taken one by one, here and by helping processes.

    There are as many processes as processors, this one included. What takes longest comes first, so that they end
    at about the same time.

    Plain functions, which entry points are under ``NETEMU_JIT=0``, are left alone.
    """
    entries = [function for function in functions if isinstance(function, Entry)]
    absent = [entry for entry in entries if not entry.is_kept()] if cache.folder() else []
    helpers = [_start(absent[1:]) for _ in range(min(os.cpu_count() or 1, len(absent)) - 1)]
    try:
        for entry in absent:
            entry.make()
    finally:
        for helper in helpers:
            helper.wait()
    for entry in entries:
        entry.load()


def _start(entries: list[Entry]) -> subprocess.Popen[bytes]:
    """Start a Python that compiles entry points for the cache folder, each that nobody else does."""
    names = [f"{entry.py_func.__module__}:{entry.py_func.__qualname__}" for entry in entries]
    path = os.pathsep.join(sys.path)
    return subprocess.Popen(  # noqa: S603 - this Python, and names of our own
        [sys.executable, "-c", _PROGRAM, *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
    )


def compile_named(*names: str) -> None:
    """Compile entry points, ``module:name`` each: what a helper process does."""
    for full in names:
        module, _, name = full.partition(":")
        entry = getattr(importlib.import_module(module), name)
        assert isinstance(entry, Entry)
        entry.make()
