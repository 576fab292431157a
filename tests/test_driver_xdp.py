"""XDP on receive buffers, with a device held by hand: sheet section 8.2, and bugs of section 9 that are safe to have.

Numbers of buffers (sheet 2.1 and 2.3): a small one with 256 bytes of headroom shows the device hdr_len + 1518 bytes; a
mergeable one 4096 - 576 = 3520. The header has 12 bytes.
"""

from __future__ import annotations

import ctypes

import pytest

from netemu.jit import hook, load32be
from netemu.skb import Skb
from netemu.virtio.features import FeatureSet
from netemu.xdp import (
    XDP_ABORTED,
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    XdpBuff,
    xdp_adjust_head,
    xdp_adjust_meta,
    xdp_adjust_tail,
    xdp_length,
    xdp_redirect,
    xdp_store8,
    xdp_store_meta,
)
from tests.driver_kit import V4_19, V6_1, V7_0, contents, every_era, frame
from tests.xdp_kit import MERGEABLE, SMALL, PlainProgram, XdpRig

both = pytest.mark.parametrize("features", [SMALL, MERGEABLE], ids=["small", "mergeable"])

NEEDS_CSUM, DATA_VALID = 1, 2

CHECKSUM_NONE, CHECKSUM_UNNECESSARY = 0, 1

HDR = 12


def headers(skb: Skb) -> bytes:
    """The virtio header as the driver kept it."""
    return ctypes.string_at(skb.vnet_hdr, HDR)


# What the program sees


@both
@every_era
@pytest.mark.parametrize("late", [False, True], ids=["new-buffers", "old-buffers"])
def test_pass_changes_nothing(monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet, late: bool) -> None:
    """The program sees the frame without its header, behind 256 bytes of room, also where the buffer had none."""
    rig = XdpRig(monkeypatch, kernel, features, late=late)
    skbs = [rig.receive_frame(frame(size)) for size in (14, 60, 129, 1514)]
    assert rig.program.seen == [frame(size) for size in (14, 60, 129, 1514)]  # type: ignore[attr-defined]
    assert [contents(skb) for skb in skbs] == [frame(size) for size in (14, 60, 129, 1514)]
    assert all(skb.xdp == 1 for skb in skbs)
    assert all(front >= 256 for front, _ in rig.program.room)  # type: ignore[attr-defined]
    assert rig.xdp_counters() == {"xdp_packets": 4}
    assert rig.rq.bytes == 14 + 60 + 129 + 1514
    rig.finish(*skbs)


@pytest.mark.parametrize(
    ("kernel", "features", "front", "behind"),
    [
        # small: header at 64 + 256 of 2176; behind the frame up to the shared info
        (V4_19, SMALL, 256, 1856 - 332 - 100),
        (V7_0, SMALL, 256, 1856 - 332 - 100),
        # mergeable: until v6.2 the header's place is not the program's; 3776 = 4096 - 320
        (V4_19, MERGEABLE, 256, 3776 - 268 - 100),
        (V6_1, MERGEABLE, 256, 3776 - 268 - 100),
        (V7_0, MERGEABLE, 268, 3776 - 268 - 100),
    ],
)
def test_the_room_around_a_frame(
    monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet, front: int, behind: int
) -> None:
    """Sheet 2.1: align64(64 + 12 + 1518 + 256) = 1856 before the shared info; 2.3: a page."""
    rig = XdpRig(monkeypatch, kernel, features)
    skb = rig.receive_frame(frame(100))
    assert rig.program.room == [(front, behind)]  # type: ignore[attr-defined]
    rig.finish(skb)


# Buffers


@pytest.mark.parametrize("kernel", [V4_19, V6_1, V7_0])
def test_mergeable_buffers_have_a_fixed_size(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Sheet 2.3: 4096 - align64(256 + 320), whatever frames are like."""
    rig = XdpRig(monkeypatch, kernel)
    lengths = [sum(length for _, length, _ in rig.rx.chain(rig.rx.avail_entry(n))) for n in range(64)]
    assert lengths == [3520] * 64
    rig.finish()


def test_the_hole_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 2.3 step 6 and 9 no. 14, 15: with a record of 16 bytes 7 buffers fit a block of 32 KiB, and 4080 are left.

    A kernel from before v6.3 would give them to the seventh buffer, which is then longer than a page; newer ones not.
    """
    for adds, longest in ((0, 3520 + 4080), (1, 3520)):
        rig = XdpRig(monkeypatch, V7_0, size=16)
        rig.driver.era.xdp_multi_buffer = adds
        while rig.rx.pending():
            head = rig.rx.take()
            rig.rx.use(head, HDR + 60)
        rig.rq.xdp = 0
        for skb in rig.receive(16):
            rig.finish_one(skb)
        lengths = [sum(n for _, n, _ in rig.rx.chain(rig.rx.avail_entry(at))) for at in range(16)]
        assert max(lengths) == longest
        rig.driver.era.xdp_multi_buffer = 1
        rig.finish()


@both
@every_era
def test_buffers_with_headroom_outlive_the_program(
    monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet
) -> None:
    """Sheet 8.1: per buffer its ctx says how much headroom it has."""
    rig = XdpRig(monkeypatch, kernel, features)
    rig.xdp.virtnet_xdp_set(None)
    skbs = [rig.receive_frame(frame(size)) for size in (60, 1514)]
    assert [contents(skb) for skb in skbs] == [frame(60), frame(1514)]
    assert all(skb.xdp == 0 for skb in skbs)
    assert rig.xdp_counters() == {}
    rig.finish(*skbs)


# Before the program


@both
@pytest.mark.parametrize(("kernel", "fields", "dropped"), [
    (V4_19, {"gso_type": 1, "gso_size": 100}, True),
    (V6_1, {"gso_type": 1, "gso_size": 100}, True),
    (V7_0, {"gso_type": 1, "gso_size": 100}, True),
    (V4_19, {"flags": NEEDS_CSUM, "csum_start": 34, "csum_offset": 16}, False),
    (V6_1, {"flags": NEEDS_CSUM, "csum_start": 34, "csum_offset": 16}, False),
    (V7_0, {"flags": NEEDS_CSUM, "csum_start": 34, "csum_offset": 16}, True),
])  # fmt: skip
def test_frames_no_program_is_shown(
    monkeypatch: pytest.MonkeyPatch, features: FeatureSet, kernel: str, fields: dict[str, int], dropped: bool
) -> None:
    """Sheet 8.2 row 2, 9 no. 32: GSO always, an unfinished checksum since v6.10."""
    rig = XdpRig(monkeypatch, kernel, features)
    rig.arrive_frame(frame(200), **fields)
    skbs = rig.receive()
    assert len(skbs) == 1 - dropped
    if dropped:
        assert rig.xdp_counters() == {"drops": 1, "xdp_drops": 1}
        assert rig.reasons() == {"XDP_UNFIT": 1}
    else:
        assert rig.xdp_counters() == {"xdp_packets": 1}
    rig.finish(*skbs)


# The header after PASS


def moved(ctx: XdpBuff) -> int:
    xdp_adjust_head(ctx, 4)
    return XDP_PASS


@both
@pytest.mark.parametrize(
    ("kernel", "moves", "state"),
    [
        (V4_19, False, CHECKSUM_UNNECESSARY),
        (V6_1, False, CHECKSUM_NONE),
        (V6_1, True, CHECKSUM_NONE),
        (V7_0, False, CHECKSUM_UNNECESSARY),
        (V7_0, True, CHECKSUM_UNNECESSARY),
    ],
)
def test_data_valid_through_a_program(
    monkeypatch: pytest.MonkeyPatch, features: FeatureSet, kernel: str, moves: bool, state: int
) -> None:
    """Sheet 9 no. 32: kept by v4.19 where the frame stays, lost in between, restored since v6.10."""
    rig = XdpRig(monkeypatch, kernel, features, PlainProgram(moved if moves else lambda _ctx: XDP_PASS))
    skb = rig.receive_frame(frame(200), flags=DATA_VALID)
    assert skb.ip_summed == state
    assert contents(skb) == frame(200)[4 * moves :]
    rig.finish(skb)


@pytest.mark.parametrize("features", [SMALL], ids=["small"])
def test_4_19_forgets_the_header_of_a_small_frame_that_moved(
    monkeypatch: pytest.MonkeyPatch, features: FeatureSet
) -> None:
    rig = XdpRig(monkeypatch, V4_19, features, PlainProgram(moved))
    skb = rig.receive_frame(frame(200), flags=DATA_VALID)
    assert headers(skb) == bytes(HDR)
    rig.finish(skb)


def test_4_19_takes_what_lies_in_front_of_a_mergeable_frame_for_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 9 no. 40: a program that pulled 12 bytes leaves them where the header is then looked for."""

    def pull(ctx: XdpBuff) -> int:
        for at, byte in enumerate(bytes([DATA_VALID]) + bytes(11)):
            xdp_store8(ctx, at, byte)
        xdp_adjust_head(ctx, 12)
        return XDP_PASS

    for kernel, state in ((V4_19, CHECKSUM_UNNECESSARY), (V6_1, CHECKSUM_NONE), (V7_0, CHECKSUM_NONE)):
        rig = XdpRig(monkeypatch, kernel, MERGEABLE, PlainProgram(pull))
        skb = rig.receive_frame(frame(200))
        assert skb.ip_summed == state
        assert contents(skb) == frame(200)[12:]
        rig.finish(skb)


# Head, tail, metadata


@both
@every_era
def test_a_program_that_rewrites_the_frame(monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet) -> None:
    """A header pushed in front, the tail cut: the skb is what the program left."""

    def rewrite(ctx: XdpBuff) -> int:
        assert xdp_adjust_head(ctx, -8) == 0
        for at, byte in enumerate(b"pushed in, yes"):
            xdp_store8(ctx, at, byte)
        assert xdp_adjust_tail(ctx, -100) == 0
        return XDP_PASS

    rig = XdpRig(monkeypatch, kernel, features, PlainProgram(rewrite))
    skb = rig.receive_frame(frame(1000))
    assert contents(skb) == b"pushed in, yes" + frame(1000)[6:-100]
    rig.finish(skb)


@both
@pytest.mark.parametrize(("kernel", "kept"), [(V4_19, 0), (V6_1, 8), (V7_0, 8)])
@pytest.mark.parametrize("size", [100, 1000])
def test_metadata_stays_in_front_of_the_frame(
    monkeypatch: pytest.MonkeyPatch, features: FeatureSet, kernel: str, kept: int, size: int
) -> None:
    """Sheet 8.2: since v5.8."""

    def mark(ctx: XdpBuff) -> int:
        if xdp_adjust_meta(ctx, -8) == 0:
            xdp_store_meta(ctx, 0, 0x11223344)
            xdp_store_meta(ctx, 4, 0x55667788)
        return XDP_PASS

    rig = XdpRig(monkeypatch, kernel, features, PlainProgram(mark))
    skb = rig.receive_frame(frame(size))
    assert skb.meta_len == kept
    if kept:
        assert (load32be(skb.data - 8), load32be(skb.data - 4)) == (0x11223344, 0x55667788)
    assert contents(skb) == frame(size)
    rig.finish(skb)


# Verdicts


@both
@every_era
@pytest.mark.parametrize(("verdict", "reason"), [
    (XDP_DROP, "XDP_DROPPED"), (XDP_ABORTED, "XDP_ABORTED"), (5, "XDP_ABORTED"), (-1, "XDP_ABORTED"),
])  # fmt: skip
def test_dropped(monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet, verdict: int, reason: str) -> None:
    """Sheet 8.2: DROP, ABORTED and what is no verdict at all count alike."""
    rig = XdpRig(monkeypatch, kernel, features, PlainProgram(lambda _ctx: verdict))
    for _ in range(3):
        rig.arrive_frame(frame(60))
    assert rig.receive() == []
    assert rig.xdp_counters() == {"drops": 3, "xdp_packets": 3, "xdp_drops": 3}
    assert rig.counters()["packets"] == 3
    assert rig.reasons() == {reason: 3}
    assert rig.rq.lost == 3
    rig.finish()


@both
@every_era
def test_redirected(monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet) -> None:
    rig = XdpRig(monkeypatch, kernel, features, PlainProgram(lambda ctx: xdp_redirect(ctx, 40 + xdp_length(ctx))))
    for size in (60, 61):
        rig.arrive_frame(frame(size))
    assert rig.poll() == 2
    assert rig.collect() == []
    assert rig.xdp_counters() == {"xdp_packets": 2, "xdp_redirects": 2}
    assert (rig.rq.lost, rig.reasons()) == (0, {})
    taken = rig.xdp.take_redirected()
    assert [(target, data) for _, _, _, target, data in taken] == [(100, frame(60)), (101, frame(61))]
    assert rig.xdp.take_redirected() == []
    rig.finish()


def test_a_redirected_frame_there_is_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """xdp_do_redirect fails: counted as redirected, and as dropped."""
    rig = XdpRig(monkeypatch, program=PlainProgram(lambda _ctx: XDP_REDIRECT))
    rig.xdp.queues[0].redirects_size = 40 + 64
    for size in (60, 60):
        rig.arrive_frame(frame(size))
    rig.poll()
    assert rig.xdp_counters() == {"drops": 1, "xdp_packets": 2, "xdp_redirects": 2, "xdp_drops": 1}
    assert rig.reasons() == {"XDP_NOT_SENT": 1}
    assert [data for *_, data in rig.xdp.take_redirected()] == [frame(60)]
    rig.finish()


@pytest.mark.parametrize(("kernel", "flushed"), [(V4_19, 0), (V6_1, 0), (V7_0, 1)])
def test_redirected_frames_leave_before_or_after_the_poll_completes(
    monkeypatch: pytest.MonkeyPatch, kernel: str, flushed: int
) -> None:
    """Sheet 3.3 steps 3 and 4, 9 no. 34; the hook of DIM runs when the poll has completed."""
    rig = XdpRig(monkeypatch, kernel, program=PlainProgram(lambda _ctx: XDP_REDIRECT))
    rig.open()
    rig.poll()
    seen = []

    def look(_queue: int) -> int:
        seen.append(rig.xdp.queues[0].redirects_flushed)
        return 0

    rig.rq.dim_update = hook(look)
    rig.arrive_frame(frame(60))
    rig.napi.scheduled = 1
    rig.poll()
    assert seen == [flushed * (40 + 64)]
    assert len(rig.xdp.take_redirected()) == 1


@both
@every_era
def test_sent_back(monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet) -> None:
    """A header of zeros in front of the frame, in one segment; the kick waits for the poll's end (sheet 8.2, 3.3)."""

    def turn_round(ctx: XdpBuff) -> int:
        for at, byte in enumerate(frame(14)[6:12] + frame(14)[:6]):
            xdp_store8(ctx, at, byte)
        return XDP_TX

    rig = XdpRig(monkeypatch, kernel, features, PlainProgram(turn_round))
    for size in (60, 1514):
        rig.arrive_frame(frame(size), flags=DATA_VALID)
    assert rig.poll() == 2
    assert rig.collect() == []
    assert rig.xdp_counters() == {"xdp_packets": 2, "xdp_tx": 2}
    assert (rig.sq.xdp_tx, rig.sq.xdp_tx_drops, rig.sq.kicks) == (2, 0, 1)
    assert rig.tx.pending() == 2
    for size in (60, 1514):
        head = rig.tx.take()
        sent = frame(size)[6:12] + frame(size)[:6] + frame(size)[12:]
        assert rig.tx.read_buffer(head) == bytes(HDR) + sent
        assert len(rig.tx.chain(head)) == 1
        rig.tx.use(head, 0)
    rig.arrive_frame(frame(60))
    rig.poll()
    assert (rig.sq.packets, rig.sq.bytes) == (2, 60 + 1514)
    rig.tx.use(rig.tx.take(), 0)
    rig.arrive_frame(frame(60))
    rig.poll()
    rig.tx.use(rig.tx.take(), 0)
    rig.reclaim()
    rig.finish()


def test_sent_back_without_room_for_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sheet 8.2, last line: what is free behind the 40 bytes of a struct xdp_frame is less than 12."""
    for push, sent in ((204, 1), (205, 0)):

        def turn_round(ctx: XdpBuff, push: int = push) -> int:
            return XDP_TX if xdp_adjust_head(ctx, -push) == 0 else XDP_DROP

        rig = XdpRig(monkeypatch, features=SMALL, program=PlainProgram(turn_round))
        rig.arrive_frame(frame(60))
        rig.poll()
        assert (rig.sq.xdp_tx, rig.sq.xdp_tx_drops) == (sent, 1 - sent)
        assert rig.xdp_counters() == {"xdp_packets": 1, "xdp_tx": 1}
        assert rig.reasons() == ({} if sent else {"XDP_NOT_SENT": 1})
        for _ in range(sent):
            rig.tx.use(rig.tx.take(), 0)
        rig.reclaim()
        rig.finish()


def test_more_sent_back_than_the_ring_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is gone: xdp_tx_drops of the send queue counts it, the receive queue's drops do not."""
    rig = XdpRig(monkeypatch, features=SMALL, program=PlainProgram(lambda _ctx: XDP_TX), size=16)
    for _ in range(2):
        for _ in range(16):
            rig.arrive_frame(frame(60))
        rig.poll()
    assert (rig.sq.xdp_tx, rig.sq.xdp_tx_drops) == (16, 16)
    assert rig.xdp_counters() == {"xdp_packets": 32, "xdp_tx": 32}
    for _ in range(16):
        rig.tx.use(rig.tx.take(), 0)
    rig.reclaim()
    rig.finish()
