"""Machine code from the cache folder, or from the compiler, into this process. Knows LLVM, not Numba."""

from __future__ import annotations

import functools
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from netemu.jit import cache
from netemu.jit.kernels import Entry

_SYMBOL_END = b"\n"


@functools.cache
def _machine() -> str:
    """What compiled code depends on besides its source: processor, features, compiler."""
    facts = f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()} {llvmlite.__version__}"
    return hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()


@functools.cache
def _engine() -> Any:
    """The engine that holds all loaded code."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)


def _path(entry: Entry) -> Path | None:
    """Where an entry point's code is kept; None for one outside the package, whose source the folder's name ignores."""
    folder = cache.folder() if entry.py_func.__module__.startswith("netemu.") else None
    name = f"{entry.py_func.__module__}.{entry.py_func.__qualname__}"
    return None if folder is None else folder / f"{name}-{_machine()}.o"


def address_of(entry: Entry) -> int:
    """The address of an entry point's machine code, which is loaded and, if need be, compiled and kept first."""
    path = _path(entry)
    stored = None
    if path is not None and path.is_file():
        stored = path.read_bytes()
    if stored is None or _SYMBOL_END not in stored:
        from netemu.jit.compiled import compile_entry  # noqa: PLC0415 - loads Numba

        symbol, code = compile_entry(entry)
        if path is not None:
            _keep(path, symbol.encode() + _SYMBOL_END + code)
    else:
        head, _, code = stored.partition(_SYMBOL_END)
        symbol = head.decode()
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def _keep(path: Path, data: bytes) -> None:
    """Write a cache file in one step, so that processes that run side by side never see half of one."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except OSError:
        return  # a full or read-only disk: the next run compiles again
