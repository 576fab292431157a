"""The device's status machine: bits that only grow, vetoes, broken queues, suspension (VIRTIO 1.4, sections 2.1, 3)."""

from __future__ import annotations

import pytest

from netemu.device import receive as r
from netemu.device.coalesce import signal_used
from netemu.device.net import HONOURED, NetDevice
from netemu.device.queue import flush
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.virtio.control import Coalesce
from netemu.virtio.features import NAMES, FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.notify import ring_kick
from tests.device_kit import (
    ACKNOWLEDGE,
    CTRL_VQ,
    DRIVER,
    DRIVER_OK,
    FEATURES_OK,
    MQ,
    MRG_RXBUF,
    VERSION_1,
    Hand,
    HostFrame,
    Ring,
    negotiate,
)

SUSPEND, NEEDS_RESET, FAILED = 16, 64, 128
LIVE = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK
MAC, STATUS, RSS = 5, 16, 60
ACCESS_PLATFORM, ORDER_PLATFORM, SR_IOV, ADMIN_VQ, SUSPEND_BIT, NOTF_COAL = 33, 36, 37, 41, 43, 53


def receive(hand: Hand) -> int:
    frame = HostFrame(bytes(60))
    outcome = int(r.receive_frame(hand.rx_queue, hand.side, frame.address, frame.size, 0))
    if outcome == r.RECEIVED:
        r.publish(hand.rx_queue)
    return outcome


def chosen(net: NetDevice, *bits: int) -> bool:
    """Whether the device agrees to a choice, after a reset."""
    net.set_status(0)
    net.set_status(ACKNOWLEDGE | DRIVER)
    net.set_features(FeatureSet.of(*bits))
    net.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    return bool(net.get_status() & FEATURES_OK)


# Status bits.


@pytest.mark.parametrize("written", [ACKNOWLEDGE, DRIVER, DRIVER_OK, ACKNOWLEDGE | DRIVER_OK])
def test_no_bit_goes_away_but_by_a_reset(written: int) -> None:
    """STAT-V-02: a driver must not clear a bit; a device to which one tries stays what it was."""
    hand = Hand(VERSION_1)
    hand.device.set_status(written)
    assert hand.device.get_status() == LIVE
    hand.rx.post(hand.buffer(100))
    assert receive(hand) == r.RECEIVED
    hand.device.set_status(0)
    assert hand.device.get_status() == 0


def test_a_driver_cannot_set_the_device_s_own_bit() -> None:
    """DEVICE_NEEDS_RESET is the device's to set (STAT-D-03)."""
    hand = Hand(VERSION_1)
    hand.device.set_status(LIVE | NEEDS_RESET)
    assert hand.device.get_status() == LIVE


def test_after_failed_only_a_reset_is_heard() -> None:
    """STAT-V-03: the queues are left alone, and setting bits again revives nothing."""
    hand = Hand(VERSION_1)
    hand.rx.post(hand.buffer(100))
    hand.device.set_status(LIVE | FAILED)
    assert receive(hand) == r.BROKEN
    hand.device.set_status(LIVE)
    assert hand.device.get_status() == LIVE | FAILED
    assert receive(hand) == r.BROKEN
    assert chosen(hand.device, VERSION_1)


def test_a_modern_driver_that_skips_features_ok_has_no_device() -> None:
    """INIT-V-07, INIT-V-09: what was chosen is not confirmed, so nothing is live."""
    memory = GuestMemory(1 << 16)
    net = NetDevice(memory, FeatureSet.of(VERSION_1), queue_size=8)
    net.set_status(ACKNOWLEDGE | DRIVER)
    net.set_features(FeatureSet.of(VERSION_1))
    net.setup_queue(0, Ring(memory, 8).addresses)
    net.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK)
    assert not net.live
    assert net.queues[0].num == 0


def test_the_choice_stands_once_a_queue_is_set_up() -> None:
    """FEAT-D-06: the header's length hangs on it."""
    net = NetDevice(GuestMemory(1 << 16), FeatureSet.of(MAC, MRG_RXBUF), queue_size=8)
    net.set_status(ACKNOWLEDGE | DRIVER)
    net.set_features(FeatureSet.of(MAC))
    net.setup_queue(0, Ring(net.memory, 8).addresses)
    net.set_features(FeatureSet.of(MAC, MRG_RXBUF))
    assert net.features == FeatureSet.of(MAC)


def test_kicks_before_driver_ok_are_counted_and_do_nothing() -> None:
    """INIT-V-14 from the device's side; Linux kernels before v5.19 could do so: they opened before DRIVER_OK."""
    memory = GuestMemory(1 << 16)
    net = NetDevice(memory, FeatureSet.of(VERSION_1), queue_size=8)
    negotiate(net, net.get_features())
    ring = Ring(memory, 8)
    bell = net.setup_queue(0, ring.addresses)
    ring.describe(0, memory.reserve(100), 100, 2)
    ring.expose(0)
    ring_kick(bell.address, 0)
    ring_kick(bell.address, 0)
    before = memory.snapshot()
    assert (net.live, net.early_kicks) == (False, 0)
    net.set_status(LIVE)
    assert (net.live, net.early_kicks) == (True, 2)
    assert memory.snapshot() == before
    net.set_status(0)
    assert net.early_kicks == 0


# Vetoes.


def test_rfb_d_02_04_06_a_device_may_insist_on_features() -> None:
    """RFB-D-02: VERSION_1; RFB-D-04: ACCESS_PLATFORM; RFB-D-06: ORDER_PLATFORM; and FEAT-D-03 says how."""
    for bit in (VERSION_1, ACCESS_PLATFORM, ORDER_PLATFORM):
        offered = FeatureSet.of(VERSION_1, ACCESS_PLATFORM, ORDER_PLATFORM, MAC)
        net = NetDevice(GuestMemory(1 << 16), offered, requires=FeatureSet.of(bit))
        assert chosen(net, *offered)
        assert not chosen(net, *(offered - FeatureSet.of(bit)))
        assert net.get_status() == ACKNOWLEDGE | DRIVER


def test_feat_d_03_a_device_may_refuse_combinations() -> None:
    """FEAT-D-03: a set with all of one that is listed. FEAT-D-05: always, so that no reset changes the answer."""
    offered = FeatureSet.of(VERSION_1, MAC, CTRL_VQ, MQ, RSS)
    net = NetDevice(GuestMemory(1 << 16), offered, refuses=[FeatureSet.of(MQ, RSS), FeatureSet.of(MAC)])
    for _ in range(2):
        assert chosen(net, VERSION_1, CTRL_VQ, MQ)
        assert chosen(net, VERSION_1, CTRL_VQ, RSS)
        assert not chosen(net, VERSION_1, CTRL_VQ, MQ, RSS)
        assert not chosen(net, VERSION_1, MAC)


def test_a_device_cannot_insist_on_what_it_does_not_offer() -> None:
    with pytest.raises(ConfigError, match="required and not offered: ACCESS_PLATFORM"):
        NetDevice(GuestMemory(1 << 16), FeatureSet.of(VERSION_1), requires=FeatureSet.of(ACCESS_PLATFORM))


@pytest.mark.parametrize("bit", [4, 30, 42, 44, 71, 127, 128, SR_IOV, ADMIN_VQ])
def test_feat_d_04_bits_that_this_device_could_not_honour_are_not_offered(bit: int) -> None:
    """FEAT-D-04: undescribed, reserved, of PCI alone (RFB-D-10: SR_IOV); E12: 42 was a vendor's; LEG-B-03: bit 30."""
    with pytest.raises(ConfigError, match="cannot honour"):
        NetDevice(GuestMemory(1 << 16), FeatureSet.of(VERSION_1, bit))


def test_all_that_is_honoured_has_a_name() -> None:
    assert HONOURED - FeatureSet.of(*NAMES) == FeatureSet()
    assert HONOURED.unmet() == []


# A device in need of a reset.


def test_stat_d_03_04_a_broken_queue_asks_for_a_reset_and_says_so() -> None:
    """STAT-D-03, STAT-D-04, OPER-D-02: with a configuration-change notification, once."""
    hand = Hand(VERSION_1)
    assert hand.device.get_status() == LIVE
    hand.rx.expose(99)
    assert receive(hand) == r.BROKEN
    hand.device.check_queues()
    assert hand.device.config_bell.take()
    assert hand.device.get_status() == LIVE | NEEDS_RESET
    hand.device.check_queues()
    hand.device.set_status(0)
    assert hand.device.get_status() == 0
    hand.device.check_queues()
    assert (hand.device.config_bell.pending, hand.device.config_bell.count) == (False, 1)


def test_rst_d_02_a_reset_takes_back_a_notification_and_a_dead_device_sends_none() -> None:
    """RST-D-02: nobody is told of the link while no driver is there."""
    hand = Hand(VERSION_1, STATUS)
    hand.device.set_link(up=False)
    assert hand.device.config_bell.count == 1
    hand.device.set_status(0)
    assert not hand.device.config_bell.pending
    hand.device.set_link(up=True)
    negotiate(hand.device, FeatureSet.of(VERSION_1, STATUS))
    hand.device.set_link(up=False)
    assert not hand.device.config_bell.pending


# Legacy drivers.


def test_leg_d_01_03_a_legacy_driver_may_use_a_queue_at_once() -> None:
    """LEG-D-01: it has not taken VERSION_1. LEG-D-03, LEG-V-04: it needs neither FEATURES_OK nor DRIVER_OK."""
    memory = GuestMemory(1 << 16)
    net = NetDevice(memory, FeatureSet.of(VERSION_1, MAC, MRG_RXBUF), queue_size=8)
    net.set_status(ACKNOWLEDGE | DRIVER)
    net.set_features(FeatureSet.of(MAC))
    ring = Ring(memory, 8)
    net.setup_queue(0, ring.addresses)
    ring.describe(0, memory.reserve(100), 100, 2)
    ring.expose(0)
    frame = HostFrame(bytes(60))
    assert r.receive_frame(net.queues[0], net.side, frame.address, frame.size, 0) == r.RECEIVED
    r.publish(net.queues[0])
    assert ring.take_used() == [(0, 70)]  # LEG-V-11: a header of 10 bytes


def test_a_legacy_driver_with_a_set_that_cannot_be_gets_no_device() -> None:
    """There is no FEATURES_OK to leave clear, so the device stays still."""
    net = NetDevice(GuestMemory(1 << 16), FeatureSet.of(VERSION_1, MAC), queue_size=8)
    net.set_status(ACKNOWLEDGE | DRIVER)
    net.set_features(FeatureSet.of(MAC, MRG_RXBUF))
    net.setup_queue(0, Ring(net.memory, 8).addresses)
    net.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK)
    assert not net.live


# Suspension.


def suspended() -> Hand:
    """A live device that was told to suspend, with a buffer in its ring."""
    hand = Hand(VERSION_1, STATUS, SUSPEND_BIT)
    hand.rx.post(hand.buffer(100))
    hand.device.set_status(LIVE | SUSPEND)
    return hand


def test_susp_d_01_suspend_is_ignored_until_initialisation_is_complete() -> None:
    """SUSP-D-01."""
    net = NetDevice(GuestMemory(1 << 16), FeatureSet.of(VERSION_1, SUSPEND_BIT), queue_size=8)
    net.set_status(SUSPEND)
    assert net.get_status() == 0
    negotiate(net, net.get_features())
    net.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | SUSPEND)
    assert net.get_status() == ACKNOWLEDGE | DRIVER | FEATURES_OK
    without = Hand(VERSION_1)
    without.device.set_status(LIVE | SUSPEND)
    assert without.device.get_status() == LIVE


def test_susp_d_08_to_12_a_suspended_device_says_so_and_leaves_its_queues_alone() -> None:
    """SUSP-D-08: SUSPEND reads 1 and DRIVER_OK 0. SUSP-D-03, SUSP-D-04, SUSP-D-10: no buffer, no call.

    SUSP-D-11 and SUSP-D-12: what was received before is used and told already.
    """
    hand = Hand(VERSION_1, SUSPEND_BIT)
    for _ in range(2):
        hand.rx.post(hand.buffer(100))
    assert receive(hand) == r.RECEIVED
    hand.device.set_status(LIVE | SUSPEND)
    assert hand.device.get_status() == ACKNOWLEDGE | DRIVER | FEATURES_OK | SUSPEND
    assert (hand.rx.take_used(), hand.bell.call_count) == ([(0, 72)], 1)
    before = hand.memory.snapshot()
    assert receive(hand) == r.BROKEN
    assert (hand.memory.snapshot(), hand.bell.call_count) == (before, 1)


def test_susp_d_12_calls_that_are_held_back_are_sent_before_the_device_rests() -> None:
    """SUSP-D-12, with notification coalescing: one frame of ten has come, and time stands still."""
    hand = Hand(VERSION_1, CTRL_VQ, NOTF_COAL, SUSPEND_BIT)
    hand.device.coalescing.set_direction(0, Coalesce(max_packets=10, max_usecs=1000))
    hand.rx.post(hand.buffer(100))
    frame = HostFrame(bytes(60))
    assert r.receive_frame(hand.rx_queue, hand.side, frame.address, frame.size, 0) == r.RECEIVED
    flush(hand.rx_queue)
    assert signal_used(hand.rx_queue, hand.device.coalescing.queues[0], 1, 0) == 0
    hand.device.set_status(LIVE | SUSPEND)
    assert hand.bell.call_count == 1
    hand.device.set_status(hand.device.get_status() | DRIVER_OK)
    assert hand.bell.call_count == 1


def test_susp_d_09_writing_driver_ok_resumes_where_it_stopped() -> None:
    """SUSP-D-09, erratum E16: DRIVER_OK reads 0 while suspended, and writing it is the request."""
    hand = suspended()
    hand.device.set_status(hand.device.get_status() | DRIVER_OK)
    assert hand.device.get_status() == LIVE
    assert receive(hand) == r.RECEIVED
    assert hand.rx.take_used() == [(0, 72)]


def test_susp_d_05_06_07_configuration_rests_and_is_told_on_resume() -> None:
    """SUSP-D-05, SUSP-D-06, SUSP-D-07."""
    hand = suspended()
    before = hand.device.read_config()
    hand.device.set_link(up=False)
    hand.device.set_link(up=False, speed=1000)
    assert (hand.device.read_config(), hand.device.config_bell.count) == (before, 0)
    hand.device.set_status(hand.device.get_status() | DRIVER_OK)
    assert hand.device.config.status & 1 == 0
    assert hand.device.config_bell.count == 1


def test_a_resume_without_news_tells_nothing() -> None:
    hand = suspended()
    hand.device.set_status(hand.device.get_status() | DRIVER_OK)
    assert hand.device.config_bell.count == 0


def test_a_suspended_device_can_be_reset_and_given_up() -> None:
    hand = suspended()
    hand.device.set_status(0)
    assert hand.device.get_status() == 0
    hand = suspended()
    hand.device.set_status(hand.device.get_status() | FAILED)
    assert hand.device.get_status() & FAILED
    hand.device.set_status(LIVE)
    assert receive(hand) == r.BROKEN


# Pairs that configuration and features name differently.


def test_control_queue_exists_only_where_it_was_negotiated() -> None:
    """NETQ-B-02, NETQ-B-03, trap T13: index 2N by the pairs there are, not by those in use."""
    offered = FeatureSet.of(VERSION_1, CTRL_VQ, MQ)
    for bits, index in (((VERSION_1,), -1), ((VERSION_1, CTRL_VQ), 2), ((VERSION_1, CTRL_VQ, MQ), 8)):
        net = NetDevice(GuestMemory(1 << 16), offered, NetConfig(max_virtqueue_pairs=4), queue_size=8)
        negotiate(net, FeatureSet.of(*bits))
        assert net.control_index == index
        assert [net.queue_size_max(n) > 0 for n in range(10)] == [n < max(2, index + (index > 0)) for n in range(10)]
