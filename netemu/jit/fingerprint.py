"""What the machine code of an entry point depends on, as a number that changes when that does.

Theory of operation
-------------------
A kernel is its bytecode, and what its global names mean: other kernels, numbers, structs by their layout. From an entry
point on, all that it reaches is read, so a change anywhere else leaves its code good, and so does another comment
or docstring. What the compiler does with all that is the business of `netemu.jit.cache`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import EnumType
from types import CodeType, ModuleType
from typing import Any

from netemu.jit.kernels import POINTERS, Kernel
from netemu.jit.structs import Struct

Function = Callable[..., Any]


def fingerprint(function: Function) -> str:
    """Of a kernel's plain function, with everything that it reaches."""
    structs = dict(POINTERS)
    seen = {function}
    ahead = [function]
    parts = []
    while ahead:
        part, kernels = _own(ahead.pop(), structs)
        parts.append(part)
        ahead += kernels - seen
        seen |= kernels
    return hashlib.blake2b("".join(sorted(parts)).encode(), digest_size=8).hexdigest()


_known: dict[Function, tuple[str, frozenset[Function]]] = {}


def _own(function: Function, structs: dict[Function, type[Struct]]) -> tuple[str, frozenset[Function]]:
    """What a function is by itself, in words, and the kernels that it names."""
    known = _known.get(function)
    if known is None:
        kernels: set[Function] = set()
        words = [_code(function.__code__, function.__doc__)]
        words += _meanings(function.__code__.co_names, function.__globals__, structs, kernels)
        part = f"{function.__module__}.{function.__qualname__}: {'; '.join(words)}\n"
        known = _known[function] = part, frozenset(kernels)
    return known


def _code(code: CodeType, doc: str | None) -> str:
    constants = [constant for constant in code.co_consts if constant is not doc]
    return f"{code.co_code.hex()} {constants} {code.co_names} {code.co_varnames} {code.co_argcount}"


def _meanings(
    names: tuple[str, ...],
    space: dict[str, Any],
    structs: dict[Function, type[Struct]],
    kernels: set[Function],
) -> list[str]:
    """What names mean there, as far as kernels can use it; names of fields may be among them, which does no harm."""
    words = []
    for name in names:
        value = space.get(name)
        if isinstance(value, Kernel):
            kernels.add(value.py_func)
            value = f"{value.py_func.__module__}.{value.py_func.__qualname__}"
        elif isinstance(value, ModuleType):
            value = _meanings(names, vars(value), structs, kernels)
        elif isinstance(value, EnumType):
            value = [*value.__members__.values()]
        elif callable(value) and value in structs:
            value = f"{structs[value].__module__}.{structs[value].__qualname__} {structs[value].dtype.names}"
        elif not isinstance(value, int | tuple):
            value = type(value).__name__  # an operation that the compiler knows
        words.append(f"{name}={value}")
    return words
