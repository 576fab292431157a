"""Mergeable buffers to skbs: one buffer or several, num_buffers, coalescing, frag lists; see test_driver_receive.py."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.skb import Skb, alloc_skb, frag_at, skb_at
from netemu.virtio.features import FeatureSet
from tests.driver_kit import (
    ERAS,
    MERGEABLE,
    V4_19,
    V6_1,
    V7_0,
    Rig,
    contents,
    every_era,
    frag_list,
    frags,
    frame,
    free,
    linear,
    vnet_hdr,
)

NEW_SKB = 768
newer_eras = pytest.mark.parametrize("kernel", [V6_1, V7_0])


def _rig(
    kernel: str, features: FeatureSet = MERGEABLE, size: int = 64, *, mtu: int = 1500, hdr_len: int | None = None
) -> Rig:
    rig = Rig(kernel, features, size, mtu=mtu, hdr_len=hdr_len)
    rig.fill()
    return rig


def _part(size: int, seed: int = 0) -> bytes:
    """Bytes of a later buffer, which carries no header."""
    return bytes((at * 5 + seed) & 0xFF for at in range(size))


def _exhaust(rig: Rig, left: int) -> list[Skb]:
    """Take skbs out of the pool until ``left`` are there."""
    taken = []
    while rig.skb_pool.free_count > left:
        taken.append(skb_at(alloc_skb(rig.skb_pool)))
    return taken


# 4.5 mergeable, one buffer


def _one_buffer(kernel: str, size: int, buffer: int) -> tuple[int, int]:
    """Linear bytes and truesize of a frame in one buffer, by the rules of sheet 4.5."""
    if kernel == V4_19:
        return min(size, 128), NEW_SKB + (buffer if size > 128 else 0)
    if size <= 128:
        return size, NEW_SKB
    if buffer - 12 - size >= 320:
        return size, buffer + 256
    return 14, NEW_SKB + buffer


@pytest.mark.parametrize("size", [14, 127, 128, 129, 600, 1204, 1205, 1514, 1524])
@every_era
def test_mergeable_linear_part(kernel: str, size: int) -> None:
    """Sheet 4.5: v4.19 copies 128 bytes; later all up to 128, in place 129 to 1204, else only the MAC header's 14."""
    rig = _rig(kernel)
    skb = rig.receive_frame(frame(size))
    copied, truesize = _one_buffer(kernel, size, 1536)
    assert (len(linear(skb)), skb.truesize) == (copied, truesize)
    assert skb.nr_frags == (1 if size > copied else 0)
    assert contents(skb) == frame(size)
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(
    ("kernel", "buffer", "most"), [(V6_1, 2048, 1716), (V7_0, 2032, 1700)], ids=["6.1: 2048", "7.0: 2032"]
)
def test_the_last_buffer_of_a_block_is_built_in_place_for_longer_frames(kernel: str, buffer: int, most: int) -> None:
    """Sheet 4.5: the same 1514 bytes that are 14 + frag elsewhere are linear there; up to 1716 (2048 - 12 - 320)."""
    for size in (1514, most, most + 1):
        rig = _rig(kernel)
        rig.use_up(20)
        skb = rig.receive_frame(frame(size))
        assert (len(linear(skb)), skb.truesize) == _one_buffer(kernel, size, buffer)
        assert len(linear(skb)) == (size if size <= most else 14)
        assert contents(skb) == frame(size)
        free(skb)
        rig.assert_nothing_lost()


@newer_eras
def test_in_place_threshold_of_2560(kernel: str) -> None:
    """Sheet 4.5: a buffer of 2560 (average 2500) is built in place up to 2228."""
    for size, whole in ((2228, True), (2229, False)):
        rig = Rig(kernel, MERGEABLE, 16)
        rig.rq.min_buf_len = 1518
        rig.rq.mrg_avg_pkt_len = 2500
        rig.fill()
        assert next(rig.capacities()) == 2560
        skb = rig.receive_frame(frame(size))
        assert len(linear(skb)) == (size if whole else 14)
        free(skb)
        rig.assert_nothing_lost()


@pytest.mark.parametrize(("hdr_len", "buffer"), [(20, 1600), (24, 1600)])
@newer_eras
def test_in_place_threshold_of_longer_headers(kernel: str, hdr_len: int, buffer: int) -> None:
    """Sheet 4.5: truesize - hdr_len - len >= 320."""
    most = buffer - hdr_len - 320
    rig = _rig(kernel, hdr_len=hdr_len)
    got = [rig.receive_frame(frame(size)) for size in (most, most + 1)]
    assert [len(linear(skb)) for skb in got] == [most, 14]
    free(*got)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(("length", "delivered"), [(1536, True), (1537, False), (0xFFFFFFFF, False)])
@every_era
def test_mergeable_first_buffer_too_long(kernel: str, length: int, delivered: bool) -> None:
    """Sheet 4.4 step 2, 4.8 "mergeable too long": the buffer's own length is the limit."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr() + frame(60), lengths=(length,))
    got = rig.receive()
    assert len(got) == int(delivered)
    counted = {"packets": 1, "bytes": length - 12}
    if not delivered:
        counted |= {"drops": 1, "rx_length_errors": 1}
        assert rig.reasons() == {"LENGTH_ERROR": 1}
    assert rig.counters() == counted
    free(*got)
    rig.assert_nothing_lost()


@every_era
def test_too_long_drains_the_rest_of_its_frame(kernel: str) -> None:
    """Sheet 4.4 error A: n - 1 more buffers, whose bytes count; the frame after that is received."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=3) + frame(60), _part(100), _part(200), lengths=(1537, 100, 200))
    rig.arrive(vnet_hdr() + frame(70))
    [skb] = rig.receive()
    assert contents(skb) == frame(70)
    assert rig.counters() == {
        "packets": 2,
        "bytes": 1537 - 12 + 100 + 200 + 70,
        "drops": 1,
        "rx_length_errors": 1,
    }
    assert rig.rq.buffers_used == 4
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_draining_that_runs_dry_is_a_second_length_error(kernel: str) -> None:
    """Sheet 4.4 error A, 4.8."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=3) + frame(60), _part(100), lengths=(1537, 100))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "bytes": 1525 + 100, "drops": 1, "rx_length_errors": 2}
    rig.assert_nothing_lost()


# 4.4 mergeable, several buffers


@every_era
def test_adjacent_buffers_become_one_frag(kernel: str) -> None:
    """Sheet 4.4.1 step 3: filled to its end (RX-D-03), the first buffer's frag grows by the second's bytes."""
    rig = _rig(kernel)
    assert rig.arrive_frame(frame(3000)) == 2
    [skb] = rig.receive()
    assert len(linear(skb)) == (128 if kernel == V4_19 else 14)
    assert skb.nr_frags == 1
    assert (skb.len, skb.truesize) == (3000, NEW_SKB + 2 * 1536)
    assert contents(skb) == frame(3000)
    assert rig.counters() == {"packets": 1, "bytes": 3000}
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_buffers_not_filled_to_their_end_stay_apart(kernel: str) -> None:
    """Sheet 4.4.1: "the device is not required to fill buffers"."""
    rig = _rig(kernel)
    skb = rig.receive_one(vnet_hdr(num_buffers=3) + frame(1000), _part(500), _part(7))
    assert [len(part) for part in frags(skb)] == ([872, 500, 7] if kernel == V4_19 else [500, 7])
    assert contents(skb) == frame(1000) + _part(500) + _part(7)
    # v4.19: a fresh skb and three buffers; later: the first buffer with sk_buff, and two buffers.
    assert skb.truesize == (NEW_SKB + 3 * 1536 if kernel == V4_19 else 1536 + 256 + 2 * 1536)
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_buffers_of_two_blocks_stay_apart(kernel: str) -> None:
    """Sheet 4.4.1 step 3: "in the same page": the blocks here lie side by side, so the address alone would match."""
    rig = _rig(kernel)
    rig.use_up(20)
    last = next(rig.capacities())
    whole = frame(last - 12 + 300)
    assert rig.arrive_frame(whole) == 2
    [skb] = rig.receive()
    assert contents(skb) == whole
    assert len(frags(skb)) == 2
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_a_64_kib_frame_collapses_into_three_frags(kernel: str) -> None:
    """Sheet 4.4.1: 43 adjacent buffers of two blocks and a bit."""
    rig = _rig(kernel)
    assert rig.arrive_frame(frame(65549)) == 43
    [skb] = rig.receive()
    assert (skb.nr_frags, skb.frag_list) == (3, 0)
    assert contents(skb) == frame(65549)
    # 42 of the 43 buffers make up two blocks, but for the records of v7.0.
    two_blocks = 2 * (32768 - (16 if kernel == V7_0 else 0))
    assert skb.truesize == NEW_SKB + two_blocks + 1536
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_more_than_17_frags_go_to_a_frag_list(kernel: str) -> None:
    """Sheet 4.4.1 steps 1 and 2: 40 buffers that are not filled; lengths and truesizes are the head's too."""
    rig = _rig(kernel)
    parts = [_part(100, seed) for seed in range(39)]
    skb = rig.receive_one(vnet_hdr(num_buffers=40) + frame(200), *parts)
    more = frag_list(skb)
    # v4.19 needs a frag for the first buffer: 1 + 16, 17, 6; later it is linear: 17, 17, 5.
    assert [skb.nr_frags] + [part.nr_frags for part in more] == ([17, 17, 6] if kernel == V4_19 else [17, 17, 5])
    assert contents(skb) == frame(200) + b"".join(parts)
    assert skb.len == 200 + 3900
    assert skb.data_len == skb.len - (128 if kernel == V4_19 else 200)
    assert [(part.len, part.data_len) for part in more] == [(100 * part.nr_frags, 100 * part.nr_frags) for part in more]
    # The 21st buffer is the enlarged last one of its block.
    buffers = 39 * 1536 + (2032 if kernel == V7_0 else 2048)
    assert skb.truesize == buffers + 2 * NEW_SKB + (NEW_SKB if kernel == V4_19 else 256)
    assert rig.counters() == {"packets": 1, "bytes": 4100}
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_a_full_skb_is_left_even_where_the_buffer_would_coalesce(kernel: str) -> None:
    """Sheet 4.4.1: step 1 comes before step 3; in the new skb the next adjacent buffer coalesces again."""
    rig = _rig(kernel)
    apart = 16 if kernel == V4_19 else 17
    parts = [_part(100, seed) for seed in range(apart - 1)] + [_part(1536, 40), _part(1536, 41), _part(300, 42)]
    assert len(parts) + 1 < 21
    skb = rig.receive_one(vnet_hdr(num_buffers=len(parts) + 1) + frame(200), *parts)
    [part] = frag_list(skb)
    assert (skb.nr_frags, part.nr_frags) == (17, 1)
    assert (part.len, part.truesize) == (1836, NEW_SKB + 2 * 1536)
    assert contents(skb) == frame(200) + b"".join(parts)
    assert skb.len == len(contents(skb))
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(("length", "delivered"), [(0, True), (1, True), (1536, True), (1537, False)])
@every_era
def test_second_buffer_at_its_bounds(kernel: str, length: int, delivered: bool) -> None:
    """Section 13: second buffer of 0, limit and limit + 1 bytes; after the last, the third is drained (error A)."""
    rig = _rig(kernel)
    parts = (vnet_hdr(num_buffers=3) + frame(300), _part(min(length, 1536)), _part(50))
    rig.arrive(*parts, lengths=(312, length, 50))
    got = rig.receive()
    assert len(got) == int(delivered)
    counted = {"packets": 1, "bytes": 300 + length + 50}
    if delivered:
        assert contents(got[0]) == frame(300) + _part(length) + _part(50)
    else:
        counted |= {"drops": 1, "rx_length_errors": 1}
    assert rig.counters() == counted
    free(*got)
    rig.assert_nothing_lost()


@every_era
def test_buffers_missing(kernel: str) -> None:
    """Sheet 4.4 error B, 9 no. 7: what was published too late is parsed as a new frame."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=3) + frame(300), _part(100))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "bytes": 400, "drops": 1, "rx_length_errors": 1}
    assert rig.reasons() == {"BUFFERS_MISSING": 1}
    skb = rig.receive_one(vnet_hdr() + frame(90))
    assert contents(skb) == frame(90)
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("num_buffers", [0, 65535])
@every_era
def test_num_buffers_0_swallows_the_ring(kernel: str, num_buffers: int) -> None:
    """Sheet 4.4, 9 no. 6: all that is pending goes with it: one packet, one drop, one length error. So does 65535."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=num_buffers) + frame(100))
    for size in (60, 70, 80):
        rig.arrive(vnet_hdr() + frame(size))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "bytes": 100 + 72 + 82 + 92, "drops": 1, "rx_length_errors": 1}
    rig.assert_nothing_lost()


@every_era
def test_num_buffers_0_with_a_first_buffer_too_long_takes_no_more(kernel: str) -> None:
    """Sheet 4.4: draining with n = 0 takes nothing."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=0) + frame(100), lengths=(1537,))
    rig.arrive(vnet_hdr() + frame(60))
    [skb] = rig.receive()
    assert contents(skb) == frame(60)
    assert rig.counters() == {"packets": 2, "bytes": 1525 + 60, "drops": 1, "rx_length_errors": 1}
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(("kernel", "left"), [(V4_19, 0), (V6_1, 0), (V7_0, 1)])
def test_num_buffers_0_with_a_later_buffer_too_long(kernel: str, left: int) -> None:
    """Sheet 4.4: n is -1 by then: 65535 in 16 bits, which drains the ring and runs dry; as an int it drains nothing."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=0) + frame(100))
    rig.arrive(vnet_hdr() + frame(60), lengths=(1537,))
    rig.arrive(vnet_hdr() + frame(70))
    got = rig.receive()
    assert len(got) == left
    swallowed = 100 + 1537
    assert rig.counters() == {
        "packets": 1 + left,
        "bytes": swallowed + (70 if left else 82),
        "drops": 1,
        "rx_length_errors": 1 if left else 2,
    }
    free(*got)
    rig.assert_nothing_lost()


@every_era
def test_num_buffers_too_small_leaves_the_rest_as_a_frame(kernel: str) -> None:
    """Section 13: num_buffers 1 for a frame in two buffers: the second is taken for a new frame, header and all."""
    rig = _rig(kernel)
    rest = vnet_hdr() + frame(44)
    rig.arrive(vnet_hdr(num_buffers=1) + frame(200), rest)
    first, second = rig.receive()
    assert (contents(first), contents(second)) == (frame(200), frame(44))
    free(first, second)


@every_era
def test_no_skb_for_the_head_drains_its_frame(kernel: str) -> None:
    """Sheet 4.4 step 4, error A."""
    rig = _rig(kernel)
    rig.skb_pool.refuse = 1
    rig.arrive(vnet_hdr(num_buffers=3) + frame(300), _part(100), _part(200))
    rig.arrive(vnet_hdr() + frame(70))
    [skb] = rig.receive()
    assert contents(skb) == frame(70)
    assert rig.counters() == {"packets": 2, "bytes": 670, "drops": 1}
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_no_skb_for_the_frag_list_drains_its_frame(kernel: str) -> None:
    """Sheet 4.4.1 step 1 fails: the head is freed with all it has, the rest is drained."""
    rig = _rig(kernel)
    taken = _exhaust(rig, 1)
    rig.arrive(vnet_hdr(num_buffers=30) + frame(200), *[_part(100, seed) for seed in range(29)])
    rig.arrive(vnet_hdr() + frame(70))
    [skb] = rig.receive()
    assert contents(skb) == frame(70)
    assert rig.counters() == {"packets": 2, "bytes": 200 + 2900 + 70, "drops": 1}
    assert rig.reasons() == {"NO_MEMORY": 1}
    free(skb, *taken)
    rig.assert_nothing_lost()


@every_era
def test_the_average_learns_from_whole_frames_only(kernel: str) -> None:
    """Sheet 2.4, 4.4 step 6: the assembled length without header; nothing on drops of any kind."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=2) + frame(300))
    assert rig.receive() == []
    rig.arrive(vnet_hdr() + frame(300), lengths=(1537,))
    rig.arrive(vnet_hdr() + frame(300), lengths=(20,))
    assert rig.receive() == []
    assert rig.rq.mrg_avg_pkt_len == 0
    free(rig.receive_frame(frame(3000)))
    assert rig.rq.mrg_avg_pkt_len == 3000
    free(rig.receive_frame(frame(60)))
    assert rig.rq.mrg_avg_pkt_len == (63 * 3000 + 60) // 64


# All of it together


@given(
    kernel=st.sampled_from(ERAS),
    frames=st.lists(
        st.tuples(st.integers(14, 6000), st.lists(st.integers(1, 1536), max_size=24), st.booleans()),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=60, deadline=None)
def test_any_cut_of_a_frame_comes_out_whole(kernel: str, frames: list[tuple[int, list[int], bool]]) -> None:
    """Sheet 4.4: however the device spreads a frame over buffers, its bytes come out in order, and nothing is lost."""
    rig = Rig(kernel, MERGEABLE, 64)
    for size, cuts, fill_first in frames:
        rig.fill()
        whole = frame(size)
        first = min(size, 1524 if fill_first else 200)
        parts = [whole[:first]]
        at = first
        while at < size:
            step = cuts[len(parts) % len(cuts)] if cuts and len(parts) < 50 else 1536
            parts.append(whole[at : at + step])
            at += step
        if len(parts) > 64:
            continue
        skb = rig.receive_one(vnet_hdr(num_buffers=len(parts)) + parts[0], *parts[1:])
        assert contents(skb) == whole
        assert (skb.len, skb.len - skb.data_len) == (size, len(linear(skb)))
        last = [frag_at(skb.frags + n * 24) for n in range(skb.nr_frags)]
        assert all(a.address + a.size != b.address or a.page != b.page for a, b in pairwise(last))
        free(skb)
    assert rig.rq.drops == 0
    rig.assert_nothing_lost()
