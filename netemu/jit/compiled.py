"""Kernels as machine code: the Numba half of `netemu.jit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic

from netemu.jit import cache
from netemu.jit.structs import Struct

_BYTE_POINTER = ir.IntType(8).as_pointer()
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


class _InnerLibrary(JITCodeLibrary):
    """The code of a kernel that only other kernels call: kept for linking, never made into machine code."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


class _InnerCompiler(Compiler):
    """Numba's pipeline without what only a caller in Python needs: wrappers, and machine code of its own.

    Every entry point links in and optimises all it calls, so that work would be done twice; leaving it out
    halves the time of a first compilation.
    """

    def compile_extra(self, func: Any) -> Any:
        flags = self.state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        self.state.library = _InnerLibrary(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)


class _InnerDispatcher(CPUDispatcher):  # type: ignore[misc]
    """A kernel as other kernels see it; Python itself cannot call one, but its ``py_func``."""

    def add_overload(self, cres: Any) -> None:
        token = object()  # stands for the function pointer that was not made
        self.targetctx.insert_user_function(token, cres.fndesc, [cres.library])
        self.overloads[tuple(cres.signature.args)] = cres._replace(entry_point=token)

    def __call__(self, *args: Any) -> None:
        raise TypeError(f"{self.py_func.__name__} is a kernel: kernels call it, Python calls an entry")


def kernel(function: Callable[..., Any]) -> Any:
    """Compile ``function`` for use by other kernels."""
    options = {"nopython": True, "boundscheck": None, **_OPTIONS}
    return _InnerDispatcher(function, locals={}, targetoptions=options, pipeline_class=_InnerCompiler)


def entry(function: Callable[..., Any]) -> Any:
    """Compile ``function``, which Python calls with integers, and keep the result on disk.

    Where no folder can be written the kernel still works; it is then compiled anew in every process.
    """
    if cache.folder() is None:
        return numba.njit(**_OPTIONS)(function)
    numba.config.CACHE_DIR = str(cache.folder())
    return numba.njit(cache=True, **_OPTIONS)(function)


def pointer(cls: type[Struct]) -> Any:
    """Return the kernel that sees the bytes at an address as a ``cls``."""
    record = numba.from_dtype(cls.dtype)

    @intrinsic  # type: ignore[untyped-decorator]
    def struct_at(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(record))

        return record(types.int64), codegen

    return struct_at


def _swap(builder: Any, value: Any, bits: int) -> Any:
    """Reverse the bytes of ``value`` (one instruction)."""
    return builder.bswap(value)


def _loader(bits: int, order: str | None = None, *, big: bool = False) -> Any:
    """A load of ``bits`` from an address, zero-extended to int64 (64 bits: taken as signed)."""
    width = ir.IntType(bits)

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            where = builder.inttoptr(args[0], width.as_pointer())
            if order is None:
                value = builder.load(where, align=1)
            else:
                value = builder.load_atomic(where, order, bits // 8)
            if big:
                value = _swap(builder, value, bits)
            return value if bits == 64 else builder.zext(value, ir.IntType(64))

        return types.int64(types.int64), codegen

    return load


def _storer(bits: int, order: str | None = None, *, big: bool = False) -> Any:
    """A store of the low ``bits`` of a value to an address."""
    width = ir.IntType(bits)

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            where = builder.inttoptr(args[0], width.as_pointer())
            what = args[1] if bits == 64 else builder.trunc(args[1], width)
            if big:
                what = _swap(builder, what, bits)
            if order is None:
                builder.store(what, where, align=1)
            else:
                builder.store_atomic(what, where, order, bits // 8)
            return context.get_dummy_value()

        return types.none(types.int64, types.int64), codegen

    return store


load8 = _loader(8)
load16 = _loader(16)
load32 = _loader(32)
load64 = _loader(64)
load16be = _loader(16, big=True)
load32be = _loader(32, big=True)
load16_acquire = _loader(16, "acquire")
store8 = _storer(8)
store16 = _storer(16)
store32 = _storer(32)
store64 = _storer(64)
store16be = _storer(16, big=True)
store32be = _storer(32, big=True)
store16_release = _storer(16, "release")


@intrinsic  # type: ignore[untyped-decorator]
def fence(typingctx: Any) -> Any:
    """A full barrier: what stands before is visible to others before anything after is read."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), codegen


@intrinsic  # type: ignore[untyped-decorator]
def memcpy(typingctx: Any, target: Any, source: Any, size: Any) -> Any:
    """Copy ``size`` bytes between addresses that do not overlap."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = builder.inttoptr(args[0], _BYTE_POINTER)
        cgutils.raw_memcpy(builder, to, builder.inttoptr(args[1], _BYTE_POINTER), args[2], 1)
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), codegen


@intrinsic  # type: ignore[untyped-decorator]
def memset(typingctx: Any, target: Any, value: Any, size: Any) -> Any:
    """Set ``size`` bytes to ``value``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = builder.inttoptr(args[0], _BYTE_POINTER)
        cgutils.memset(builder, to, args[2], builder.trunc(args[1], ir.IntType(8)))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.int64), codegen
