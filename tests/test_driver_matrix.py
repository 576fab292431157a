"""Section 13 of the fact sheet, row by row: each mode, header, kernel and length, with what the sheet says comes of it.

Expectations are the sheet's rules over its constants: 1518 for small buffers, pages of 4096 behind 16 or 32 bytes for
big ones, 1536 for mergeable ones (1600 with a header of 20, which 4.19 does not count), 128 bytes copied, 14 bytes
copied, 320 for skb_shared_info.
"""

from __future__ import annotations

import pytest

from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import (
    BIG,
    MERGEABLE,
    SMALL,
    V4_19,
    V7_0,
    Rig,
    contents,
    frag_list,
    frags,
    frame,
    free,
    linear,
    vnet_hdr,
)

LEGACY = FeatureSet.of(f.VERSION_1)
MODES = {"small": SMALL, "big": BIG, "mergeable": MERGEABLE}
LENGTHS = (13, 14, 60, 128, 129, 1204, 1205, 1514, 1518, 1519, 9014, 65549)
BLOCK = 32768
SHARED_INFO = 320

# MRG_RXBUF has a header of at least 12 bytes.
ROWS = [
    (mode, hdr_len, kernel)
    for mode in MODES
    for hdr_len in (10, 12, 20)
    for kernel in (V4_19, V7_0)
    if (mode, hdr_len) != ("mergeable", 10)
]


def rig_of(mode: str, hdr_len: int, kernel: str, size: int = 64) -> Rig:
    features = MODES[mode] - LEGACY if hdr_len == 10 else MODES[mode]
    rig = Rig(kernel, features, size, hdr_len=hdr_len if hdr_len == 20 else None)
    assert rig.vi.hdr_len == hdr_len
    rig.fill()
    return rig


def linear_part(kernel: str, length: int, room: int) -> int:
    """Sheet 4.5: bytes that page_to_skb has in the linear part, where the buffer has ``room`` bytes for the frame."""
    if kernel == V4_19:
        return min(length, 128)
    if length <= 128 or room - length >= SHARED_INFO:
        return length
    return 14


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("mode", "hdr_len", "kernel"), ROWS)
def test_every_length(mode: str, hdr_len: int, kernel: str, length: int) -> None:
    """Section 13, first row."""
    rig = rig_of(mode, hdr_len, kernel)
    data = frame(length)
    if mode == "small" and length > 1518:
        # A buffer does not hold it: the device claims that it does.
        rig.arrive(vnet_hdr(size=hdr_len) + data[:1518], lengths=(hdr_len + length,))
    else:
        rig.arrive_frame(data)
    got = rig.receive()
    if length < 14:
        assert got == []
        assert rig.counters() == {"packets": 1, "rx_length_errors": 1}
    elif mode == "small" and length > 1518 and kernel == V7_0:
        assert got == []
        assert rig.counters() == {"packets": 1, "bytes": length, "drops": 1, "rx_length_errors": 1}
    else:
        [skb] = got
        assert rig.counters() == {"packets": 1, "bytes": length}
        if mode == "small":
            # The first of a block; what lies behind the block is not there to be read.
            assert (skb.len, skb.data_len, skb.nr_frags) == (min(length, BLOCK - 64 - hdr_len), 0, 0)
            assert linear(skb)[:1518] == data[:1518]
        else:
            padded = 16 if kernel == V4_19 else 32
            buffer = 1600 if (hdr_len, kernel) == (20, V7_0) else 1536
            part = linear_part(kernel, length, 4096 - padded if mode == "big" else buffer - hdr_len)
            if mode == "mergeable" and length > buffer - hdr_len:
                part = linear_part(kernel, buffer - hdr_len, buffer - hdr_len)
            assert len(linear(skb)) == part
            assert contents(skb) == data
            if mode == "big":
                rest = length - part
                first = min(rest, 4096 - padded - part)
                assert [len(frag) for frag in frags(skb)] == [
                    size for size in (first, *[4096] * ((rest - first) // 4096), (rest - first) % 4096) if size
                ]
            assert frag_list(skb) == []
        free(skb)
    rig.assert_nothing_lost()


PARTS = (1536, 1536, 700)
BEHIND = 72


@pytest.mark.parametrize("kernel", [V4_19, V7_0])
@pytest.mark.parametrize(
    ("num_buffers", "lengths", "counters"),
    [
        # 0 and too many: all that the ring holds is swallowed, and one frame is dropped (sheet 4.4, section 9 no. 6).
        (0, [], {"packets": 1, "bytes": 1524 + 1536 + 700 + 72 + 72, "drops": 1, "rx_length_errors": 1}),
        (65535, [], {"packets": 1, "bytes": 1524 + 1536 + 700 + 72 + 72, "drops": 1, "rx_length_errors": 1}),
        # Too few: what is left is taken for frames of their own, zeros for headers.
        (1, [1524, 1524, 688, 60, 60], {"packets": 5, "bytes": 1524 + 1524 + 688 + 60 + 60}),
        (2, [1524 + 1536, 688, 60, 60], {"packets": 4, "bytes": 1524 + 1536 + 688 + 60 + 60}),
        (3, [1524 + 1536 + 700, 60, 60], {"packets": 3, "bytes": 1524 + 1536 + 700 + 60 + 60}),
        # One too many: the next frame goes with it, its header as data.
        (4, [1524 + 1536 + 700 + 72, 60], {"packets": 2, "bytes": 1524 + 1536 + 700 + 72 + 60}),
    ],
)
def test_every_num_buffers(kernel: str, num_buffers: int, lengths: list[int], counters: dict[str, int]) -> None:
    """Section 13, second row: a frame over three buffers, two short ones behind it."""
    rig = rig_of("mergeable", 12, kernel)
    later = [b"\0\0\0\0\0\0\0\0\0\0\1\0" + bytes(size - 12) for size in PARTS[1:]]
    rig.arrive(
        vnet_hdr(num_buffers=num_buffers) + frame(1524), *later, vnet_hdr() + frame(60, 1), vnet_hdr() + frame(60, 2)
    )
    got = rig.receive()
    assert [skb.len for skb in got] == lengths
    assert rig.counters() == counters
    free(*got)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("kernel", [V4_19, V7_0])
@pytest.mark.parametrize(
    ("second", "length", "counters"),
    [
        (0, 1524, {"packets": 1, "bytes": 1524}),
        (1536, 1524 + 1536, {"packets": 1, "bytes": 1524 + 1536}),
        (1537, None, {"packets": 1, "bytes": 1524 + 1537, "drops": 1, "rx_length_errors": 1}),
    ],
)
def test_a_second_buffer_of_any_length(kernel: str, second: int, length: int | None, counters: dict[str, int]) -> None:
    """Section 13, second row: 0, the limit, and one more."""
    rig = rig_of("mergeable", 12, kernel)
    rig.arrive(vnet_hdr(num_buffers=2) + frame(1524), bytes(min(second, 1536)), lengths=(1536, second))
    got = rig.receive()
    assert [skb.len for skb in got] == ([] if length is None else [length])
    assert rig.counters() == counters
    free(*got)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel", [V4_19, V7_0])
@pytest.mark.parametrize(("pending", "first", "over"), [(63, 63, True), (64, 64, False), (65, 64, False)])
def test_every_budget(mode: str, kernel: str, pending: int, first: int, over: bool) -> None:
    """Section 13, fourth row: a poll that has used up its budget has not completed."""
    rig = rig_of(mode, 12, kernel, 128)
    rig.open()
    rig.poll()
    for n in range(pending):
        rig.arrive_frame(frame(60, n))
    rig.napi.scheduled = 1
    assert rig.poll() == first
    assert rig.napi.scheduled == int(not over)
    got = rig.collect()
    if not over:
        assert rig.poll() == pending - first
        assert rig.napi.scheduled == 0
        got += rig.collect()
    assert [contents(skb) for skb in got] == [frame(60, n) for n in range(pending)]
    free(*got)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("kernel", [V4_19, V7_0])
@pytest.mark.parametrize("mode", MODES)
def test_the_used_index_wraps_amid_a_frame(mode: str, kernel: str) -> None:
    """Section 13, fifth row: frames before, over and behind 65535 come up alike."""
    rig = rig_of(mode, 12, kernel, 128)
    start = 65534
    # As after that many buffers: all of those in the ring stand where they stood.
    rig.vq.avail_idx_shadow = (rig.vq.avail_idx_shadow + start) & 0xFFFF
    rig.vq.last_used_idx = start
    entries = [rig.rx.avail_entry(at) for at in range(128)]
    for at, head in enumerate(entries):
        rig.memory.write(rig.rx.avail + 4 + 2 * ((at + start) % 128), head.to_bytes(2, "little"))
    rig.memory.write(rig.rx.avail + 2, rig.vq.avail_idx_shadow.to_bytes(2, "little"))
    rig.rx.last_avail = rig.rx.next_used = start
    rig.rx.set_used_idx(start)
    length = 1514 if mode == "small" else 4000
    for n in range(4):
        rig.arrive_frame(frame(length, n))
    got = rig.receive()
    assert [contents(skb) for skb in got] == [frame(length, n) for n in range(4)]
    assert rig.vq.last_used_idx < start
    free(*got)
    rig.assert_nothing_lost()
