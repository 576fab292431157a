"""Configuration space and single queues: generation, notifications, queue reset (VIRTIO 1.4, 2.5, 2.6.1, 5.1.4)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.device import receive as r
from netemu.device.config import ConfigSpace
from netemu.device.net import NetDevice
from netemu.errors import ConfigError
from netemu.memory import GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import FIELDS, NetConfig
from tests.device_kit import (
    ACKNOWLEDGE,
    CTRL_VQ,
    DRIVER,
    EVENT_IDX,
    MQ,
    VERSION_1,
    Hand,
    HostFrame,
    Ring,
    negotiate,
)

MTU, STATUS, ANNOUNCE, HASH_REPORT, RSS, SPEED_DUPLEX, RING_PACKED, RING_RESET = 3, 16, 21, 57, 60, 63, 34, 40


def space(*bits: int, **config: Any) -> ConfigSpace:
    return ConfigSpace(NetConfig(**config), FeatureSet.of(VERSION_1, *bits))


# Values.

GOOD: list[tuple[tuple[int, ...], dict[str, int]]] = [
    ((MQ,), {"max_virtqueue_pairs": 1}),
    ((MQ,), {"max_virtqueue_pairs": 0x8000}),
    ((RSS,), {"max_virtqueue_pairs": 0x8000}),
    ((MTU,), {"mtu": 68}),
    ((MTU,), {"mtu": 65535}),
    ((RSS,), {"rss_max_key_size": 40, "rss_max_indirection_table_length": 128}),
    ((HASH_REPORT,), {"rss_max_indirection_table_length": 0}),
    ((SPEED_DUPLEX,), {"speed": 0x7FFFFFFF, "duplex": 1}),
    ((SPEED_DUPLEX,), {"speed": 0, "duplex": 0}),
    ((SPEED_DUPLEX,), {"speed": 0xFFFFFFFF, "duplex": 0xFF}),
    ((), {"mtu": 0, "max_virtqueue_pairs": 0, "speed": 0x80000000, "duplex": 9, "rss_max_key_size": 0}),
]


@pytest.mark.parametrize(("bits", "fields"), GOOD)
def test_values_that_may_be(bits: tuple[int, ...], fields: dict[str, int]) -> None:
    """NETC-D-15, NETC-D-16: a field whose feature is not offered may say anything."""
    space(*bits, **fields)


BAD = [
    pytest.param("NETC-D-01", MQ, {"max_virtqueue_pairs": 0}, "1 to 32768", id="NETC-D-01-none"),
    pytest.param("NETC-D-01", MQ, {"max_virtqueue_pairs": 0x8001}, "1 to 32768", id="NETC-D-01-many"),
    pytest.param("E17", RSS, {"max_virtqueue_pairs": 0}, "1 to 32768", id="E17"),
    pytest.param("NETC-D-02", MTU, {"mtu": 67}, "68 to 65535", id="NETC-D-02"),
    pytest.param("NETC-D-07", RSS, {"rss_max_key_size": 39}, "at least 40", id="NETC-D-07-rss"),
    pytest.param("NETC-D-07", HASH_REPORT, {"rss_max_key_size": 39}, "at least 40", id="NETC-D-07-report"),
    pytest.param("NETC-D-08", RSS, {"rss_max_indirection_table_length": 127}, "at least 128", id="NETC-D-08"),
    pytest.param("NETC-D-10", SPEED_DUPLEX, {"speed": 0x80000000}, "at most", id="NETC-D-10"),
    pytest.param("NETC-D-10", SPEED_DUPLEX, {"speed": 0xFFFFFFFE}, "at most", id="NETC-D-10-nearly-unknown"),
    pytest.param("NETC-D-11", SPEED_DUPLEX, {"duplex": 2}, "0 .half., 1 .full.", id="NETC-D-11"),
]


@pytest.mark.parametrize(("clause", "bit", "fields", "words"), BAD)
def test_values_that_may_not_be(clause: str, bit: int, fields: dict[str, Any], words: str) -> None:
    """NETC-D-01, NETC-D-02, NETC-D-07, NETC-D-08, NETC-D-10, NETC-D-11; errata E1, E2, E17 as the sheet reads them."""
    with pytest.raises(ConfigError, match=words):
        space(bit, **fields)
    with pytest.raises(ConfigError, match=words):
        NetDevice(GuestMemory(1 << 16), FeatureSet.of(VERSION_1, CTRL_VQ, bit), NetConfig(**fields))
    assert clause


def test_a_mac_address_has_six_bytes() -> None:
    with pytest.raises(ConfigError, match="6 bytes, not 5"):
        space(mac=bytes(5))


def test_netc_d_04_the_mtu_does_not_change() -> None:
    """NETC-D-04."""
    config = space(MTU, mtu=1500)
    with pytest.raises(ConfigError, match="does not change"):
        config.change(mtu=9000)
    assert (config.config.mtu, config.generation) == (1500, 0)
    assert not config.change(mtu=1500)
    assert space(mtu=1500).change(mtu=9000)  # a field that nobody may look at


def test_netc_d_12_speed_and_duplex_do_not_change_while_the_link_is_up() -> None:
    """NETC-D-12."""
    config = space(STATUS, SPEED_DUPLEX, speed=1000, duplex=1)
    with pytest.raises(ConfigError, match="take it down first"):
        config.change(speed=10000)
    config.change(status=0)
    config.change(speed=10000)
    config.change(status=1, duplex=0)
    assert (config.config.speed, config.config.duplex) == (10000, 0)


# Generation.


def test_cfg_d_04_the_generation_moves_when_something_was_read_since() -> None:
    """CFG-D-04, trap T16: 256 changes that nobody looked at do not bring 8 bits round to where a driver saw them."""
    config = space(STATUS)
    config.read(0, None)
    for n in range(256):
        config.change(status=n & 1)
        assert config.generation == 1
    config.read(6, 2)
    assert config.generation == 1
    config.change(status=2)
    assert config.generation == 2


def test_the_generation_stays_where_nothing_changed() -> None:
    config = space(STATUS)
    config.read(0, None)
    assert not config.change(status=1)
    assert config.generation == 0


def test_the_generation_has_8_bits() -> None:
    config = space(STATUS)
    for n in range(257):
        config.read(6, 2)
        config.change(status=n & 1)
    assert config.generation == 1


@given(st.lists(st.one_of(st.just("read"), st.integers(0, 3)), max_size=60))
def test_two_reads_of_different_versions_see_different_generations(steps: list[str | int]) -> None:
    """CFG-D-04: for as long as fewer than 256 versions were read."""
    config = space(STATUS)
    seen: dict[int, bytes] = {}
    for step in steps:
        if step == "read":
            assert seen.setdefault(config.generation, config.read(0, None)) == config.config.pack()
        else:
            config.change(status=int(step))


# Reading.


@pytest.mark.parametrize(("offset", "size"), [(0, 28), (0, 6), (6, 2), (27, 1), (27, 9), (28, 4), (1000, 4), (10, 0)])
def test_any_part_can_be_read_and_nothing_lies_behind_the_end(offset: int, size: int) -> None:
    config = space(mac=bytes(range(6)), mtu=0x1234)
    assert config.read(offset, size) == config.config.pack()[offset : offset + size]


def test_cfg_d_01_02_fields_of_offered_features_read_before_features_ok() -> None:
    """CFG-D-01, CFG-D-02."""
    offered = FeatureSet.of(VERSION_1, MTU, STATUS, CTRL_VQ, MQ)
    net = NetDevice(GuestMemory(1 << 16), offered, NetConfig(mtu=0x1234, max_virtqueue_pairs=3))
    net.set_status(ACKNOWLEDGE)
    net.set_status(ACKNOWLEDGE | DRIVER)
    assert net.read_config(*FIELDS["mtu"]) == b"\x34\x12"
    assert net.read_config(*FIELDS["max_virtqueue_pairs"]) == b"\x03\x00"


# Changes at run time.


def test_oper_d_01_a_change_is_told_to_a_live_driver() -> None:
    """OPER-D-01."""
    hand = Hand(VERSION_1, STATUS)
    hand.device.set_link(up=False)
    assert hand.device.config_bell.take()
    assert hand.device.read_config(6, 2) == b"\x00\x00"
    hand.device.set_link(up=False)
    assert not hand.device.config_bell.take()
    hand.device.set_link(up=True)
    assert hand.device.config_bell.take()
    assert hand.device.read_config(6, 2) == b"\x01\x00"


def test_a_request_to_announce_keeps_the_link_bit() -> None:
    """Status bit 1, for a driver that took GUEST_ANNOUNCE; no other is asked. A reset takes the request back."""
    hand = Hand(VERSION_1, STATUS, CTRL_VQ, ANNOUNCE)
    hand.device.ask_to_announce()
    assert hand.device.config_bell.take()
    assert hand.device.read_config(6, 2) == b"\x03\x00"
    hand.device.set_status(0)
    assert hand.device.read_config(6, 2) == b"\x01\x00"
    other = Hand(VERSION_1, STATUS)
    other.device.ask_to_announce()
    assert (other.device.config.status, other.device.config_bell.count) == (1, 0)


def test_a_reset_brings_the_first_mac_address_back() -> None:
    hand = Hand(VERSION_1)
    first = hand.device.read_config(0, 6)
    hand.device.set_mac(bytes.fromhex("020000000099"))
    assert hand.device.read_config(0, 6) == bytes.fromhex("020000000099")
    hand.device.set_status(0)
    assert hand.device.read_config(0, 6) == first


# Sizes of queues.


@pytest.mark.parametrize(("bits", "most"), [((VERSION_1,), 64), ((VERSION_1, RING_PACKED), 100)])
def test_pci_d_13_only_packed_rings_have_sizes_between_the_powers_of_two(bits: tuple[int, ...], most: int) -> None:
    """PCI-D-13. PACK-B-10, SPLIT-B-02: the same device, asked by drivers that took another kind of ring."""
    net = NetDevice(GuestMemory(1 << 16), FeatureSet.of(VERSION_1, RING_PACKED), queue_size=100)
    negotiate(net, FeatureSet.of(*bits))
    assert net.queue_size_max(0) == most


def test_queues_of_one_device_may_differ_in_size() -> None:
    memory = GuestMemory(1 << 16)
    net = NetDevice(memory, FeatureSet.of(VERSION_1), queue_size=64)
    negotiate(net, net.get_features())
    for index, num in ((0, 16), (1, 64)):
        net.setup_queue(index, Ring(memory, num).addresses)
    net.set_status(15)
    assert [dq.num for dq in net.queues[:2]] == [16, 64]


# One queue's reset.


def received(hand: Hand, ring: Ring) -> list[tuple[int, int]]:
    """What the device uses of a ring for one frame of 60 bytes."""
    frame = HostFrame(bytes(60))
    if r.receive_frame(hand.rx_queue, hand.side, frame.address, frame.size, 0) == r.RECEIVED:
        r.publish(hand.rx_queue)
    return ring.take_used()


def test_qrst_d_01_02_a_queue_that_was_reset_is_left_alone_and_others_go_on() -> None:
    """QRST-D-01, QRST-D-02: buffers still lie in its ring, and nobody is called for them."""
    hand = Hand(VERSION_1, RING_RESET)
    hand.rx.post(hand.buffer(100))
    hand.rx.post(hand.buffer(100))
    assert received(hand, hand.rx) == [(0, 72)]
    hand.device.reset_queue(0)
    assert not hand.device.queue_in_reset(0)
    assert [hand.device.queue_enabled(n) for n in (0, 1)] == [False, True]
    before = hand.memory.snapshot()
    assert received(hand, hand.rx) == []
    assert (hand.memory.snapshot(), hand.device.doorbells[0].call_count) == (before, 0)
    assert hand.tx_queue.num == 8
    assert hand.device.get_status() == 15


def test_qrst_d_03_every_number_of_the_queue_is_at_its_default() -> None:
    """QRST-D-03."""
    hand = Hand(VERSION_1, RING_RESET, first_idx=65530)
    hand.rx.post(hand.buffer(100))
    received(hand, hand.rx)
    hand.device.reset_queue(0)
    assert not any(hand.rx_queue.to_dict().values())
    assert not any(hand.device.doorbells[0].to_dict().values())


@pytest.mark.parametrize("num", [4, 8])
def test_qrst_d_04_a_queue_that_is_enabled_again_is_the_new_one(num: int) -> None:
    """QRST-D-04: another place, another size; live at once, since the device is."""
    hand = Hand(VERSION_1, RING_RESET)
    hand.rx.post(hand.buffer(100))
    received(hand, hand.rx)
    hand.device.reset_queue(0)
    ring = Ring(hand.memory, num)
    hand.device.setup_queue(0, ring.addresses)
    ring.post(hand.buffer(80))
    assert hand.rx_queue.num == num
    assert received(hand, ring) == [(0, 72)]
    assert hand.device.queue_enabled(0)


def test_a_broken_queue_is_whole_after_its_own_reset() -> None:
    """The device still says that it needs a reset: that bit goes by one alone (STAT-V-02)."""
    hand = Hand(VERSION_1, RING_RESET)
    hand.rx.expose(99)
    received(hand, hand.rx)
    assert hand.device.get_status() & 64
    hand.device.reset_queue(0)
    assert hand.device.broken == []
    assert hand.device.get_status() & 64


def test_no_queue_is_reset_without_the_feature_or_set_up_twice() -> None:
    hand = Hand(VERSION_1, EVENT_IDX)
    with pytest.raises(ConfigError, match="RING_RESET was not negotiated"):
        hand.device.reset_queue(0)
    with pytest.raises(ConfigError, match="is enabled"):
        hand.device.setup_queue(0, hand.rx.addresses)
    hand = Hand(VERSION_1, RING_RESET)
    with pytest.raises(ConfigError, match="no virtqueue 2"):
        hand.device.reset_queue(2)
