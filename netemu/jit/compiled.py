"""Kernels as machine code: the Numba half of `netemu.jit`."""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, typed_passes, types, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.datamodel import register_default
from numba.core.datamodel.models import OpaqueModel
from numba.core.imputils import lower_getattr_generic, lower_setattr_generic
from numba.core.registry import CPUDispatcher
from numba.core.typing import signature
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import lower_builtin, type_callable, typeof_impl

from netemu.jit import hooks, ops
from netemu.jit.kernels import POINTERS, Kernel
from netemu.jit.structs import Struct

_COPY_WIDTHS = (64, 32, 16, 8)
_WORD = ir.IntType(64)
_SHARED = "memory"
"""What the loads and stores of bytes at addresses are of: never of a struct's field."""
_BYTE_POINTER = ir.IntType(8).as_pointer()
_OPTIONS: dict[str, Any] = {"nopython": True, "boundscheck": None, "error_model": "numpy", "no_rewrites": True}


class _KernelLibrary(JITCodeLibrary):
    """The code of a kernel: kept for linking, and made into machine code by nobody but `compile_entry`."""

    def _optimize_final_module(self) -> None:
        """Leave it to the entry points, which optimise all that they link in at once."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def object_code(self, symbol: str) -> bytes:
        """Optimise everything that was linked in, and make it into an object file that offers ``symbol``.

        All else is its own business, so that what has one caller becomes part of it and what has none is left out.
        """
        self._ensure_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.name != symbol:
                function.linkage = "internal"
        # No loop gains by vectors: those of checksums gather their words one by one, and code and LLVM take longer.
        passes, builder = self._codegen._module_pass_manager(loop_vectorize=False)  # noqa: SLF001 - as below
        passes.run(self._final_module, builder)
        return bytes(self._codegen._tm.emit_object(self._final_module))  # noqa: SLF001 - Numba has no public way


class _Pipeline(CompilerBase):
    """Numba's pipeline as far as kernels need it.

    There are no closures, rewrites, inlining in the front end or literal loops, and no wrappers for callers in Python:
    leaving all that out takes two thirds off the time of a first compilation.
    """

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("kernel")
        for step in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.IRLegalization,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            manager.add_pass(step, step.__name__)
        manager.finalize()
        self.state.type_annotation = None
        return [manager]

    def compile_extra(self, func: Any) -> Any:
        flags = self.state.flags
        flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
        self.state.library = _KernelLibrary(self.state.targetctx.codegen(), func.__qualname__)
        return super().compile_extra(func)


class _Dispatcher(CPUDispatcher):
    """A kernel as Numba sees it when another one calls it."""

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Compile it once, not anew for each constant it is called with: LLVM hands those on."""
        return super().get_call_template([types.unliteral(arg) for arg in args], kws)

    def add_overload(self, cres: Any) -> None:
        token = object()  # stands for the function pointer that was not made
        self.targetctx.insert_user_function(token, cres.fndesc, [cres.library])
        self.overloads[tuple(cres.signature.args)] = cres._replace(entry_point=token)


@functools.cache
def _dispatcher(kernel: Kernel) -> _Dispatcher:
    return _Dispatcher(kernel.py_func, locals={}, targetoptions=_OPTIONS, pipeline_class=_Pipeline)


@typeof_impl.register(Kernel)
def _typeof_kernel(kernel: Kernel, _context: Any) -> Any:
    return types.Dispatcher(_dispatcher(kernel))


def compile_entry(entry: Kernel) -> tuple[str, bytes]:
    """Compile an entry point with all kernels it calls: the symbol to call, and the object file that holds it."""
    for struct_at, cls in POINTERS:
        _lower_pointer(struct_at, cls)
    dispatcher = _dispatcher(entry)
    arguments = (types.int64,) * len(inspect.signature(entry.py_func).parameters)
    collecting = gc.isenabled()
    gc.disable()  # what there is to collect is not worth the tenth of the time that looking for it takes
    try:
        dispatcher.compile(arguments)
    finally:
        if collecting:
            gc.enable()
    result = dispatcher.overloads[arguments]
    with global_compiler_lock:
        symbol = result.fndesc.llvm_func_name
        return symbol, result.library.object_code(symbol)


class _StructType(types.Type):
    """A `Struct` in a kernel: its address."""

    def __init__(self, cls: type[Struct]) -> None:
        super().__init__(f"{cls.__module__}.{cls.__qualname__}")
        self.offsets = {name: field[1] for name, field in (cls.dtype.fields or {}).items()}


register_default(_StructType)(OpaqueModel)


@infer_getattr
class _StructFields(AttributeTemplate):
    key = _StructType

    def generic_resolve(self, value: Any, attr: str) -> Any:  # type: ignore[override]
        """All fields are int64."""
        return types.int64 if attr in value.offsets else None


def _place(builder: Any, struct: _StructType, value: Any, name: str) -> Any:
    """The address of a field."""
    at = builder.gep(value, [_WORD(struct.offsets[name])], inbounds=True)
    return builder.bitcast(at, _WORD.as_pointer())


def _get_field(_context: Any, builder: Any, struct: _StructType, value: Any, name: str) -> Any:
    return _tag(builder, builder.load(_place(builder, struct, value, name), align=8), f"{struct.name}.{name}")


def _set_field(context: Any, builder: Any, sig: Any, args: Any, name: str) -> Any:
    struct, kind = sig.args
    value = context.cast(builder, args[1], kind, types.int64)
    _tag(builder, builder.store(value, _place(builder, struct, args[0], name), align=8), f"{struct.name}.{name}")


def _tag(builder: Any, access: Any, what: str) -> Any:
    """Tell LLVM what a load or a store is of: accesses to different things never are of the same memory (TBAA).

    So a field of a struct need not be loaded anew behind a store to another, or to shared memory. An access without a
    tag, such as those of ``memcpy``, may be of anything.
    """
    module = builder.module
    kind = module.add_metadata([what, module.add_metadata(["netemu"]), _WORD(0)])
    access.set_metadata("tbaa", module.add_metadata([kind, kind, _WORD(0)]))
    return access


@functools.cache
def _lower_pointer(struct_at: Callable[[int], Struct], cls: type[Struct]) -> None:
    """Tell Numba what ``struct_at`` (see `netemu.jit.pointer`) is: a cast of an address."""

    def cast(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], _BYTE_POINTER)

    _lower(struct_at, cast, 1, _StructType(cls))


def _lower(function: Callable[..., Any], code: Callable[..., Any], arguments: int, result: Any) -> None:
    """Tell Numba that a call of ``function`` with so many int64 is the instructions that ``code`` builds."""
    integers = (types.int64,) * arguments

    known = signature(result, *integers)
    typers: tuple[Callable[..., Any], ...] = (
        lambda: known,
        lambda _a: known,
        lambda _a, _b: known,
        lambda _a, _b, _c: known,
        lambda _a, _b, _c, _d: known,
        lambda _a, _b, _c, _d, _e: known,
        lambda _a, _b, _c, _d, _e, _f: known,
    )
    type_callable(function)(lambda _context: typers[arguments])
    lower_builtin(function, *integers)(code)


def _lower_load(function: Callable[..., Any], bits: int, order: str | None = None, *, big: bool = False) -> None:
    """A load of ``bits`` from an address, zero-extended to int64 (64 bits: taken as signed)."""
    width = ir.IntType(bits)

    def code(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], width.as_pointer())
        value = builder.load_atomic(where, order, bits // 8) if order else builder.load(where, align=1)
        _tag(builder, value, _SHARED)
        if big:
            value = builder.bswap(value)
        return value if bits == 64 else builder.zext(value, ir.IntType(64))

    _lower(function, code, 1, types.int64)


def _lower_store(function: Callable[..., Any], bits: int, order: str | None = None, *, big: bool = False) -> None:
    """A store of the low ``bits`` of a value to an address."""
    width = ir.IntType(bits)

    def code(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        where = builder.inttoptr(args[0], width.as_pointer())
        value = args[1] if bits == 64 else builder.trunc(args[1], width)
        if big:
            value = builder.bswap(value)
        plain = order is None
        access = builder.store(value, where, align=1) if plain else builder.store_atomic(value, where, order, bits // 8)
        _tag(builder, access, _SHARED)
        return context.get_dummy_value()

    _lower(function, code, 2, types.none)


def _load64_any(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    return builder.load(builder.inttoptr(args[0], _WORD.as_pointer()), align=8)


def _add64_any(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    where = builder.inttoptr(args[0], _WORD.as_pointer())
    builder.store(builder.add(builder.load(where, align=8), args[1]), where, align=8)
    return context.get_dummy_value()


def _fence(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
    builder.fence("seq_cst")
    return context.get_dummy_value()


def _copy_ends(builder: Any, target: Any, source: Any, size: Any, width: int) -> None:
    """Copy ``size`` bytes, between ``width`` and twice that, as two pieces that overlap in the middle."""
    piece = ir.VectorType(ir.IntType(8), width)
    last = builder.sub(size, size.type(width))
    ends = [(builder.gep(target, [at]), builder.gep(source, [at])) for at in (size.type(0), last)]
    values = [builder.load(builder.bitcast(at, piece.as_pointer()), align=1) for _, at in ends]
    for (at, _), value in zip(ends, values, strict=True):
        builder.store(value, builder.bitcast(at, piece.as_pointer()), align=1)


def _memcpy(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    """Headers and short frames, which most copies are of, are copied in place; longer ones by the C library."""
    target, source = (builder.inttoptr(arg, _BYTE_POINTER) for arg in args[:2])
    size = args[2]
    done = builder.append_basic_block("copied")
    for width in _COPY_WIDTHS:
        fits = builder.append_basic_block(f"copy{width}")
        other = builder.append_basic_block("longer")
        distance = builder.sub(size, size.type(width))
        builder.cbranch(builder.icmp_unsigned("<=", distance, size.type(width)), fits, other)
        builder.position_at_end(fits)
        _copy_ends(builder, target, source, size, width)
        builder.branch(done)
        builder.position_at_end(other)
    cgutils.raw_memcpy(builder, target, source, size, 1)
    builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


def _memset(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    target = builder.inttoptr(args[0], _BYTE_POINTER)
    cgutils.memset(builder, target, args[2], builder.trunc(args[1], ir.IntType(8)))
    return context.get_dummy_value()


def _call(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
    """Call machine code in Numba's convention: pointers for result and exception, then the integers; see `hooks`."""
    word = ir.IntType(64)
    status_type = ir.IntType(32)
    result = cgutils.alloca_once_value(builder, word(0))
    error = cgutils.alloca_once(builder, _BYTE_POINTER)
    kind = ir.FunctionType(status_type, [word.as_pointer(), _BYTE_POINTER.as_pointer(), *[word] * (len(args) - 1)])
    status = builder.call(builder.inttoptr(args[0], kind.as_pointer()), [result, error, *args[1:]])
    returned = builder.icmp_signed("==", status, status_type(0))
    return builder.select(returned, builder.load(result), word(hooks.FAILED))


lower_getattr_generic(_StructType)(_get_field)
lower_setattr_generic(_StructType)(_set_field)
_lower_load(ops.load8, 8)
_lower_load(ops.load16, 16)
_lower_load(ops.load32, 32)
_lower_load(ops.load64, 64)
_lower_load(ops.load16be, 16, big=True)
_lower_load(ops.load32be, 32, big=True)
_lower_load(ops.load16_acquire, 16, "acquire")
_lower_load(ops.load32_acquire, 32, "acquire")
_lower_store(ops.store8, 8)
_lower_store(ops.store16, 16)
_lower_store(ops.store32, 32)
_lower_store(ops.store64, 64)
_lower_store(ops.store16be, 16, big=True)
_lower_store(ops.store32be, 32, big=True)
_lower_store(ops.store16_release, 16, "release")
_lower(ops.load64_any, _load64_any, 1, types.int64)
_lower(ops.add64_any, _add64_any, 2, types.none)
_lower(ops.fence, _fence, 0, types.none)
_lower(ops.memcpy, _memcpy, 3, types.none)
_lower(ops.memset, _memset, 3, types.none)
_CALLS: tuple[Callable[..., Any], ...] = (hooks.call1, hooks.call2, hooks.call3, hooks.call4, hooks.call5)
for _arity, _function in enumerate(_CALLS, start=1):
    _lower(_function, _call, _arity + 1, types.int64)
