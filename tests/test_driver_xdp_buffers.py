"""XDP over frames of several buffers, lengths that cannot be, and memory that runs out."""

from __future__ import annotations

import pytest

from netemu.pages import page_pool_at
from netemu.virtio.features import FeatureSet
from netemu.xdp import (
    XDP_DROP,
    XDP_PASS,
    XDP_REDIRECT,
    XDP_TX,
    XdpBuff,
    xdp_adjust_tail,
)
from tests.driver_kit import V4_19, V6_1, V7_0, contents, every_era, frame, linear, vnet_hdr
from tests.xdp_kit import MERGEABLE, SMALL, PlainProgram, XdpRig

both = pytest.mark.parametrize("features", [SMALL, MERGEABLE], ids=["small", "mergeable"])
HDR = 12


# Several buffers


def spread(rig: XdpRig, *sizes: int) -> bytes:
    """A frame arrives over buffers with these used lengths, the first one with the header; the frame."""
    whole = frame(sum(sizes) - HDR)
    data = vnet_hdr(num_buffers=len(sizes)) + whole
    parts = []
    for size in sizes:
        parts.append(data[:size])
        data = data[size:]
    rig.arrive(*parts)
    return whole


@every_era
@pytest.mark.parametrize(("last", "fits"), [(1520, True), (1521, False)])
def test_several_buffers_are_put_into_one_page(
    monkeypatch: pytest.MonkeyPatch, kernel: str, last: int, fits: bool
) -> None:
    """Sheet 8.2: total + 256 + 320 <= 4096; else it is dropped, and with it all its buffers leave the ring."""
    rig = XdpRig(monkeypatch, kernel)
    whole = spread(rig, 1500, 500, last)
    skbs = rig.receive()
    if fits:
        assert rig.program.seen == [whole]  # type: ignore[attr-defined]
        assert [contents(skb) for skb in skbs] == [whole]
        assert rig.xdp_counters() == {"xdp_packets": 1}
    else:
        assert skbs == []
        assert rig.xdp_counters() == {"drops": 1, "xdp_drops": 1}
        assert rig.reasons() == {"XDP_UNFIT": 1}
    skbs.append(rig.receive_frame(frame(60)))  # the stream is in step
    rig.finish(*skbs)


@every_era
def test_a_buffer_that_is_missing_while_they_are_put_together(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """num_buffers says 3 and 2 come: nothing is delivered, nothing is lost."""
    rig = XdpRig(monkeypatch, kernel)
    rig.arrive(vnet_hdr(num_buffers=3) + frame(100), frame(100))
    assert rig.receive() == []
    assert rig.rq.xdp_drops == 1
    rig.finish()


def test_a_program_made_for_several_buffers_sees_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since v6.3: the others are frags, of the program and of the skb."""
    program = PlainProgram(frags=True)
    rig = XdpRig(monkeypatch, program=program)
    whole = spread(rig, 3520, 3520, 1000)
    [skb] = rig.receive()
    assert program.seen == [whole[: 3520 - HDR]]
    assert program.frags_seen == [2]
    assert linear(skb) == whole[: 3520 - HDR]
    assert (skb.nr_frags, contents(skb)) == (2, whole)
    rig.finish(skb)


@pytest.mark.parametrize(("buffers", "passes"), [(18, True), (19, False)])
def test_at_most_18_buffers(monkeypatch: pytest.MonkeyPatch, buffers: int, passes: bool) -> None:
    """Sheet 8.2: 17 + 1; with more the frame is dropped, and leaves the ring."""
    program = PlainProgram(frags=True)
    rig = XdpRig(monkeypatch, program=program)
    whole = spread(rig, *[100] * buffers)
    skbs = rig.receive()
    assert [contents(skb) for skb in skbs] == ([whole] if passes else [])
    assert rig.xdp_counters() == ({"xdp_packets": 1} if passes else {"drops": 1, "xdp_drops": 1})
    skbs.append(rig.receive_frame(frame(60)))
    rig.finish(*skbs)


@pytest.mark.parametrize("verdict", [XDP_DROP, XDP_REDIRECT])
def test_several_buffers_that_do_not_pass(monkeypatch: pytest.MonkeyPatch, verdict: int) -> None:
    program = PlainProgram(lambda _ctx: verdict, frags=True)
    rig = XdpRig(monkeypatch, program=program)
    whole = spread(rig, 1500, 500, 100)
    rig.poll()
    assert rig.collect() == []
    assert [data for *_, data in rig.xdp.take_redirected()] == ([whole] if verdict == XDP_REDIRECT else [])
    rig.finish()


def test_several_buffers_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = XdpRig(monkeypatch, program=PlainProgram(lambda _ctx: XDP_TX, frags=True))
    whole = spread(rig, 1500, 500, 100)
    rig.poll()
    head = rig.tx.take()
    assert rig.tx.read_buffer(head) == bytes(HDR) + whole
    assert len(rig.tx.chain(head)) == 3
    rig.tx.use(head, 0)
    rig.reclaim()
    rig.finish()


def test_a_tail_cut_off_over_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(ctx: XdpBuff) -> int:
        assert xdp_adjust_tail(ctx, -550) == 0
        return XDP_PASS

    rig = XdpRig(monkeypatch, program=PlainProgram(cut, frags=True))
    whole = spread(rig, 1500, 500, 100)
    [skb] = rig.receive()
    assert contents(skb) == whole[:-550]
    assert skb.nr_frags == 1
    rig.finish(skb)


@pytest.mark.parametrize(("used", "passes"), [(3520, True), (3521, False)])
def test_an_old_first_buffer_for_a_program_of_several(monkeypatch: pytest.MonkeyPatch, used: int, passes: bool) -> None:
    """Without headroom the first buffer is copied, if a page with its room holds it (576 + 3520)."""
    program = PlainProgram(frags=True)
    rig = XdpRig(monkeypatch, program=program, late=True, size=16)  # rings of 16 have buffers of a page
    whole = spread(rig, used, 100)
    skbs = rig.receive()
    assert [contents(skb) for skb in skbs] == ([whole] if passes else [])
    assert (rig.rq.xdp_packets, rig.rq.xdp_drops) == (passes, 1 - passes)
    rig.finish(*skbs)


# Lengths that cannot be


@pytest.mark.parametrize(("kernel", "ran"), [(V4_19, 1), (V6_1, 0), (V7_0, 0)])
def test_a_length_beyond_the_buffer(monkeypatch: pytest.MonkeyPatch, kernel: str, ran: int) -> None:
    """Sheet 9 no. 2: v4.19's program sees what lies behind the buffer, and the frame is dropped only then."""
    rig = XdpRig(monkeypatch, kernel)
    rig.arrive(vnet_hdr() + frame(100), lengths=(3521,))
    assert rig.receive() == []
    assert rig.xdp_counters().get("xdp_packets", 0) == ran
    if ran:
        assert len(rig.program.seen[0]) == 3521 - HDR  # type: ignore[attr-defined]
    assert (rig.rq.rx_length_errors, rig.rq.drops, rig.reasons()) == (1, 1, {"LENGTH_ERROR": 1})
    rig.finish()


@every_era
def test_a_later_length_beyond_its_buffer(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Sheet 9 no. 3: believed until v6.16, then refused; here it ends with the memory block in any case."""
    rig = XdpRig(monkeypatch, kernel, late=True)
    rig.arrive(vnet_hdr(num_buffers=2) + frame(100), frame(50), lengths=(112, 1537))
    skbs = rig.receive()
    if kernel == V7_0:
        assert skbs == []
        assert rig.rq.rx_length_errors == 1
    else:
        assert [skb.len for skb in skbs] == [100 + 1537]
    rig.arrive(vnet_hdr(num_buffers=2) + frame(100), frame(50), lengths=(112, 1 << 20))
    skbs += rig.receive()
    assert len(skbs) == (0 if kernel == V7_0 else 1)
    rig.finish(*skbs)


@every_era
def test_no_buffers_at_all(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """num_buffers 0, as without a program: the ring is emptied, or the frame passes, and nothing is lost."""
    rig = XdpRig(monkeypatch, kernel)
    rig.arrive(vnet_hdr(num_buffers=0) + frame(100))
    for _ in range(3):
        rig.arrive_frame(frame(60))
    skbs = rig.receive()
    rig.finish(*skbs)


# Memory


@pytest.mark.parametrize("features", [SMALL, MERGEABLE], ids=["small", "mergeable"])
def test_no_page_to_copy_an_old_buffer_to(monkeypatch: pytest.MonkeyPatch, features: FeatureSet) -> None:
    rig = XdpRig(monkeypatch, features=features, late=True)
    page_pool_at(rig.xdp.queues[0].pages).refuse = 1
    rig.arrive_frame(frame(60))
    assert rig.receive() == []
    assert rig.xdp_counters() == {"drops": 1, "xdp_drops": 1}
    rig.finish()


@both
@every_era
def test_no_skb_for_a_frame_that_passed(monkeypatch: pytest.MonkeyPatch, kernel: str, features: FeatureSet) -> None:
    """Sheet 4.8: drops + 1; small mode of v4.19 counts nothing."""
    rig = XdpRig(monkeypatch, kernel, features)
    rig.skb_pool.refuse = 1
    rig.arrive_frame(frame(60))
    assert rig.receive() == []
    assert rig.rq.drops == (0 if (kernel, features) == (V4_19, SMALL) else 1)
    assert rig.reasons() == {"NO_MEMORY": 1}
    rig.finish()
