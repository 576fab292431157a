"""Guest memory: what an address is worth, for kernels and for Python."""

from __future__ import annotations

import gc
import mmap
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError, NetemuError
from netemu.jit import WildAccessError, allocate, array_of, entry, i64, load32, store32
from netemu.memory import DEFAULT_BASE, GuestMemory, Memory, Region, memory_at, signed, translate

I64_MAX, I64_MIN = 2**63 - 1, -(2**63)

# Three regions far apart, of which the last two touch and the highest ends where signed addresses do.
REGIONS = [(0x1000, 0x2000, 0x7000_0000), (1 << 40, 0x1000, 0x1000), ((1 << 40) + 0x1000, 16, 0x9000_0000)]
HIGH = (I64_MAX - 0xFFF, 0x1000, 0x5000_0000)


@entry
def run_translate(memory: i64, gpa: i64, size: i64) -> i64:
    """`translate` as compiled kernels run it, where sums that are too large wrap."""
    return translate(memory_at(memory), gpa, size)


class Table:
    """A region table with addresses that nobody follows."""

    def __init__(self, regions: list[tuple[int, int, int]]) -> None:
        self._regions = array_of(Region, len(regions))
        for row, (gpa, size, host) in zip(self._regions, regions, strict=True):
            row.gpa, row.size, row.host = gpa, size, host
        self.struct = Memory(regions=self._regions.address, count=len(regions))

    def translate(self, gpa: int, size: int) -> int:
        """The host address, of which plain Python and compiled code have one opinion."""
        plain = int(translate(self.struct, gpa, size))
        assert run_translate(self.struct.address, gpa, size) == plain
        return plain


@pytest.mark.parametrize(
    ("gpa", "size", "host"),
    [
        pytest.param(0x1000, 1, 0x7000_0000, id="first-byte"),
        pytest.param(0x2FFF, 1, 0x7000_1FFF, id="last-byte"),
        pytest.param(0x1000, 0x2000, 0x7000_0000, id="all-of-it"),
        pytest.param(0x1800, 0x1800, 0x7000_0800, id="to-the-end"),
        pytest.param(1 << 40, 0x1000, 0x1000, id="another-region"),
        pytest.param((1 << 40) + 0x1000, 16, 0x9000_0000, id="the-last-region"),
        pytest.param(0x2000, 0, 0x7000_1000, id="nothing-inside"),
        pytest.param(0xFFF, 1, 0, id="below"),
        pytest.param(0xFFF, 2, 0, id="over-the-start"),
        pytest.param(0x3000, 1, 0, id="behind"),
        pytest.param(0x2FFF, 2, 0, id="over-the-end"),
        pytest.param(0x1000, 0x2001, 0, id="longer"),
        pytest.param(0x1000, I64_MAX, 0, id="longest"),
        pytest.param((1 << 40) + 0xFF0, 32, 0, id="over-two-regions-that-touch"),
        pytest.param(0, 0, 0, id="null"),
        pytest.param(-1, 1, 0, id="last-byte-of-64-bits"),
        pytest.param(I64_MIN, 1, 0, id="top-bit"),
        pytest.param(I64_MIN + 0x1000, 16, 0, id="top-bit-over-an-address"),
        pytest.param(I64_MAX, 1, 0, id="last-signed-byte"),
        pytest.param(I64_MAX, I64_MAX, 0, id="sum-overflows"),
        pytest.param(0x1000, -1, 0, id="negative-size"),
        pytest.param(0x1000, I64_MIN, 0, id="most-negative-size"),
        pytest.param(0x3000, -1, 0, id="negative-size-from-behind"),
    ],
)
def test_translate(gpa: int, size: int, host: int) -> None:
    assert Table(REGIONS).translate(gpa, size) == host


@pytest.mark.parametrize(("gpa", "size", "host"), [(I64_MAX, 1, 0x5000_0FFF), (I64_MAX, 2, 0), (I64_MAX, I64_MAX, 0)])
def test_translate_at_the_highest_address(gpa: int, size: int, host: int) -> None:
    assert Table([*REGIONS, HIGH]).translate(gpa, size) == host


def test_a_region_may_lie_at_the_top_of_64_bits() -> None:
    """Its addresses are negative numbers to kernels; nothing wraps around to it or from it."""
    table = Table([(-0x2000, 0x2000, 0x5000_0000), (0, 0x1000, 0x6000_0000)])
    assert table.translate(-0x2000, 1) == 0x5000_0000
    assert table.translate(-1, 1) == 0x5000_1FFF
    assert table.translate(-1, 2) == 0
    assert table.translate(I64_MIN, 1) == 0
    assert table.translate(I64_MAX, 1) == 0
    assert table.translate(-0x2001, 1) == 0
    assert table.translate(0, 0x1000) == 0x6000_0000


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-8, 0x2008)), min_size=1, max_size=20))
def test_the_region_of_the_last_address_is_only_a_hint(addresses: list[tuple[int, int]]) -> None:
    table = Table(REGIONS)
    for nth, offset in addresses:
        gpa = REGIONS[nth][0] + offset
        homes = [host + gpa - start for start, size, host in REGIONS if start <= gpa and gpa + 4 <= start + size]
        assert table.translate(gpa, 4) == (homes[0] if homes else 0)


def test_translate_without_regions() -> None:
    memory = GuestMemory(4096)
    memory.replace_regions([])
    for gpa, size in ((0, 0), (0, 1), (0x1000, 1), (DEFAULT_BASE, 1), (-1, 1), (I64_MIN, 0)):
        assert translate(memory.struct, gpa, size) == 0
        assert run_translate(memory.struct.address, gpa, size) == 0


@given(st.integers(I64_MIN, I64_MAX), st.integers(I64_MIN, I64_MAX))
def test_translate_gives_an_address_exactly_where_one_region_holds_all_bytes(gpa: int, size: int) -> None:
    expected = 0
    for start, length, host in REGIONS:
        if size >= 0 and start <= gpa and gpa + size <= start + length:
            expected = expected or host + gpa - start
    assert Table(REGIONS).translate(gpa, size) == expected


@given(st.integers(0x0F00, 0x3100), st.integers(-10, 0x2200))
def test_translate_near_the_borders(gpa: int, size: int) -> None:
    inside = 0x1000 <= gpa and gpa + size <= 0x3000 and size >= 0
    assert Table(REGIONS).translate(gpa, size) == (0x7000_0000 + gpa - 0x1000 if inside else 0)


# The guest's own memory.


def test_memory_begins_as_zeros_at_its_base() -> None:
    memory = GuestMemory(8192)
    assert memory.regions == [(DEFAULT_BASE, 8192)]
    assert memory.snapshot() == bytes(8192)
    assert GuestMemory(4096, base=0x1000).regions == [(0x1000, 4096)]


def test_what_is_written_is_read_and_kernels_see_it_too() -> None:
    memory = GuestMemory(4096)
    memory.write(DEFAULT_BASE + 10, b"\x01\x02\x03\x04")
    assert memory.read(DEFAULT_BASE + 8, 8) == b"\0\0\x01\x02\x03\x04\0\0"
    host = translate(memory.struct, DEFAULT_BASE + 10, 4)
    assert load32(host) == 0x04030201
    store32(host, 0xAABBCCDD)
    assert memory.read(DEFAULT_BASE + 10, 4) == bytes.fromhex("ddccbbaa")
    assert memory.snapshot() == bytes(10) + bytes.fromhex("ddccbbaa") + bytes(4082)


def test_reading_to_the_last_byte_and_of_nothing() -> None:
    memory = GuestMemory(4096)
    memory.write(DEFAULT_BASE + 4095, b"z")
    assert memory.read(DEFAULT_BASE + 4095, 1) == b"z"
    assert memory.read(DEFAULT_BASE, 0) == b""
    memory.write(DEFAULT_BASE, b"")
    assert memory.read(DEFAULT_BASE, 4096) == bytes(4095) + b"z"


@pytest.mark.parametrize(
    ("gpa", "size"),
    [(DEFAULT_BASE - 1, 1), (DEFAULT_BASE + 4096, 1), (DEFAULT_BASE + 4095, 2), (0, 1), (DEFAULT_BASE, 4097), (-1, 1)],
)
def test_no_byte_outside_is_read_or_written(gpa: int, size: int) -> None:
    memory = GuestMemory(4096)
    with pytest.raises(NetemuError, match="no region of guest memory"):
        memory.read(gpa, size)
    with pytest.raises(NetemuError, match="no region of guest memory"):
        memory.write(gpa, bytes(size))
    with pytest.raises(NetemuError, match="no region of guest memory"):
        memory.host_address(gpa, size)
    assert memory.snapshot() == bytes(4096)


def test_a_negative_size_is_no_size() -> None:
    with pytest.raises(NetemuError):
        GuestMemory(4096).read(DEFAULT_BASE + 100, -1)


def test_host_address_and_translate_agree() -> None:
    memory = GuestMemory(4096)
    for offset in (0, 1, 4095):
        gpa = DEFAULT_BASE + offset
        assert memory.host_address(gpa, 4096 - offset) == translate(memory.struct, gpa, 4096 - offset)


# Dealing memory out.


def test_reserve_deals_out_from_the_bottom_aligned() -> None:
    memory = GuestMemory(4096)
    assert memory.reserve(10) == DEFAULT_BASE
    assert memory.reserve(1) == DEFAULT_BASE + 64
    assert memory.reserve(1, align=2) == DEFAULT_BASE + 66
    assert memory.reserve(100, align=1024) == DEFAULT_BASE + 1024
    assert memory.reserve(0, align=1) == DEFAULT_BASE + 1124


def test_reserve_to_the_last_byte_then_fails() -> None:
    memory = GuestMemory(4096)
    memory.reserve(4000)
    with pytest.raises(NetemuError, match="guest memory is too small: 65 bytes wanted, 64 left"):
        memory.reserve(65)
    assert memory.reserve(64) == DEFAULT_BASE + 4032
    with pytest.raises(NetemuError, match="0 left"):
        memory.reserve(1)


@given(st.lists(st.tuples(st.integers(0, 300), st.sampled_from([1, 2, 16, 64, 256])), max_size=30))
def test_what_is_dealt_out_never_overlaps(wishes: list[tuple[int, int]]) -> None:
    memory = GuestMemory(4096)
    end = DEFAULT_BASE
    for size, align in wishes:
        try:
            start = memory.reserve(size, align)
        except NetemuError:
            # Nothing was lost by asking for too much.
            assert -(-end // align) * align + size > DEFAULT_BASE + 4096
            continue
        assert start % align == 0
        assert start >= end
        end = start + size
        assert end <= DEFAULT_BASE + 4096


def test_allocations_are_zeroed_and_aligned() -> None:
    for align in (1, 64, 4096):
        block = allocate(100, align=align)
        assert block.address % align == 0
        assert (len(block), block.array.tobytes()) == (100, bytes(100))


# Several regions.

LOW, MAPPED, TOP = 0x1000, 0x7F12_3456_7000, 2**64 - 0x2000


def test_regions_far_apart_are_one_memory() -> None:
    memory = GuestMemory.of_regions([(MAPPED, 8192), (LOW, 4096), (TOP, 4096)])
    assert memory.regions == [(MAPPED, 8192), (LOW, 4096), (TOP, 4096)]
    for n, gpa in enumerate([LOW + 4, MAPPED + 8188, TOP + 4092]):
        memory.write(gpa, bytes([n + 1]) * 4)
        assert memory.read(gpa, 4) == bytes([n + 1]) * 4
        host = translate(memory.struct, signed(gpa), 4)
        assert host == memory.host_address(gpa, 4)
        assert load32(host) == 0x0101_0101 * (n + 1)
    assert memory.snapshot() == bytes(8188) + b"\2" * 4 + bytes(4) + b"\1" * 4 + bytes(8180) + b"\3" * 4
    with pytest.raises(NetemuError, match="no region"):
        memory.read(TOP + 4093, 4)


def test_reserve_fills_one_region_after_the_other_and_cuts_across_none() -> None:
    memory = GuestMemory.of_regions([(LOW, 4096), (LOW + 4096, 8192)])
    assert memory.reserve(3000) == LOW
    assert memory.reserve(3000) == LOW + 4096
    assert memory.reserve(1000) == LOW + 3008
    with pytest.raises(NetemuError, match="6000 bytes wanted, 5184 left"):
        memory.reserve(6000)


def test_reserve_may_take_each_region_in_turn() -> None:
    memory = GuestMemory.of_regions([(LOW, 4096), (MAPPED, 4096), (TOP, 4096)], spread=True)
    assert [memory.reserve(64) for _ in range(4)] == [LOW, MAPPED, TOP, LOW + 64]
    assert memory.reserve(4096 - 64) == MAPPED + 64
    assert memory.reserve(64) == TOP + 64


def test_a_region_can_be_a_mapping_that_somebody_else_has_too() -> None:
    """A memfd, as a real peer shares it: what one side writes the other reads, and nothing is copied."""
    handle = os.memfd_create("guest")
    try:
        os.truncate(handle, 8192)
        ours, theirs = mmap.mmap(handle, 8192), mmap.mmap(handle, 8192)
    finally:
        os.close(handle)
    memory = GuestMemory.of_regions([(MAPPED, ours)])
    theirs[100:104] = b"\x01\x02\x03\x04"
    assert memory.read(MAPPED + 100, 4) == b"\x01\x02\x03\x04"
    host = translate(memory.struct, MAPPED + 100, 4)
    assert load32(host) == 0x0403_0201
    store32(host, 0x0A0B_0C0D)
    assert theirs[100:104] == b"\x0d\x0c\x0b\x0a"


def test_the_book_of_memory_knows_a_mapping_for_as_long_as_it_is_a_region() -> None:
    block = mmap.mmap(-1, 4096)
    memory = GuestMemory.of_regions([(LOW, block)])
    host = memory.host_address(LOW, 4096)
    with pytest.raises(WildAccessError):
        load32(host + 4093)
    memory.replace_regions([(LOW, 4096)])
    gc.collect()
    with pytest.raises(WildAccessError):
        load32(host)


@pytest.mark.parametrize(
    ("regions", "why"),
    [
        ([(LOW, 4096), (LOW + 4095, 4096)], "overlaps"),
        ([(LOW, 4096), (0, 8192)], "overlaps"),
        ([(2**64 - 4095, 4096)], "leaves the 64-bit"),
        ([(-1, 1)], "leaves the 64-bit"),
        ([(2**63 - 1, 2)], "both sides"),
        ([(LOW, bytes(4096))], "cannot be memory: its bytes cannot be written"),
        ([(LOW, "text")], "cannot be memory"),
    ],
)
def test_regions_that_cannot_be_are_refused(regions: list[tuple[int, object]], why: str) -> None:
    memory = GuestMemory(4096)
    with pytest.raises(ConfigError, match=why):
        memory.replace_regions(regions)
    assert memory.regions == [(DEFAULT_BASE, 4096)]


def test_regions_are_replaced_only_while_nobody_holds_addresses() -> None:
    memory, holder = GuestMemory(4096), object()
    memory.hold(holder)
    memory.hold(holder)
    with pytest.raises(NetemuError, match="in use"):
        memory.replace_regions([(LOW, 4096)])
    memory.release(holder)
    memory.release(holder)
    memory.replace_regions([(LOW, 4096)])
    assert memory.reserve(64) == LOW
    assert translate(memory.struct, DEFAULT_BASE, 1) == 0
