"""Machine code from the cache folder, or from the compiler, into this process. Knows LLVM, not Numba."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm

from netemu.jit import cache


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


def path_of(name: str, fingerprint: str) -> Path | None:
    """Where the code of the entry point ``name`` is kept for this machine; None where none can be."""
    folder = cache.folder()
    return None if folder is None else folder / f"{name}-{fingerprint}-{_machine()}.o"


def address_of(path: Path | None, compiler: Callable[[], tuple[str, bytes]]) -> int:
    """The address of machine code from the cache file ``path``; failing that, from ``compiler``, and then it is kept.

    ``compiler`` gives the symbol to call and the object file that holds it.
    """
    symbol, code = _kept(path) or _made(path, compiler)
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def make(path: Path, compiler: Callable[[], tuple[str, bytes]]) -> None:
    """Have the cache file ``path`` made, unless it is there or another process is about to make it."""
    with contextlib.suppress(BlockingIOError), _alone(path, fcntl.LOCK_NB):
        if not path.exists():
            _keep(path, *compiler())


def _made(path: Path | None, compiler: Callable[[], tuple[str, bytes]]) -> tuple[str, bytes]:
    """What the compiler gives, or another process that was compiling the same."""
    if path is None:
        return compiler()
    with _alone(path):
        kept = _kept(path)
        if kept is None:
            kept = compiler()
            _keep(path, *kept)
        return kept


@contextlib.contextmanager
def _alone(path: Path, how: int = 0) -> Iterator[None]:
    """Keep other processes from making a cache file meanwhile, where files can be locked."""
    lock = path.with_suffix(".lock")
    with contextlib.ExitStack() as held:
        try:
            fcntl.flock(held.enter_context(lock.open("w")), fcntl.LOCK_EX | how)
            held.callback(lock.unlink, missing_ok=True)
        except BlockingIOError:
            raise
        except OSError:  # a folder that cannot be written, or a file system without locks
            pass
        yield


def _digest(code: bytes) -> str:
    return hashlib.blake2b(code, digest_size=16).hexdigest()


def _kept(path: Path | None) -> tuple[str, bytes] | None:
    """Symbol and code of a cache file; None where there is none, or one that is damaged."""
    if path is None:
        return None
    try:
        head, _, code = path.read_bytes().partition(b"\n")
        os.utime(path)
    except OSError:
        return None  # there is none yet, or somebody tidied up
    symbol, _, digest = head.decode(errors="replace").partition(" ")
    return (symbol, code) if digest == _digest(code) else None


def _keep(path: Path, symbol: str, code: bytes) -> None:
    """Write a cache file in one step, so that processes that run side by side never see half of one."""
    name = ""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(f"{symbol} {_digest(code)}\n".encode() + code)
        Path(name).replace(path)
        cache.forget_files(path.parent)
    except OSError:  # a full or read-only disk: the next run compiles again
        if name:
            Path(name).unlink(missing_ok=True)
