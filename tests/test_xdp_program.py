"""What an XDP program can do with a frame: the helpers' rules, both sides of each bound, and nothing outside of it."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.jit import Buffer, allocate, array_of
from netemu.memory import GuestMemory
from netemu.pages import Pages, alloc_pages, page_at
from netemu.skb import MAX_SKB_FRAGS, Frag
from netemu.xdp import (
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    XdpBuff,
    XdpCounters,
    XdpProgram,
    xdp_adjust_head,
    xdp_adjust_meta,
    xdp_adjust_tail,
    xdp_byte,
    xdp_count,
    xdp_length,
    xdp_load8,
    xdp_load16be,
    xdp_load32be,
    xdp_program,
    xdp_redirect,
    xdp_store8,
    xdp_store16be,
    xdp_store32be,
    xdp_store_meta,
)

HEADROOM, LENGTH, TAILROOM = 256, 100, 200
FRAME = bytes(range(LENGTH))
XDP_FRAME = 40


class Bench:
    """A frame of 100 bytes in a block of exactly its room, so that a checked access cannot leave it."""

    def __init__(self, *, meta_max: int = 252, may_grow: int = 1, frags: tuple[bytes, ...] = ()) -> None:
        self.block: Buffer = allocate(HEADROOM + LENGTH + TAILROOM, align=1)
        self.block.array[HEADROOM : HEADROOM + LENGTH] = bytearray(FRAME)
        self.block.array[HEADROOM + LENGTH :] = 0xEE
        start = self.block.address
        self.frags = array_of(Frag, MAX_SKB_FRAGS)
        self.memory = GuestMemory(1 << 20)
        self.pages = Pages(self.memory, 8, 0)
        self.ctx = XdpBuff(
            data_hard_start=start,
            data=start + HEADROOM,
            data_meta=start + HEADROOM,
            data_end=start + HEADROOM + LENGTH,
            data_hard_end=start + HEADROOM + LENGTH + TAILROOM,
            meta_max=meta_max,
            may_grow=may_grow,
            frags=self.frags.address,
        )
        for at, data in enumerate(frags):
            page = alloc_pages(self.pages.pool)
            ctypes.memmove(page_at(page).address, data, len(data))
            frag = self.frags[at]
            frag.address, frag.size, frag.page = page_at(page).address, len(data), page
            self.ctx.nr_frags += 1
            self.ctx.frags_size += len(data)

    @property
    def frame(self) -> bytes:
        return ctypes.string_at(self.ctx.data, self.ctx.data_end - self.ctx.data)


LOADS = [(xdp_load8, 1), (xdp_load16be, 2), (xdp_load32be, 4)]
STORES = [(xdp_store8, 1), (xdp_store16be, 2), (xdp_store32be, 4)]


@pytest.mark.parametrize(("load", "size"), LOADS)
def test_loads_end_with_the_frame(load: object, size: int) -> None:
    bench = Bench()
    ctx = bench.ctx
    assert callable(load)
    for offset in (0, 7, LENGTH - size):
        assert load(ctx, offset) == int.from_bytes(FRAME[offset : offset + size], "big")
    for offset in (-1, LENGTH - size + 1, LENGTH, 1 << 40, -(1 << 40)):
        assert load(ctx, offset) == -1


@pytest.mark.parametrize(("store", "size"), STORES)
def test_stores_end_with_the_frame(store: object, size: int) -> None:
    assert callable(store)
    for offset in (0, LENGTH - size):
        bench = Bench()
        assert store(bench.ctx, offset, 0xF1F2F3F4) == 0
        value = (0xF1F2F3F4).to_bytes(4, "big")[4 - size :]
        assert bench.frame == FRAME[:offset] + value + FRAME[offset + size :]
    for offset in (-1, LENGTH - size + 1, 1 << 40):
        bench = Bench()
        assert store(bench.ctx, offset, 1) == -1
        assert bench.frame == FRAME


@pytest.mark.parametrize(
    ("delta", "done"),
    [(0, True), (-216, True), (-217, False), (86, True), (87, False), (-(1 << 40), False), (1 << 40, False)],
)
def test_adjust_head(delta: int, done: bool) -> None:
    """The 40 bytes of a struct xdp_frame stay free of 256; at least 14 bytes of 100 remain."""
    bench = Bench()
    before = bench.ctx.to_dict()
    assert xdp_adjust_head(bench.ctx, delta) == (0 if done else -1)
    if done:
        assert bench.ctx.data - before["data"] == delta
        assert bench.ctx.data_meta == bench.ctx.data
        assert bench.frame[max(0, -delta) :] == FRAME[max(0, delta) :]
    else:
        assert bench.ctx.to_dict() == before


@pytest.mark.parametrize("delta", [-8, -1, 1, 5])
def test_metadata_moves_with_the_head(delta: int) -> None:
    bench = Bench()
    assert xdp_adjust_meta(bench.ctx, -12) == 0
    for offset in (0, 4, 8):
        assert xdp_store_meta(bench.ctx, offset, 0xA0A0A000 + offset) == 0
    assert xdp_adjust_head(bench.ctx, delta) == 0
    assert bench.ctx.data - bench.ctx.data_meta == 12
    assert ctypes.string_at(bench.ctx.data_meta, 12) == bytes.fromhex("a0a0a000a0a0a004a0a0a008")
    assert bench.frame[max(0, -delta) :] == FRAME[max(0, delta) :]
    limit = -(HEADROOM + delta - XDP_FRAME - 12)
    assert xdp_adjust_head(bench.ctx, limit - 1) == -1
    assert xdp_adjust_head(bench.ctx, limit) == 0


@pytest.mark.parametrize(
    ("meta_max", "delta", "done"),
    [
        (0, -4, False),
        (0, 0, False),
        (32, -32, True),
        (32, -36, False),
        (32, -3, False),
        (252, -212, True),
        (252, -216, True),
        (252, -220, False),
        (252, 4, False),
    ],
)
def test_adjust_meta(meta_max: int, delta: int, done: bool) -> None:
    """Multiples of 4, up to 32 bytes or 252, behind the 40 of a struct xdp_frame; v4.19's driver has none."""
    bench = Bench(meta_max=meta_max)
    assert xdp_adjust_meta(bench.ctx, delta) == (0 if done else -1)
    assert bench.ctx.data - bench.ctx.data_meta == (-delta if done else 0)


def test_metadata_is_written_within_its_bounds() -> None:
    bench = Bench()
    assert xdp_store_meta(bench.ctx, 0, 1) == -1
    assert xdp_adjust_meta(bench.ctx, -8) == 0
    assert [xdp_store_meta(bench.ctx, offset, 1) for offset in (-1, 0, 4, 5)] == [-1, 0, 0, -1]


@pytest.mark.parametrize(("delta", "done"), [(-86, True), (-87, False), (0, True), (200, True), (201, False)])
def test_adjust_tail(delta: int, done: bool) -> None:
    """14 bytes remain; what is added is zeros, and ends where the buffer's shared info begins."""
    bench = Bench()
    assert xdp_adjust_tail(bench.ctx, delta) == (0 if done else -1)
    wanted = (FRAME + bytes(max(0, delta)))[: LENGTH + delta] if done else FRAME
    assert bench.frame == wanted


def test_frames_grow_since_5_8() -> None:
    bench = Bench(may_grow=0)
    assert xdp_adjust_tail(bench.ctx, 1) == -1
    assert xdp_adjust_tail(bench.ctx, -1) == 0


@pytest.mark.parametrize(
    ("delta", "length", "sizes"),
    [
        (-1, 159, [20, 39]),
        (-39, 121, [20, 1]),
        (-40, 120, [20]),
        (-60, 100, []),
        (-61, 99, []),
        (-146, 14, []),
        (-147, 160, [20, 40]),
        (1, 160, [20, 40]),
    ],
)
def test_the_tail_of_a_frame_in_several_buffers(delta: int, length: int, sizes: list[int]) -> None:
    """Frags go from the last one on, their pages with them; such a frame does not grow."""
    bench = Bench(frags=(b"a" * 20, b"b" * 40))
    assert xdp_length(bench.ctx) == 160
    assert xdp_adjust_tail(bench.ctx, delta) == (0 if length != 160 else -1)
    assert xdp_length(bench.ctx) == length
    assert [bench.frags[at].size for at in range(bench.ctx.nr_frags)] == sizes
    assert bench.pages.pool.free_count == 8 - len(sizes)


def test_bytes_of_all_buffers() -> None:
    bench = Bench(frags=(b"abc", b"de"))
    whole = FRAME + b"abcde"
    assert [xdp_byte(bench.ctx, offset) for offset in range(len(whole))] == list(whole)
    assert (xdp_byte(bench.ctx, -1), xdp_byte(bench.ctx, len(whole))) == (-1, -1)


@given(st.lists(st.tuples(st.sampled_from(["head", "tail", "meta", "store"]), st.integers(-300, 300)), max_size=12))
def test_nothing_leaves_the_buffer(steps: list[tuple[str, int]]) -> None:
    """Any series of calls: a wild access would raise, and the places stay in order."""
    bench = Bench()
    ctx = bench.ctx
    for what, number in steps:
        if what == "head":
            xdp_adjust_head(ctx, number)
        elif what == "tail":
            xdp_adjust_tail(ctx, number)
        elif what == "meta":
            xdp_adjust_meta(ctx, number)
        else:
            xdp_store32be(ctx, number, number)
            xdp_store_meta(ctx, number, number)
        assert ctx.data_hard_start + XDP_FRAME <= ctx.data_meta <= ctx.data <= ctx.data_end - 14
        assert ctx.data_end <= ctx.data_hard_end


def test_redirecting_names_a_target() -> None:
    ctx = XdpBuff()
    assert xdp_redirect(ctx, 7) == XDP_REDIRECT
    assert ctx.redirect_target == 7


HITS = XdpCounters(4)
HITS_AT = HITS.address


@xdp_program
def counting(ctx: XdpBuff) -> int:
    xdp_count(HITS_AT, xdp_load8(ctx, 0) & 3)
    return XDP_PASS if xdp_length(ctx) > 50 else XDP_TX


@xdp_program(frags=True)
def with_frags(_ctx: XdpBuff) -> int:
    return XDP_PASS


def test_a_program_is_a_function_still() -> None:
    HITS.values[:] = 0
    bench = Bench()
    assert counting(bench.ctx) == XDP_PASS
    assert list(HITS.values) == [1, 0, 0, 0]
    assert (counting.name, counting.frags, with_frags.frags) == ("counting", False, True)
    assert isinstance(with_frags, XdpProgram)


def test_what_numba_does_not_know_is_refused_in_words() -> None:
    """A program that is no kernel: what is wrong is said, and it is no traceback."""

    @xdp_program
    def no_kernel(_ctx: XdpBuff) -> int:
        return len({"a": print})

    with pytest.raises(ConfigError, match="XDP program no_kernel is no kernel"):
        no_kernel.hook()
