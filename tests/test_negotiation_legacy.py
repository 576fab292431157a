"""Legacy interfaces, and what is left of initialisation: who reads and writes what, and when."""

from __future__ import annotations

import pytest

from netemu.device import receive as r
from netemu.device.config import config_advice
from netemu.device.net import NetDevice
from netemu.driver.features import SUPPORTED
from netemu.driver.probe import VirtioNet
from netemu.driver.transmit import free_old_xmit_skbs
from netemu.driver.virtio_ring import Scatter, virtqueue_add
from netemu.jit import array_of, store16
from netemu.memory import GuestMemory
from netemu.nic import Nic
from netemu.offer import MODES, offered_features
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from tests import device_kit as dk
from tests.driver_hand import HandTransport
from tests.driver_kit import BASE, MAC, MERGEABLE, SMALL, V4_19, V7_0, Rig, every_era, frame

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, SUSPEND = 1, 2, 4, 8, 16
LEGACY = FeatureSet.of(f.MAC, f.STATUS)
LEGACY_CONTROL = LEGACY | FeatureSet.of(f.CTRL_VQ, f.CTRL_RX, f.CTRL_VLAN)


def probed(device: HandTransport, kernel: str = V7_0) -> VirtioNet:
    return VirtioNet(device, GuestMemory(32 << 20), kernel, 16, SUPPORTED)


# Legacy devices and drivers.


@every_era
def test_a_device_without_version_1_is_a_legacy_device(kernel: str) -> None:
    """LEG-V-01, LEG-B-01: known by the missing bit. LEG-V-04: the steps without FEATURES_OK. RFB-V-02: it is served."""
    device = HandTransport(LEGACY | FeatureSet.of(f.ANY_LAYOUT, f.GSO), NetConfig(mac=MAC), 16)
    driver = probed(device, kernel)
    assert device.status_writes == [0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | DRIVER_OK]
    assert device.accepted == LEGACY | FeatureSet.of(f.ANY_LAYOUT, f.GSO)
    assert driver.vi.hdr_len == 10
    modern = HandTransport(BASE | FeatureSet.of(f.ANY_LAYOUT, f.GSO), NetConfig(mac=MAC), 16)
    probed(modern, kernel)
    assert modern.accepted == BASE


def test_leg_v_12_a_legacy_driver_writes_its_address() -> None:
    """LEG-V-12: byte by byte, as virtio_cwrite8 does; NETC-V-01: a modern one writes nothing."""
    device = HandTransport(LEGACY, NetConfig(mac=MAC), 16)
    assert probed(device).control.virtnet_set_mac_address(bytes.fromhex("0200000000ff"))
    assert [at for what, at in device.log if what == "write_config"] == [0, 1, 2, 3, 4, 5]
    assert device.config.mac == bytes.fromhex("0200000000ff")
    modern = HandTransport(BASE, NetConfig(mac=MAC), 16)
    probed(modern).control.virtnet_set_mac_address(bytes.fromhex("0200000000ff"))
    assert [what for what, _ in modern.log if what == "write_config"] == []


def test_leg_d_02_a_device_takes_an_address_before_features_are_chosen() -> None:
    """LEG-D-02, LEG-V-12. All other fields are read-only, and so is the address to a modern driver (NETC-V-01)."""
    net = NetDevice(GuestMemory(1 << 16), FeatureSet.of(f.VERSION_1, f.MAC))
    before = net.read_config()
    net.write_config(2, b"\xaa\xbb")
    assert net.read_config(0, 6) == before[:2] + b"\xaa\xbb" + before[4:6]
    for offset, data in ((6, b"\0\0"), (5, b"\0\0"), (0, bytes(7)), (1000, b"\0")):
        net.write_config(offset, data)
    assert net.read_config(6) == before[6:]
    dk.negotiate(net, FeatureSet.of(f.VERSION_1, f.MAC))
    now = net.read_config()
    net.write_config(0, bytes(6))
    assert net.read_config() == now


def test_susp_d_02_configuration_writes_do_nothing_while_suspended() -> None:
    """SUSP-D-02."""
    hand = dk.Hand(f.VERSION_1, f.SUSPEND)
    hand.device.set_status(15 | SUSPEND)
    before = hand.device.read_config()
    hand.device.write_config(0, bytes(6))
    assert hand.device.read_config() == before


def test_leg_d_06_a_legacy_device_offers_any_layout() -> None:
    """LEG-D-06, LEG-V-05; a modern one has no use for it."""
    legacy = Nic(features="-VERSION_1")
    assert f.ANY_LAYOUT in legacy.device.get_features()
    assert f.ANY_LAYOUT in legacy.driver.features
    assert f.ANY_LAYOUT not in Nic().device.get_features()
    assert f.ANY_LAYOUT not in Nic(features="-VERSION_1,-ANY_LAYOUT").device.get_features()


@every_era
def test_control_commands_without_any_layout_are_cut_as_of_old(kernel: str) -> None:
    """LEG-V-07: class and command in one descriptor; LEG-V-08: data in one, the MAC table's in two.

    LEG-V-09: the acknowledgement in one of a byte. No descriptor has two of them.
    """
    one = Rig(kernel, LEGACY_CONTROL, 16)
    control = one.driver.control
    control.virtnet_vlan_rx_add_vid(5)
    control.rx_mode.multicast = [bytes.fromhex("01005e000001")] * 2
    control.virtnet_set_rx_mode()
    control.run_work()
    shapes = [[(length, flags) for _, length, flags in chain] for chain in one.control.chains]
    assert shapes[-4:] == [
        [(2, 0), (2, 0), (1, 2)],
        [(2, 0), (1, 0), (1, 2)],
        [(2, 0), (1, 0), (1, 2)],
        [(2, 0), (4, 0), (4 + 12, 0), (1, 2)],
    ]


def test_leg_v_10_a_used_length_says_nothing_of_what_was_sent() -> None:
    """LEG-V-10: legacy devices report anything; here the frame's whole length and more."""
    one = Rig(V4_19, LEGACY, 16)
    one.driver.open()
    skb = one.outgoing(frame(60))
    sg = array_of(Scatter, 1)
    sg[0].gpa, sg[0].length = one.memory.regions[0][0], 60
    assert virtqueue_add(one.tx_vq, sg.address, 1, 0, skb.address, 0) == 0
    one.tx.use(one.tx.take(), 99_999)
    assert free_old_xmit_skbs(one.sq) == 1
    assert one.sq.bytes == 60


# What is read and written on the way.


def test_init_v_05_06_configuration_is_read_and_never_written() -> None:
    """INIT-V-05: the MTU decides whether the feature is taken, so it is read before. INIT-V-06, NETC-V-01: no write."""
    device = HandTransport(MERGEABLE | FeatureSet.of(f.MTU), NetConfig(mac=MAC, mtu=60), 16)
    seen: list[list[tuple[int, int]]] = []
    original = device.set_features

    def set_features(features: FeatureSet) -> None:
        seen.append(list(device.reads))
        original(features)

    device.set_features = set_features  # type: ignore[method-assign]
    driver = probed(device)
    driver.open()
    driver.remove()
    assert seen == [[(10, 2)]]
    assert f.MTU not in device.accepted
    assert "write_config" not in {what for what, _ in device.log}


def test_init_v_08_nothing_is_accepted_after_features_ok() -> None:
    """INIT-V-08, FEAT-V-01: one choice, before FEATURES_OK, and part of the offer."""
    device = HandTransport(MERGEABLE, NetConfig(mac=MAC), 16)
    probed(device).open()
    kinds = [what if what != "status" else f"status {value}" for what, value in device.log]
    assert kinds.count("set_features") == 1
    assert kinds.index("set_features") < kinds.index("status 11")
    assert device.accepted - MERGEABLE == FeatureSet()


def test_susp_v_01_no_kernel_suspends_a_device() -> None:
    """SUSP-V-01: Linux has no driver for SUSPEND, so the feature is left and the bit is never set."""
    device = HandTransport(MERGEABLE | FeatureSet.of(f.SUSPEND), NetConfig(mac=MAC), 16)
    driver = probed(device)
    driver.open()
    driver.freeze()
    driver.restore()
    driver.remove()
    assert f.SUSPEND not in device.accepted
    assert not any(value & SUSPEND for value in device.status_writes)


def test_notif_b_01_there_are_three_kinds_of_notification() -> None:
    """NOTIF-B-01: kick and call of a queue, change of configuration; frames move the first two, the link the third."""
    nic = Nic(mode="small", queue_size=16)  # so small that the device runs dry, and asks to be kicked
    bell, config = nic.device.doorbells[0], nic.device.config_bell
    before = bell.kick_count, bell.call_count, config.count
    nic.receive([frame(60)] * 40)
    assert (bell.kick_count > before[0], bell.call_count > before[1], config.count) == (True, True, before[2])
    between = bell.kick_count, bell.call_count
    nic.set_link(up=False)
    assert ((bell.kick_count, bell.call_count), config.count) == (between, before[2] + 1)


@every_era
def test_neti_v_02_one_pair_until_the_device_has_agreed_to_more(kernel: str) -> None:
    """NETI-V-02: a device that does not answer VQ_PAIRS_SET: only receiveq1 is filled."""
    device = HandTransport(MERGEABLE | FeatureSet.of(f.MQ, f.CTRL_VQ), NetConfig(mac=MAC, max_virtqueue_pairs=3), 16)
    driver = probed(device, kernel)
    driver.open()
    assert (driver.vi.max_queue_pairs, driver.vi.curr_queue_pairs) == (3, 1)
    assert [driver.rings[2 * n].num_free for n in range(3)] == [0, 16, 16]


def test_neti_v_03_a_minimal_driver_takes_mac_alone() -> None:
    """NETI-V-03: and the modern interface; small buffers, one pair, no control queue, and frames arrive."""
    nic = Nic(accept=FeatureSet.of(f.MAC, f.VERSION_1), queues=4)
    assert nic.driver.features == FeatureSet.of(f.MAC, f.VERSION_1)
    assert (nic.mode, len(nic.driver.rings)) == ("small", 2)
    data = [frame(size) for size in (60, 1514)]
    assert [received.data for received in nic.receive(data)] == data


# What a device offers and delivers.


@pytest.mark.parametrize("mode", MODES)
def test_rfb_d_01_every_offer_has_version_1(mode: str) -> None:
    """RFB-D-01, FEAT-D-01."""
    for queues in (1, 4):
        offered = offered_features(mode, queues)  # type: ignore[arg-type]
        assert f.VERSION_1 in offered
        assert offered.unmet() == []


@pytest.mark.parametrize("bit", [f.ACCESS_PLATFORM, f.STATUS])
def test_rfb_v_04_05_every_address_lies_in_the_guest_s_memory(bit: int) -> None:
    """RFB-V-04, RFB-V-05: with ACCESS_PLATFORM or without, what a descriptor says is where the memory is."""
    for features in (MERGEABLE, SMALL):
        one = Rig(V7_0, features | FeatureSet.of(bit), 16)
        one.driver.open()
        [(start, size)] = one.memory.regions
        for head in range(16):
            address, length, _, _ = one.rx.descriptor(head)
            assert start <= address
            assert address + length <= start + size


def test_rfb_d_05_with_in_order_buffers_are_used_in_the_order_of_posting() -> None:
    """RFB-D-05: posted from slots out of order, used in the order of the available ring."""
    hand = dk.Hand(f.VERSION_1, f.IN_ORDER)
    heads = []
    for slot in (5, 2, 7, 0):
        hand.rx.describe(slot, hand.buffer(100).gpa, 100, 2)
        hand.rx.expose(slot)
        heads.append(slot)
    data = dk.HostFrame(bytes(60))
    for _ in heads:
        assert r.receive_frame(hand.rx_queue, hand.side, data.address, data.size, 0) == r.RECEIVED
        r.publish(hand.rx_queue)
    assert [used for used, _ in hand.rx.take_used()] == heads


@pytest.mark.parametrize(
    ("extra", "tag", "arrives"),
    [(0, b"", True), (1, b"", False), (4, b"\x81\x00\x00\x01", True), (5, b"\x81\x00\x00\x01", False)],
)
def test_netc_d_05_no_frame_over_the_mtu_is_delivered(extra: int, tag: bytes, arrives: bool) -> None:
    """NETC-D-05: mtu plus the link header, which a VLAN tag is part of; such a frame is counted under its reason."""
    nic = Nic(mode="mergeable", mtu=1000)
    whole = frame(14 + 1000 + extra)
    data = whole[:12] + tag + whole[12 : len(whole) - len(tag)]
    got = nic.receive([data])
    assert [received.data for received in got] == ([data] if arrives else [])
    assert nic.dropped == ({} if arrives else {"over_mtu": 1})
    assert nic.device.get_status() == 15


def test_without_an_mtu_frames_are_as_long_as_they_are() -> None:
    """NETC-D-05 speaks of a device whose MTU was negotiated."""
    nic = Nic(mode="mergeable", mtu=1000, accept=SUPPORTED - FeatureSet.of(f.MTU))
    data = frame(5000)
    assert [received.data for received in nic.receive([data])] == [data]


@pytest.mark.parametrize(("mtu", "advised"), [(68, True), (1279, True), (1280, False), (1500, False)])
def test_netc_d_03_an_mtu_should_carry_ipv6(mtu: int, advised: bool) -> None:
    """NETC-D-03: SHOULD, so it is advice and no refusal."""
    assert bool(config_advice(NetConfig(mtu=mtu), FeatureSet.of(f.MTU))) == advised
    assert config_advice(NetConfig(mtu=mtu), FeatureSet()) == []
    NetDevice(GuestMemory(1 << 16), FeatureSet.of(f.VERSION_1, f.MTU), NetConfig(mtu=mtu))


def test_a_link_that_is_down_brings_no_frame() -> None:
    """Counted under its reason; the frames after it came up arrive."""
    nic = Nic()
    nic.set_link(up=False)
    assert nic.receive([frame(100)] * 3) == []
    assert nic.dropped == {"link_down": 3}
    nic.set_link(up=True)
    assert [received.data for received in nic.receive([frame(100)])] == [frame(100)]


def test_stat_d_03_a_queue_that_breaks_under_traffic_is_announced() -> None:
    """STAT-D-03, STAT-D-04: after the batch in which it broke."""
    nic = Nic(mode="small", queue_size=16)
    dq = nic.device.queues[0]
    store16(dq.avail + 2, (dq.last_avail_idx + 1000) & 0xFFFF)
    assert nic.receive([frame(60)]) == []
    assert nic.device.get_status() == 15 | 64
    assert nic.device.config_bell.count == 1
