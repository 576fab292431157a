"""skbs and checksums on random layouts: bytes, pointers and sums against plain Python, and every page given back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.checksum import csum_fold, csum_partial, csum_swap
from netemu.jit import allocate, entry, i64
from netemu.memory import GuestMemory
from netemu.pages import PAGE_SIZE, Pages, alloc_pages, get_page, page_at
from netemu.skb import (
    Skb,
    Skbs,
    alloc_skb,
    kfree_skb,
    skb_add_rx_frag,
    skb_at,
    skb_checksum,
    skb_checksum_ok,
    skb_copy_bits,
    skb_header_pointer,
)
from tests.skb_kit import SkbKit, layouts

kit = SkbKit(count=8)


@entry
def compiled_copy(skb: i64, offset: i64, target: i64, size: i64) -> i64:
    return int(skb_copy_bits(skb_at(skb), offset, target, size))


@entry
def compiled_pointer(skb: i64, offset: i64, size: i64, scratch: i64) -> i64:
    return int(skb_header_pointer(skb_at(skb), offset, size, scratch))


@entry
def compiled_checksum(skb: i64, offset: i64, size: i64, total: i64) -> i64:
    return int(csum_fold(skb_checksum(skb_at(skb), offset, size, total)))


@entry
def compiled_partial(address: i64, size: i64, total: i64) -> i64:
    return int(csum_partial(address, size, total))


@entry
def compiled_free(skb: i64) -> i64:
    kfree_skb(skb)
    return 0


def ones_complement_sum(data: bytes) -> int:
    """Little-endian 16-bit words, an odd byte as the low half of one, with end-around carries (RFC 1071 section 2)."""
    total = sum(struct.unpack(f"<{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def same_sum(one: int, other: int) -> bool:
    """Equal in one's complement, where 0 and 0xFFFF are both zero."""
    return one % 0xFFFF == other % 0xFFFF


@st.composite
def cuts(draw: st.DrawFn) -> tuple[bytes, dict[str, object], int, int]:
    """A frame, its layout, and a stretch of it."""
    frame = draw(st.binary(min_size=14, max_size=400))
    offset = draw(st.integers(0, len(frame)))
    return frame, draw(layouts()), offset, draw(st.integers(0, len(frame) - offset))


@settings(max_examples=300, deadline=None)
@given(cuts())
def test_copy_bits(cut: tuple[bytes, dict[str, object], int, int]) -> None:
    frame, layout, offset, size = cut
    skb = kit.build(frame, **layout)  # type: ignore[arg-type]
    target = allocate(max(size, 1), align=1)
    for copy in (compiled_copy, lambda skb, *rest: skb_copy_bits(skb_at(skb), *rest)):
        target.array[:] = 0
        assert copy(skb.address, offset, target.address, size) == 0
        assert target.array[:size].tobytes() == frame[offset : offset + size]


@given(st.integers(-5, 60), st.integers(-5, 60))
def test_copy_bits_of_more_than_there_is(offset: int, size: int) -> None:
    skb = kit.build(bytes(range(40)), linear=14, pieces=(5, 6))
    target = allocate(64)
    there = 0 <= offset and 0 <= size and offset + size <= 40
    assert skb_copy_bits(skb, offset, target.address, size) == (0 if there else -1)
    assert compiled_copy(skb.address, offset, target.address, size) == (0 if there else -1)


@settings(max_examples=300, deadline=None)
@given(cuts(), st.integers(1, 60))
def test_header_pointer(cut: tuple[bytes, dict[str, object], int, int], size: int) -> None:
    frame, layout, offset, _ = cut
    skb = kit.build(frame, **layout)  # type: ignore[arg-type]
    scratch = allocate(size, align=1)
    for find in (compiled_pointer, lambda skb, *rest: skb_header_pointer(skb_at(skb), *rest)):
        address = find(skb.address, offset, size, scratch.address)
        if offset + size > len(frame):
            assert address == 0
            continue
        found = kit.read(address, size) if address != scratch.address else scratch.array.tobytes()
        assert found == frame[offset : offset + size]


def test_header_pointer_copies_only_what_straddles() -> None:
    frame = bytes(range(60))
    skb = kit.build(frame, linear=20, pieces=(20, 20))
    scratch = allocate(16)
    assert skb_header_pointer(skb, 4, 16, scratch.address) == skb.data + 4
    assert skb_header_pointer(skb, 20, 16, scratch.address) not in (0, scratch.address)
    for offset in (12, 30):
        assert skb_header_pointer(skb, offset, 16, scratch.address) == scratch.address
        assert scratch.array.tobytes() == frame[offset : offset + 16]


@settings(max_examples=300, deadline=None)
@given(cuts(), st.integers(0, 0xFFFF_FFFF))
def test_checksum_of_a_stretch(cut: tuple[bytes, dict[str, object], int, int], start: int) -> None:
    frame, layout, offset, size = cut
    skb = kit.build(frame, **layout)  # type: ignore[arg-type]
    expected = ones_complement_sum(frame[offset : offset + size]) + start
    assert same_sum(csum_fold(skb_checksum(skb, offset, size, start)), expected)
    assert same_sum(compiled_checksum(skb.address, offset, size, start), expected)


@pytest.mark.parametrize("linear", [14, 15, 33, 60])
def test_checksum_ok(linear: int) -> None:
    # the example of RFC 1071 section 3: 0001 f203 f4f5 f6f7 sum to ddf2; its complement completes them
    frame = bytes(14) + bytes.fromhex("0001f203f4f5f6f7") + bytes.fromhex("220d")
    skb = kit.build(frame, linear=linear, pieces=(1, 2, 3))
    assert skb_checksum_ok(skb, 14, 10, 0) == 1
    assert skb_checksum_ok(skb, 14, 10, 1) == 0
    assert skb_checksum_ok(skb, 14, 8, 0) == 0


class TestChecksum:
    def test_rfc_1071_example(self) -> None:
        data = allocate(8)
        data.array[:] = bytearray.fromhex("0001f203f4f5f6f7")
        assert csum_fold(compiled_partial(data.address, 8, 0)) == 0xF2DD  # 0xddf2 in network order

    @given(st.binary(max_size=100), st.integers(0, 7), st.integers(0, 1 << 40))
    def test_any_bytes_anywhere(self, data: bytes, skip: int, start: int) -> None:
        block = allocate(len(data) + 8)
        block.array[skip : skip + len(data)] = bytearray(data)
        block.array[skip + len(data) :] = 0xAA
        expected = ones_complement_sum(data) + start
        for partial in (compiled_partial, csum_partial):
            assert same_sum(csum_fold(partial(block.address + skip, len(data), start)), expected)

    @pytest.mark.parametrize("size", [65_535, 262_144])
    def test_many_bytes_of_all_ones(self, size: int) -> None:
        block = allocate(size, align=1)
        block.array[:] = 0xFF
        # whole words of all ones are zero in one's complement; an odd one more is 0xff
        assert same_sum(csum_fold(compiled_partial(block.address, size, 0)), 0xFF * (size % 2))

    @given(st.integers(0, (1 << 62) - 1))
    def test_fold(self, total: int) -> None:
        assert same_sum(csum_fold(total), total)
        assert 0 <= csum_fold(total) <= 0xFFFF

    @given(st.binary(min_size=1, max_size=50))
    def test_swap_is_a_shift_by_one_byte(self, data: bytes) -> None:
        assert same_sum(csum_swap(ones_complement_sum(data)), ones_complement_sum(b"\x00" + data))


class TestPool:
    def test_a_new_skb_is_empty_and_its_head_is_its_own(self) -> None:
        skbs = Skbs(GuestMemory(1 << 16), 2)
        first, second = skb_at(alloc_skb(skbs.pool)), skb_at(alloc_skb(skbs.pool))
        assert first.head != second.head
        assert first.data == first.head + 64
        assert (first.len, first.data_len, first.nr_frags, first.frag_list, first.head_page) == (0, 0, 0, 0, 0)
        assert alloc_skb(skbs.pool) == 0
        assert skbs.pool.alloc_failed == 1

    def test_allocations_are_refused_as_often_as_told(self) -> None:
        skbs = Skbs(GuestMemory(1 << 16), 2)
        skbs.pool.refuse = 2
        assert [alloc_skb(skbs.pool) != 0 for _ in range(3)] == [False, False, True]
        assert (skbs.pool.refuse, skbs.pool.alloc_failed, skbs.pool.free_count) == (0, 2, 1)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.lists(st.integers(0, 3), max_size=17), min_size=1, max_size=4), st.booleans(), st.booleans())
    def test_free_gives_back_every_page(self, frags: list[list[int]], in_place: bool, compiled: bool) -> None:
        memory = GuestMemory(1 << 20)
        pages, skbs = Pages(memory, 8, 0), Skbs(memory, 6)
        taken = [alloc_pages(pages.pool) for _ in range(5)]
        chain = [skb_at(alloc_skb(skbs.pool)) for _ in frags]
        head = chain[0]
        if in_place:
            head.head_page = taken[4]
            get_page(page_at(taken[4]))
        for skb, numbers in zip(chain, frags, strict=True):
            for number in numbers:
                page = page_at(taken[number])
                get_page(page)
                skb_add_rx_frag(skb, taken[number], page.address, 100, PAGE_SIZE)
        assert head.len == head.data_len == 100 * len(frags[0])
        for before, after in zip([*chain], chain[1:], strict=False):
            if before is head:
                head.frag_list = after.address
            else:
                before.next = after.address
        held = [1 + sum(numbers.count(number) for numbers in frags) for number in range(4)]
        assert [page_at(page).refcount for page in taken] == [*held, 1 + in_place]
        if compiled:
            compiled_free(head.address)
        else:
            kfree_skb(head.address)
        assert [page_at(page).refcount for page in taken] == [1] * 5
        assert skbs.pool.free_count == skbs.pool.total
        assert len({alloc_skb(skbs.pool) for _ in range(6)}) == 6

    def test_the_last_reference_returns_the_page(self) -> None:
        memory = GuestMemory(1 << 16)
        pages, skbs = Pages(memory, 2, 0), Skbs(memory, 1)
        page = alloc_pages(pages.pool)
        skb: Skb = skb_at(alloc_skb(skbs.pool))
        skb_add_rx_frag(skb, page, page_at(page).address, 10, PAGE_SIZE)
        assert pages.pool.free_count == 1
        kfree_skb(skb.address)
        assert pages.pool.free_count == 2
