"""Kernels, structs and raw memory: compiled code and plain Python do the same, and plain Python sees wild accesses."""

from __future__ import annotations

import gc
import struct as packing
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu import jit
from netemu.jit import Struct, WildAccessError, allocate, array_of, entry, i64, kernel, pointer, struct

I64_MAX, I64_MIN = 2**63 - 1, -(2**63)


@struct
class Pair(Struct):
    first: i64
    second: i64


pair_at = pointer(Pair)


# Structs.


def test_a_struct_is_int64_fields_in_order_zeroed() -> None:
    pair = Pair()
    assert pair.to_dict() == {"first": 0, "second": 0}
    pair.first, pair.second = -2, I64_MAX
    assert bytes(pair) == packing.pack("<qq", -2, I64_MAX)
    assert repr(pair) == f"Pair(first=-2, second={I64_MAX})"
    assert Pair.dtype.itemsize == 16
    assert Pair(first=5).to_dict() == {"first": 5, "second": 0}


def test_a_pointer_sees_the_struct_s_own_bytes() -> None:
    pair = Pair(first=1, second=2)
    seen = pair_at(pair.address)
    seen.second = 7
    assert pair.second == 7
    assert jit.load64_any(pair.address + 8) == 7


def test_an_array_of_structs_is_contiguous_and_changes_in_place() -> None:
    pairs = array_of(Pair, 3)
    assert len(pairs) == 3
    pairs[1].first = 11
    pair_at(pairs.address + 2 * 16).second = 22
    assert [pair.to_dict() for pair in pairs[:]] == [
        {"first": 0, "second": 0},
        {"first": 11, "second": 0},
        {"first": 0, "second": 22},
    ]
    assert pairs.view["first"].tolist() == [0, 11, 0]
    pairs.view["second"] = 5
    assert pairs[0].second == 5


# Loads and stores.

LOADS = {
    "load8": (jit.load8, "<B"),
    "load16": (jit.load16, "<H"),
    "load32": (jit.load32, "<I"),
    "load64": (jit.load64, "<q"),
    "load16be": (jit.load16be, ">H"),
    "load32be": (jit.load32be, ">I"),
    "load16_acquire": (jit.load16_acquire, "<H"),
}
STORES = {
    "store8": (jit.store8, "<B"),
    "store16": (jit.store16, "<H"),
    "store32": (jit.store32, "<I"),
    "store64": (jit.store64, "<Q"),
    "store16be": (jit.store16be, ">H"),
    "store32be": (jit.store32be, ">I"),
    "store16_release": (jit.store16_release, "<H"),
}
OPS = [*LOADS, *STORES, "memcpy", "memset", "struct", "arithmetic"]


@kernel
def operate(op: i64, at: i64, value: i64) -> i64:
    """One of `OPS` on 64 bytes at ``at``."""
    if op == 0:
        return jit.load8(at)
    if op == 1:
        return jit.load16(at)
    if op == 2:
        return jit.load32(at)
    if op == 3:
        return jit.load64(at)
    if op == 4:
        return jit.load16be(at)
    if op == 5:
        return jit.load32be(at)
    if op == 6:
        return jit.load16_acquire(at)
    if op == 7:
        jit.store8(at, value)
    elif op == 8:
        jit.store16(at, value)
    elif op == 9:
        jit.store32(at, value)
    elif op == 10:
        jit.store64(at, value)
    elif op == 11:
        jit.store16be(at, value)
    elif op == 12:
        jit.store32be(at, value)
    elif op == 13:
        jit.store16_release(at, value)
    elif op == 14:
        jit.memcpy(at + 32, at, value & 31)
    elif op == 15:
        jit.memset(at + 1, value, value & 31)
    elif op == 16:
        pair = pair_at(at)
        pair.second = value
        pair.first += 1
        return pair.first
    else:
        jit.fence()
        return (((value >> 3) ^ (value & 0xFFFF)) + value // 1000 + value % 1000) & 0xFFFFFFFF
    return 0


@entry
def run_operate(op: i64, at: i64, value: i64) -> i64:
    """`operate` the way that `netemu.jit.mode` says."""
    return operate(op, at, value)


Run = Callable[[int, int, int], int]
BOTH = pytest.mark.parametrize("run", [operate, run_operate], ids=["plain", "entry"])


def test_an_entry_is_compiled_unless_the_environment_says_otherwise() -> None:
    assert jit.JIT == hasattr(run_operate, "py_func")


@BOTH
@pytest.mark.parametrize("name", LOADS)
@pytest.mark.parametrize("data", [bytes(range(0xF1, 0xF9)), bytes(range(1, 9)), b"\xff" * 8, bytes(7) + b"\x80"])
def test_loads_are_zero_extended_but_for_64_bits(run: Run, name: str, data: bytes) -> None:
    block = allocate(64)
    block.array[:8] = bytearray(data)
    order = LOADS[name][1]
    expected = packing.unpack_from(order, data)[0]
    assert run(OPS.index(name), block.address, 0) == expected


@BOTH
@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("value", [0, 1, -1, 0x1122334455667788, -0x1122334455667788, I64_MAX, I64_MIN, 0x80, 0xFFFF])
def test_stores_take_the_low_bits_and_touch_nothing_else(run: Run, name: str, value: int) -> None:
    block = allocate(64)
    block.array[:] = 0xEE
    run(OPS.index(name), block.address + 8, value)
    order = STORES[name][1]
    width = packing.calcsize(order)
    expected = packing.pack(order, value & (1 << 8 * width) - 1)
    assert block.array.tobytes() == b"\xee" * 8 + expected + b"\xee" * (56 - width)


@BOTH
@pytest.mark.parametrize("name", sorted({*LOADS, *STORES} - {"load16_acquire", "store16_release"}))
@pytest.mark.parametrize("offset", [1, 3, 7])
def test_addresses_need_no_alignment(run: Run, name: str, offset: int) -> None:
    """Frames begin anywhere; only ring indices, which have an order, are aligned."""
    block = allocate(64)
    before = bytes(range(1, 65))
    block.array[:] = bytearray(before)
    got = run(OPS.index(name), block.address + offset, 0)
    if name in LOADS:
        assert got == packing.unpack_from(LOADS[name][1], before, offset)[0]
    else:
        width = packing.calcsize(STORES[name][1])
        assert block.array.tobytes() == before[:offset] + bytes(width) + before[offset + width :]


@given(
    data=st.binary(min_size=64, max_size=64),
    op=st.sampled_from(range(len(OPS))),
    value=st.integers(I64_MIN, I64_MAX) | st.integers(-300, 300),
)
@settings(deadline=None)
def test_plain_python_and_compiled_code_do_the_same(data: bytes, op: int, value: int) -> None:
    results = []
    for run in (operate, run_operate):
        block = allocate(64)
        block.array[:] = bytearray(data)
        if OPS[op] == "struct" and data[:8] == b"\xff" * 7 + b"\x7f":
            return  # one more than the largest int64 is no value of a kernel
        results.append((run(op, block.address, value), block.array.tobytes()))
    assert results[0] == results[1]


# Who may touch what.


def test_a_kernel_that_python_calls_cannot_touch_what_nobody_allocated() -> None:
    for name in OPS[:-1]:
        with pytest.raises(WildAccessError):
            operate(OPS.index(name), 0x10, 5)


@pytest.mark.parametrize(("name", "width"), [(n, packing.calcsize(o)) for n, (_, o) in (LOADS | STORES).items()])
def test_an_access_has_to_lie_in_one_allocation_to_its_last_byte(name: str, width: int) -> None:
    block = allocate(32)
    op = OPS.index(name)
    operate(op, block.address, 0)
    operate(op, block.address + 32 - width, 0)
    for wild in (block.address - 1, block.address + 33 - width, block.address + 32):
        with pytest.raises(WildAccessError, match=f"{width} bytes at {wild:#x} belong to no allocation"):
            operate(op, wild, 0)


def test_copies_and_fills_are_checked_on_both_ends() -> None:
    block, other = allocate(32), allocate(32)
    jit.memcpy(block.address, other.address, 32)
    for target, source in ((block.address, other.address + 1), (block.address + 1, other.address)):
        with pytest.raises(WildAccessError):
            jit.memcpy(target, source, 32)
    with pytest.raises(WildAccessError):
        jit.memset(block.address, 0, 33)
    # Nothing copied is nothing touched.
    jit.memcpy(0, 0, 0)
    jit.memset(0, 0, 0)


def test_a_pointer_to_no_struct_is_wild() -> None:
    pairs = array_of(Pair, 2)
    for wild in (0, pairs.address - 16, pairs.address + 32, pairs.address + 17):
        with pytest.raises(WildAccessError):
            pair_at(wild)


def test_memory_that_was_freed_is_wild_again() -> None:
    block = allocate(1 << 20)  # large enough to come from and go back to the system
    address = block.address
    jit.store8(address, 1)
    del block
    gc.collect()
    with pytest.raises(WildAccessError):
        jit.load8(address)


@pytest.mark.skipif(not jit.JIT, reason="NETEMU_JIT=0: kernels are not compiled")
def test_kernels_called_from_python_are_the_functions_they_were_written_as() -> None:
    """They stop in a debugger, and take Python's own numbers."""
    assert operate.py_func.__name__ == "operate"  # type: ignore[attr-defined]
    large = 2**80
    assert operate(OPS.index("arithmetic"), 0, large) == ((large >> 3) + large // 1000 + large % 1000) & 0xFFFFFFFF


# Hooks.


@entry
def double_and_add(x: int, y: int) -> int:
    return 2 * x + y


@entry
def call_it(address: int, x: int, y: int) -> int:
    return jit.call2(address, x, y) + 1


def test_compiled_code_calls_a_hook_through_its_address() -> None:
    assert call_it(jit.hook(double_and_add), 20, 1) == 42


def test_a_kernel_that_runs_as_plain_python_calls_the_plain_function_behind_the_same_address() -> None:
    assert jit.call2(jit.hook(double_and_add), 20, 1) == 41


def test_a_plain_function_is_a_hook_for_plain_python_and_keeps_its_address() -> None:
    def seven(_x: int) -> int:
        return 7

    address = jit.hook(seven)
    assert jit.call1(address, 0) == 7
    assert jit.hook(seven) == address != 0


# What compiled code takes for granted: fields are reached as fields.


def test_a_field_is_not_loaded_or_stored_by_address() -> None:
    pair, pairs = Pair(first=1, second=2), array_of(Pair, 2)
    for address in (pair.address, pairs.address + 24):
        with pytest.raises(WildAccessError, match="fields of a struct"):
            jit.load64(address)
        with pytest.raises(WildAccessError, match="fields of a struct"):
            jit.store8(address, 1)
    assert pair.to_dict() == {"first": 1, "second": 2}


@entry
def count_twice(address: int) -> int:
    pair = pair_at(address)
    pair.second += 1
    jit.add64_any(address + 8, 1)
    return pair.second * 100 + jit.load64_any(address + 8)


def test_what_may_be_a_field_is_read_anew() -> None:
    assert count_twice(Pair(second=5).address) == 707
