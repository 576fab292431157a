"""When a driver takes an XDP program, and what it changes on the device: sheet section 8.1."""

from __future__ import annotations

import pytest

from netemu.errors import ConfigError
from netemu.nic import Nic
from netemu.offer import Mode
from netemu.virtio import features as f
from netemu.xdp import XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX, XdpBuff, xdp_load8, xdp_program, xdp_store8
from tests.driver_kit import ERAS, V4_19, V6_1, V7_0, frame
from tests.wire import ipv4, udp

GUEST_CSUM = 1 << 1
"""Guest offloads are numbered like the feature bits."""


@xdp_program
def passes(_ctx: XdpBuff) -> int:
    return XDP_PASS


@xdp_program
def drops(_ctx: XdpBuff) -> int:
    return XDP_DROP


@xdp_program
def redirects(_ctx: XdpBuff) -> int:
    return XDP_REDIRECT


@xdp_program(frags=True)
def of_several_buffers(_ctx: XdpBuff) -> int:
    return XDP_PASS


@pytest.mark.parametrize(
    ("kernel", "features", "refused"),
    [
        (V4_19, "", True),
        (V4_19, "-GUEST_TSO4,-GUEST_TSO6,-GUEST_ECN,-GUEST_UFO", False),
        (V6_1, "-GUEST_TSO4,-GUEST_TSO6,-GUEST_ECN,-GUEST_UFO", True),
        (V6_1, "-GUEST_TSO4,-GUEST_TSO6,-GUEST_ECN,-GUEST_UFO,-GUEST_CSUM", False),
        (V7_0, "-GUEST_TSO4,-GUEST_TSO6,-GUEST_ECN,-GUEST_UFO", True),
        (V7_0, "-GUEST_TSO4,-GUEST_TSO6,-GUEST_ECN,-GUEST_UFO,-GUEST_CSUM", False),
        (V4_19, "+CTRL_VQ,+CTRL_GUEST_OFFLOADS", False),
        (V6_1, "+CTRL_VQ,+CTRL_GUEST_OFFLOADS", False),
        (V7_0, "+CTRL_VQ,+CTRL_GUEST_OFFLOADS", False),
    ],
)
def test_offloads_that_cannot_be_switched_off(kernel: str, features: str, refused: bool) -> None:
    """Without CTRL_GUEST_OFFLOADS no TSO, ECN or UFO; since v5.0 no GUEST_CSUM either."""
    nic = Nic(driver=kernel, queues=2, features=features)
    nic.driver.control.virtnet_set_queues(1)  # a pair to spare for v4.19
    if refused:
        with pytest.raises(ConfigError, match="without CTRL_GUEST_OFFLOADS they stay on"):
            nic.attach_xdp(passes)
        assert nic.guest.xdp is None or nic.guest.xdp.program is None
    else:
        nic.attach_xdp(passes)


@pytest.mark.parametrize(("kernel", "left"), [(V4_19, GUEST_CSUM), (V6_1, 0), (V7_0, 0)])
def test_guest_offloads_are_off_while_there_is_a_program(kernel: str, left: int) -> None:
    """Cleared at the first attach (v4.19 keeps checksums), restored at the end; replacing a program changes nothing."""
    nic = Nic(driver=kernel, queues=2, features="+CTRL_VQ,+CTRL_GUEST_OFFLOADS")
    nic.driver.control.virtnet_set_queues(1)
    before = nic.device.guest_offloads
    assert f.GUEST_TSO4 in before
    nic.attach_xdp(passes)
    assert nic.driver.control.guest_offloads == left
    assert f.GUEST_TSO4 not in nic.device.guest_offloads
    assert (f.GUEST_CSUM in nic.device.guest_offloads) == bool(left)
    nic.attach_xdp(drops)
    assert f.GUEST_TSO4 not in nic.device.guest_offloads
    nic.detach_xdp()
    assert nic.device.guest_offloads == before
    nic.detach_xdp()


@pytest.mark.parametrize(
    ("kernel", "mtu", "taken"),
    [(V4_19, 4080, True), (V4_19, 4081, False), (V6_1, 4064, True), (V6_1, 4065, False), (V7_0, 3506, True),
     (V7_0, 3507, False)],
)  # fmt: skip
def test_the_largest_mtu(kernel: str, mtu: int, taken: bool) -> None:
    """4096 - 16 in v4.19 (the padded header, 32 since hash reports), 4096 - 576 - 14 since v6.3."""

    def attached() -> Nic:
        return Nic(driver=kernel, features="+MQ", mtu=mtu, xdp=passes)

    if taken:
        attached()
    else:
        with pytest.raises(ConfigError, match=f"at most {mtu - 1}, not {mtu}"):
            attached()


def test_no_limit_for_programs_of_several_buffers() -> None:
    Nic(mtu=9000, xdp=of_several_buffers)
    with pytest.raises(ConfigError, match="at most 4064"):
        Nic(mtu=9000, driver=V6_1, xdp=of_several_buffers)


@pytest.mark.parametrize("kernel", ERAS)
def test_queues_for_what_is_sent_back(kernel: str) -> None:
    """One more pair per pair in use, where there are as many; v4.19 insists on them, later kernels share (v5.13)."""
    nic = Nic(driver=kernel, queues=4, features="+CTRL_VQ,+CTRL_GUEST_OFFLOADS")
    nic.driver.control.virtnet_set_queues(2)
    nic.attach_xdp(passes)
    assert nic.driver.vi.curr_queue_pairs == 4
    spare = [nic.driver.send_queues.address + n * len(bytes(nic.driver.send_queues[0])) for n in (2, 3)]
    assert nic.guest.xdp is not None
    assert [xq.sq for xq in nic.guest.xdp.queues][:2] == spare
    nic.detach_xdp()
    assert nic.driver.vi.curr_queue_pairs == 2
    crowded = Nic(driver=kernel, features="+CTRL_VQ,+CTRL_GUEST_OFFLOADS")
    if kernel == V4_19:
        with pytest.raises(ConfigError, match="wants 2 queue pairs for XDP, but there are 1"):
            crowded.attach_xdp(passes)
    else:
        crowded.attach_xdp(passes)
        assert crowded.guest.xdp is not None
        assert crowded.guest.xdp.queues[0].sq == crowded.driver.send_queues.address


def test_mergeable_buffers_need_header_and_data_in_one() -> None:
    """any_header_sg: a legacy device without ANY_LAYOUT. None can be made here, so the driver is told so."""
    nic = Nic(features="-GUEST_TSO4,-GUEST_TSO6,-GUEST_ECN,-GUEST_UFO,-GUEST_CSUM")
    nic.driver.vi.any_header_sg = 0
    with pytest.raises(ConfigError, match="header and data in one buffer"):
        nic.attach_xdp(passes)


@pytest.mark.parametrize("kernel", ERAS)
@pytest.mark.parametrize("mode", ["mergeable", "small", "big"])
def test_attached_replaced_and_taken_off(kernel: str, mode: Mode) -> None:
    """While it runs; buffers from before have no headroom, those from then have it. Big buffers see no program."""
    nic = Nic(mode, 16, 2, driver=kernel, features="+CTRL_VQ,+CTRL_GUEST_OFFLOADS")
    nic.driver.control.virtnet_set_queues(1)
    frames = [frame(size) for size in (60, 1000, 1514)] * 20

    def through() -> list[bytes]:
        return [skb.data for skb in nic.receive(frames)]

    assert through() == frames
    nic.attach_xdp(passes)
    assert through() == frames
    nic.attach_xdp(drops)
    assert through() == ([] if mode != "big" else frames)
    nic.attach_xdp(passes)
    assert through() == frames
    nic.detach_xdp()
    assert through() == frames
    ran = 0 if mode == "big" else 180
    assert sum(rq.xdp_packets for rq in nic.driver.receive_queues) == ran
    assert nic.dropped == ({} if mode == "big" else {"xdp_dropped": 60})


def test_redirected_frames_can_be_taken() -> None:
    """To be given to another card, say."""
    nic = Nic("small", xdp=redirects)
    assert nic.receive([frame(60), frame(100)], tstamp=5) == []
    taken = nic.take_redirected()
    assert [(one.data, one.tstamp, one.target, one.queue) for one in taken] == [
        (frame(60), 5, 0, 0),
        (frame(100), 5, 0, 0),
    ]
    assert [skb.data for skb in Nic("small").receive(one.data for one in taken)] == [frame(60), frame(100)]
    assert nic.take_redirected() == []
    assert nic.guest.sent_away == 2


@xdp_program
def turns_round(ctx: XdpBuff) -> int:
    """Swap the addresses, and send it back."""
    for at in range(6):
        here = xdp_load8(ctx, at)
        xdp_store8(ctx, at, xdp_load8(ctx, 6 + at))
        xdp_store8(ctx, 6 + at, here)
    return XDP_TX


@pytest.mark.parametrize("kernel", ERAS)
@pytest.mark.parametrize("mode", ["mergeable", "small"])
def test_frames_sent_back_leave_the_device(kernel: str, mode: Mode) -> None:
    """Through the send queue and the device, in order, with nothing left to do; more than a ring holds."""
    nic = Nic(mode, 64, driver=kernel, xdp=turns_round)
    frames = [frame(60 + at, at) for at in range(300)]
    received, sent = nic.exchange(frames)
    assert received == []
    assert [one.data for one in sent] == [data[6:12] + data[:6] + data[12:] for data in frames]
    assert all(one.header is None for one in sent)
    assert nic.guest.sent_away == 300
    assert nic.dropped == {}
    assert (
        sum(value for name, value in nic.ethtool.items() if name.startswith("tx") and name.endswith("_xdp_tx_drops"))
        == 0
    )
    assert nic.sending.idle()


def test_no_threads_where_frames_may_be_sent_back() -> None:
    with pytest.raises(ConfigError, match="thread"):
        Nic("small", queues=2, threads=True, xdp=turns_round)


def test_queues_for_xdp_tx_are_the_programs_alone() -> None:
    """What the stack sends keeps to the pairs that it had, and their number stays while there is a program."""
    nic = Nic(driver=V7_0, queues=2, features="+CTRL_GUEST_OFFLOADS")
    nic.control.set_queues(1)
    nic.attach_xdp(passes)
    assert (nic.driver.vi.curr_queue_pairs, nic.driver.vi.xdp_queue_pairs) == (2, 1)
    # Many flows, which two queues would have shared.
    sent = nic.send([ipv4(udp(bytes(20), port=1000 + n), 17) for n in range(40)])
    assert {one.queue for one in sent} == {0}
    with pytest.raises(ConfigError, match="while an XDP program is attached"):
        nic.control.set_queues(1)
    nic.detach_xdp()
    assert (nic.driver.vi.curr_queue_pairs, nic.driver.vi.xdp_queue_pairs) == (1, 0)
    nic.control.set_queues(2)
    assert len({one.queue for one in nic.send([ipv4(udp(bytes(20), port=n), 17) for n in range(40)])}) == 2
