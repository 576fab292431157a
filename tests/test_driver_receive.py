"""From used buffers to skbs: each receive mode, its checks and its counters, byte for byte.

"Sheet" is the project's fact sheet on Linux's virtio_net.c; lengths, thresholds and truesizes are from its tables or
worked out by hand from its constants: a header of 12, buffers of 1536 bytes, 320 for skb_shared_info, 256 for sk_buff,
and 64 + 128 + 320 + 256 = 768 for a fresh skb.
"""

from __future__ import annotations

import ctypes

import pytest

from netemu.pages import page_at
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from tests.driver_kit import (
    BASE,
    BIG,
    BIG_DIRECT,
    MERGEABLE,
    SMALL,
    V4_19,
    V6_1,
    V7_0,
    Rig,
    contents,
    every_era,
    frags,
    frame,
    free,
    linear,
    vnet_hdr,
)

NEW_SKB = 768
newer_eras = pytest.mark.parametrize("kernel", [V6_1, V7_0])
every_mode = pytest.mark.parametrize("features", [SMALL, MERGEABLE, BIG], ids=["small", "mrg", "big"])


def _rig(
    kernel: str, features: FeatureSet = MERGEABLE, size: int = 64, *, mtu: int = 1500, hdr_len: int | None = None
) -> Rig:
    rig = Rig(kernel, features, size, mtu=mtu, hdr_len=hdr_len)
    rig.fill()
    return rig


# 4.1 every mode


@every_mode
@every_era
def test_short_frames(kernel: str, features: FeatureSet) -> None:
    """Sheet 4.1, 4.8 "short": L < h + 14: rx_length_errors alone, and it counts as a packet; its buffer is freed."""
    rig = _rig(kernel, features)
    for length in (0, 1, 12, 25):
        rig.arrive(vnet_hdr() + frame(13), lengths=(length,))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 4, "rx_length_errors": 4}
    assert rig.reasons() == {"SHORT_FRAME": 4}
    rig.assert_nothing_lost()


@every_mode
@every_era
def test_the_shortest_frame(kernel: str, features: FeatureSet) -> None:
    """Sheet 4.1: L = h + 14 is a frame."""
    rig = _rig(kernel, features)
    skb = rig.receive_one(vnet_hdr() + frame(14))
    assert contents(skb) == frame(14)
    assert rig.counters() == {"packets": 1, "bytes": 14}
    free(skb)
    rig.assert_nothing_lost()


@every_era
def test_a_short_first_buffer_takes_only_itself(kernel: str) -> None:
    """Sheet 4.1, 9 no. 8: whatever num_buffers says, the next buffers are parsed as new frames."""
    rig = _rig(kernel)
    rig.arrive(vnet_hdr(num_buffers=3) + frame(13), vnet_hdr() + frame(70), vnet_hdr() + frame(80))
    got = rig.receive()
    assert [contents(skb) for skb in got] == [frame(70), frame(80)]
    assert rig.counters() == {"packets": 3, "bytes": 150, "rx_length_errors": 1}
    free(*got)
    rig.assert_nothing_lost()


SIZES = [14, 60, 128, 129, 1204, 1205, 1514, 1518]


@pytest.mark.parametrize("hdr_len", [12, 20])
@every_mode
@every_era
def test_contents_byte_for_byte(kernel: str, features: FeatureSet, hdr_len: int) -> None:
    """Sheet 4.8 "delivered"; the sizes of section 13, all at once in flight."""
    rig = _rig(kernel, features, hdr_len=hdr_len)
    for seed, size in enumerate(SIZES):
        rig.arrive_frame(frame(size, seed))
    got = rig.receive()
    assert [contents(skb) for skb in got] == [frame(size, seed) for seed, size in enumerate(SIZES)]
    assert [skb.len for skb in got] == SIZES
    assert rig.counters() == {"packets": 8, "bytes": sum(SIZES)}
    free(*got)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("features", [MERGEABLE, BIG, BIG_DIRECT], ids=["mrg", "big", "direct"])
@every_era
def test_large_frames_byte_for_byte(kernel: str, features: FeatureSet) -> None:
    """Section 13: 1519, 9014 and 65,549 bytes."""
    rig = _rig(kernel, features, 128)
    for seed, size in enumerate((1519, 9014, 65549)):
        skb = rig.receive_frame(frame(size, seed))
        assert contents(skb) == frame(size, seed)
        assert (skb.len, skb.data_len) == (size, size - len(linear(skb)))
        free(skb)
        rig.fill()
    assert rig.counters() == {"packets": 3, "bytes": 1519 + 9014 + 65549}
    rig.assert_nothing_lost()


def test_legacy_header_of_10_bytes() -> None:
    """Sheet 1.5: without VERSION_1 and MRG_RXBUF the frame follows 10 bytes of header."""
    rig = _rig(V7_0, FeatureSet.of(f.MAC))
    assert rig.vi.hdr_len == 10
    skb = rig.receive_one(vnet_hdr(size=10) + frame(1518))
    assert contents(skb) == frame(1518)
    free(skb)
    rig.assert_nothing_lost()


@every_mode
@every_era
def test_the_header_goes_with_the_skb(kernel: str, features: FeatureSet) -> None:
    """Sheet 4.5, 9 no. 16: copied from the start of the buffer, it outlives the buffer's page."""
    rig = _rig(kernel, features)
    header = vnet_hdr(flags=2, hdr_len=54, num_buffers=1)
    skb = rig.receive_one(header + frame(100))
    assert ctypes.string_at(skb.vnet_hdr, 12) == header
    free(skb)


@every_mode
@every_era
def test_bad_header(kernel: str, features: FeatureSet) -> None:
    """Sheet 4.6, 4.8 "bad csum/gso header": rx_frame_errors and no drops; bytes count. gso_type 2 is none."""
    rig = _rig(kernel, features)
    rig.arrive(vnet_hdr(gso_type=2, gso_size=1000) + frame(1400))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "bytes": 1400, "rx_frame_errors": 1}
    assert rig.reasons() == {"BAD_HEADER": 1}
    rig.assert_nothing_lost()


@pytest.mark.parametrize("size", [60, 600, 1400])
@every_mode
@every_era
def test_no_skb(kernel: str, features: FeatureSet, size: int) -> None:
    """Sheet 4.8 "skb alloc failure": drops, except in the seed's small mode, which counts nothing (sheet 4.2)."""
    rig = _rig(kernel, features)
    rig.skb_pool.refuse = 1
    rig.arrive(vnet_hdr() + frame(size))
    assert rig.receive() == []
    counted = {"packets": 1, "bytes": size, "drops": 1}
    if (kernel, features) == (V4_19, SMALL):
        del counted["drops"]
    assert rig.counters() == counted
    assert rig.reasons() == {"NO_MEMORY": 1}
    skb = rig.receive_one(vnet_hdr() + frame(size))
    free(skb)
    rig.assert_nothing_lost()


# 4.2 small


@every_era
def test_small_is_built_in_place(kernel: str) -> None:
    """Sheet 4.2: no copy, no frags; the frame lies 76 bytes into its buffer; truesize is the buffer's 1920 + 256."""
    rig = _rig(kernel, SMALL)
    for size in (14, 128, 1518):
        [(gpa, _, _)] = rig.rx.chain(rig.rx.avail_entry(rig.rx.last_avail))
        skb = rig.receive_one(vnet_hdr() + frame(size))
        assert skb.data == rig.memory.host_address(gpa, 1) + 12
        assert (skb.nr_frags, skb.data_len, skb.truesize) == (0, 0, 2176)
        free(skb)
    rig.assert_nothing_lost()


@newer_eras
def test_small_too_long(kernel: str) -> None:
    """Sheet 4.2, 4.8 (v5.14, 9 no. 1): over 1518: length error and drop, bytes counted before the check."""
    rig = _rig(kernel, SMALL)
    rig.arrive(vnet_hdr() + frame(1518), lengths=(12 + 1519,))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "bytes": 1519, "drops": 1, "rx_length_errors": 1}
    assert rig.reasons() == {"LENGTH_ERROR": 1}
    rig.assert_nothing_lost()


def test_small_too_long_is_delivered_by_4_19() -> None:
    """Sheet 4.2, 9 no. 1: the seed has no check; stale bytes come along."""
    rig = _rig(V4_19, SMALL)
    skb = rig.receive_one(vnet_hdr() + frame(1518), lengths=(12 + 1519,))
    assert skb.len == 1519
    assert contents(skb)[:1518] == frame(1518)
    assert rig.counters() == {"packets": 1, "bytes": 1519}
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize("length", [40_000, 0xFFFFFFFF])
def test_small_absurdly_long_stays_in_the_guests_block(length: int) -> None:
    """netemu's own bound where v4.19 would read on: the 32 KiB block the buffer lies in."""
    rig = _rig(V4_19, SMALL)
    skb = rig.receive_one(vnet_hdr() + frame(60), lengths=(length,))
    assert skb.len == 32768 - 76
    assert contents(skb)[:60] == frame(60)
    free(skb)


# 4.3 big


@pytest.mark.parametrize("size", [14, 128, 129, 3744, 3745, 4064, 4065, 9014])
@every_era
def test_big_parts(kernel: str, size: int) -> None:
    """Sheet 4.5: linear part and frags; truesize 4096 a page; pages that were not needed return to the queue's list."""
    rig = _rig(kernel, BIG, 4)
    skb = rig.receive_frame(frame(size))
    first = 4080 if kernel == V4_19 else 4064
    if kernel != V4_19 and 128 < size <= 3744:
        copied, in_frags, truesize, kept = size, [], 4096 + 256, 1
    else:
        copied = min(size, 128) if kernel == V4_19 or size <= 128 else 14
        in_frags = [min(size, first) - copied] if size > copied else []
        for start in range(first, size, 4096):
            in_frags.append(min(4096, size - start))
        truesize, kept = NEW_SKB + 4096 * len(in_frags), len(in_frags)
    assert len(linear(skb)) == copied
    assert [len(part) for part in frags(skb)] == in_frags
    assert skb.truesize == truesize
    assert contents(skb) == frame(size)
    back = 0
    at = rig.rq.pages
    while at:
        back += 1
        at = page_at(at).private
    assert back == 18 - kept
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(
    ("kernel", "size"), [(V4_19, 4080 + 16 * 4096), (V6_1, 4064 + 16 * 4096), (V7_0, 4064 + 16 * 4096)]
)
def test_big_with_all_17_frags(kernel: str, size: int) -> None:
    """Sheet 2.2: the first page behind its header, and 16 more."""
    rig = _rig(kernel, BIG, 4)
    skb = rig.receive_frame(frame(size))
    assert skb.nr_frags == 17
    assert contents(skb) == frame(size)
    free(skb)
    rig.assert_nothing_lost()


@pytest.mark.parametrize(("kernel", "copied"), [(V4_19, 128), (V6_1, 14)])
def test_big_too_much_data(kernel: str, copied: int) -> None:
    """Sheet 4.3: more than 17 pages behind the copied part: drops, and bytes count all the same."""
    length = copied + 17 * 4096 + 1
    rig = _rig(kernel, BIG, 4)
    rig.arrive(vnet_hdr() + frame(60), lengths=(12 + length,))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "bytes": length, "drops": 1}
    assert rig.reasons() == {"LENGTH_ERROR": 1}
    rig.assert_nothing_lost()


def test_big_too_long_since_6_18() -> None:
    """Sheet 4.3, 4.8: L > 18 pages: drops alone, no bytes; at the bound itself the bytes are counted."""
    rig = _rig(V7_0, BIG, 4)
    rig.arrive(vnet_hdr() + frame(60), lengths=(18 * 4096 + 1,))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "drops": 1}
    assert rig.reasons() == {"LENGTH_ERROR": 1}
    rig.arrive(vnet_hdr() + frame(60), lengths=(18 * 4096,))
    free(*rig.receive())
    assert rig.rq.bytes == 18 * 4096 - 12
    rig.assert_nothing_lost()


def test_big_limit_follows_the_chain_since_6_18() -> None:
    """Sheet 4.3: N = 3 with MTU 9000: L = 4 pages + 1 is too long."""
    rig = _rig(V7_0, BASE | FeatureSet.of(f.MTU, f.INDIRECT_DESC), 4, mtu=9000)
    rig.arrive(vnet_hdr() + frame(60), lengths=(4 * 4096 + 1,))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "drops": 1}
    rig.assert_nothing_lost()


def test_big_shortened_chain_with_the_old_limit() -> None:
    """Sheet 9 no. 5 (CVE-2025-40292): MTU 9000, length 5 pages: Linux 6.1 follows a null pointer; here it is a drop."""
    rig = _rig(V6_1, BASE | FeatureSet.of(f.MTU, f.INDIRECT_DESC), 4, mtu=9000)
    rig.arrive(vnet_hdr() + frame(60), lengths=(5 * 4096,))
    assert rig.receive() == []
    assert rig.counters() == {"packets": 1, "bytes": 5 * 4096 - 12, "drops": 1}
    rig.assert_nothing_lost()
