"""The device as a driver finds it: status, features, configuration, queues (VIRTIO 1.4, sections 2.1 to 2.4, 5.1)."""

from __future__ import annotations

import pytest

from netemu.device import receive as r
from netemu.device.net import NetDevice
from netemu.errors import ConfigError, NetemuError
from netemu.memory import DEFAULT_BASE, GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from netemu.virtio.split import RingAddresses
from tests.device_kit import (
    ACKNOWLEDGE,
    CTRL_VQ,
    DRIVER,
    DRIVER_OK,
    EVENT_IDX,
    FEATURES_OK,
    INDIRECT_DESC,
    MQ,
    MRG_RXBUF,
    VERSION_1,
    Hand,
    HostFrame,
    Ring,
    negotiate,
)

CSUM, GUEST_CSUM, MAC, GUEST_TSO4, GUEST_TSO6, RSS = 0, 1, 5, 7, 8, 60
OFFERED = FeatureSet.of(GUEST_CSUM, MAC, GUEST_TSO4, GUEST_TSO6, MRG_RXBUF, VERSION_1)


def device(*bits: int, config: NetConfig | None = None, queue_size: int = 8) -> NetDevice:
    features = FeatureSet.of(*bits) if bits else OFFERED
    return NetDevice(GuestMemory(1 << 16), features, config, queue_size=queue_size)


def features_ok(net: NetDevice, *bits: int) -> bool:
    """Whether the device accepts the driver's choice."""
    net.set_status(ACKNOWLEDGE | DRIVER)
    net.set_features(FeatureSet.of(*bits))
    net.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)
    return bool(net.get_status() & FEATURES_OK)


# Status and features.


def test_stat_d_05_status_is_0_at_the_beginning() -> None:
    """STAT-D-05."""
    assert device().get_status() == 0


def test_stat_v_01_the_bits_that_the_driver_sets_read_back() -> None:
    """STAT-V-01."""
    net = device()
    for value in (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, ACKNOWLEDGE | DRIVER | FEATURES_OK, 0xF, 0x8F):
        net.set_status(value)
        assert net.get_status() == value


def test_feat_d_01_a_set_whose_prerequisites_are_missing_cannot_be_offered() -> None:
    """FEAT-D-01."""
    with pytest.raises(ConfigError, match="GUEST_TSO4 requires GUEST_CSUM"):
        device(GUEST_TSO4, VERSION_1)
    with pytest.raises(ConfigError, match="MQ requires CTRL_VQ"):
        device(MQ, VERSION_1)


@pytest.mark.parametrize(
    "bits",
    [
        (),
        (VERSION_1,),
        (MAC,),
        (GUEST_CSUM, VERSION_1),
        (GUEST_CSUM, GUEST_TSO4, VERSION_1),
        (GUEST_CSUM, MAC, GUEST_TSO4, GUEST_TSO6, MRG_RXBUF, VERSION_1),
    ],
)
def test_feat_d_02_every_valid_subset_is_accepted(bits: tuple[int, ...]) -> None:
    """FEAT-D-02."""
    net = device()
    assert features_ok(net, *bits)
    assert net.features == FeatureSet.of(*bits)


@pytest.mark.parametrize(
    ("bits", "why"),
    [
        ((VERSION_1, CSUM), "not offered"),
        ((VERSION_1, EVENT_IDX), "not offered"),
        ((VERSION_1, 127), "nobody knows it"),
        ((VERSION_1, GUEST_TSO4), "NETF-B-01: without GUEST_CSUM"),
    ],
)
def test_feat_d_03_features_ok_stays_clear_for_a_set_that_is_not_accepted(bits: tuple[int, ...], why: str) -> None:
    """FEAT-D-03, trap T15: dependency violations are caught here."""
    net = device()
    assert not features_ok(net, *bits), why
    assert net.get_status() == ACKNOWLEDGE | DRIVER


def test_a_driver_may_choose_again_after_a_veto() -> None:
    net = device()
    assert not features_ok(net, CSUM)
    assert features_ok(net, VERSION_1)


def test_init_v_08_the_choice_stands_once_features_ok_is_set() -> None:
    """INIT-V-08, FEAT-D-06: otherwise a driver would get past the veto."""
    net = device()
    assert features_ok(net, VERSION_1)
    net.set_features(FeatureSet.of(VERSION_1, CSUM))
    assert net.features == FeatureSet.of(VERSION_1)


def test_feat_d_05_a_reset_leads_back_to_the_beginning_and_the_same_set_is_accepted_again() -> None:
    """FEAT-D-05."""
    net = device()
    for _ in range(3):
        assert features_ok(net, VERSION_1, MRG_RXBUF)
        net.set_status(0)
        assert net.get_status() == 0
        assert net.features == FeatureSet()
    assert net.get_features() == OFFERED


def test_a_driver_that_goes_on_after_a_veto_has_no_device() -> None:
    """INIT-V-09: it is unusable; and no set that was refused becomes live."""
    hand = Hand(VERSION_1)
    hand.device.set_status(0)
    assert not features_ok(hand.device, VERSION_1, MRG_RXBUF)
    hand.device.setup_queue(0, hand.rx.addresses)
    hand.device.set_status(ACKNOWLEDGE | DRIVER | DRIVER_OK)
    hand.rx.post(hand.buffer(100))
    assert receive(hand) == r.BROKEN


# Life and death of queues.


def receive(hand: Hand) -> int:
    frame = HostFrame(bytes(60))
    outcome = int(r.receive_frame(hand.rx_queue, hand.side, frame.address, frame.size, 0))
    if outcome == r.RECEIVED:
        r.publish(hand.rx_queue)
    return outcome


def test_stat_d_01_02_no_buffer_is_taken_and_nobody_called_before_driver_ok() -> None:
    """STAT-D-01, STAT-D-02: a driver fills its rings first; the device leaves them alone until it is told so."""
    memory = GuestMemory(1 << 16)
    net = NetDevice(memory, OFFERED, queue_size=8)
    negotiate(net, OFFERED)
    ring = Ring(memory, 8)
    bell = net.setup_queue(0, ring.addresses)
    gpa = memory.reserve(100)
    ring.describe(0, gpa, 100, 2)
    ring.expose(0)
    before = memory.snapshot()
    frame = HostFrame(bytes(60))
    assert r.receive_frame(net.queues[0], net.side, frame.address, frame.size, 0) == r.BROKEN
    assert (memory.snapshot(), bell.call_count) == (before, 0)
    net.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    assert r.receive_frame(net.queues[0], net.side, frame.address, frame.size, 0) == r.RECEIVED
    r.publish(net.queues[0])
    assert (ring.take_used(), bell.call_count) == ([(0, 72)], 1)


def test_rst_d_02_03_after_a_reset_queues_are_left_alone() -> None:
    """RST-D-02, RST-D-03."""
    hand = Hand(VERSION_1)
    for _ in range(2):
        hand.rx.post(hand.buffer(100))
    assert receive(hand) == r.RECEIVED
    queue, side = hand.rx_queue.address, hand.side.address
    hand.device.set_status(0)
    before = hand.memory.snapshot()
    assert receive(hand) == r.BROKEN
    assert hand.memory.snapshot() == before
    assert not any(hand.bell.to_dict().values())
    # Kernels keep the addresses of these structs, so they stay where they are.
    assert (hand.rx_queue.address, hand.side.address) == (queue, side)


def test_rst_d_01_a_broken_queue_is_whole_after_a_reset() -> None:
    """RST-D-01."""
    hand = Hand(VERSION_1)
    hand.rx.expose(99)
    assert receive(hand) == r.BROKEN
    assert hand.device.broken == ["virtqueue 0: a head lies outside the ring"]
    hand.device.set_status(0)
    assert hand.device.broken == []
    negotiate(hand.device, FeatureSet.of(VERSION_1))
    ring = Ring(hand.memory, 8)
    hand.device.setup_queue(0, ring.addresses)
    hand.device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    part = hand.buffer(100)
    ring.post(part)
    assert receive(hand) == r.RECEIVED
    assert ring.take_used() == [(0, 72)]


@pytest.mark.parametrize(
    ("offered", "chosen", "hdr_len", "mergeable", "event", "indirect"),
    [
        ((), (), 10, 0, 0, 0),
        ((VERSION_1, MRG_RXBUF), (MRG_RXBUF,), 12, 1, 0, 0),
        ((VERSION_1, MRG_RXBUF, EVENT_IDX, INDIRECT_DESC), (VERSION_1,), 12, 0, 0, 0),
        ((VERSION_1, MRG_RXBUF, EVENT_IDX), (VERSION_1, EVENT_IDX), 12, 0, 1, 0),
        ((VERSION_1, MRG_RXBUF, INDIRECT_DESC), (VERSION_1, MRG_RXBUF, INDIRECT_DESC), 12, 1, 0, 1),
    ],
)
def test_what_counts_is_what_was_negotiated_not_what_was_offered(
    offered: tuple[int, ...], chosen: tuple[int, ...], hdr_len: int, mergeable: int, event: int, indirect: int
) -> None:
    hand = Hand(*(offered or (MAC,)))
    hand.device.set_status(0)
    negotiate(hand.device, FeatureSet.of(*chosen))
    hand.device.setup_queue(0, hand.rx.addresses)
    hand.device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    dq = hand.rx_queue
    assert (hand.side.hdr_len, hand.side.mergeable, dq.event, dq.indirect) == (hdr_len, mergeable, event, indirect)


def test_split_d_19_with_event_idx_setting_a_queue_up_writes_no_byte() -> None:
    """SPLIT-D-19."""
    memory = GuestMemory(1 << 16)
    net = NetDevice(memory, FeatureSet.of(VERSION_1, EVENT_IDX), queue_size=8)
    negotiate(net, net.get_features())
    ring = Ring(memory, 8)
    net.setup_queue(0, ring.addresses)
    assert not any(memory.snapshot())


# Queues and where they lie.


@pytest.mark.parametrize("size", [1, 2, 256, 32768])
def test_split_b_02_queue_sizes(size: int) -> None:
    """SPLIT-B-02."""
    net = device(queue_size=size)
    assert [net.queue_size_max(index) for index in (0, 1, 2, -1)] == [size, size, 0, 0]


@pytest.mark.parametrize("size", [0, -1, 3, 100, 65536])
def test_split_b_02_sizes_that_no_split_ring_has(size: int) -> None:
    """SPLIT-B-02."""
    with pytest.raises(ConfigError):
        device(queue_size=size)


def test_netq_b_01_02_pairs_count_when_multiqueue_was_negotiated() -> None:
    """NETQ-B-01, NETQ-B-02: queues 2(K-1) and 2(K-1)+1; N is max_virtqueue_pairs with MQ or RSS, else 1."""
    for bit in (MQ, RSS):
        net = device(VERSION_1, CTRL_VQ, bit, config=NetConfig(max_virtqueue_pairs=4))
        negotiate(net, net.get_features())
        assert [net.queue_size_max(index) for index in range(8)] == [8] * 8
        net = device(VERSION_1, CTRL_VQ, bit, config=NetConfig(max_virtqueue_pairs=4))
        negotiate(net, FeatureSet.of(VERSION_1))
        assert [net.queue_size_max(index) for index in range(8)] == [8, 8, 0, 0, 0, 0, 0, 0]


def test_each_queue_has_its_own_ring_and_bell() -> None:
    hand = Hand(VERSION_1, CTRL_VQ, MQ, pairs=3)
    assert [bell.address for bell in hand.bells] == [dq.doorbell for dq in hand.device.queues[:6]]
    assert len({bell.address for bell in hand.bells}) == 6
    for ring, dq in zip(hand.rings, hand.device.queues[:6], strict=True):
        assert dq.avail == hand.memory.host_address(ring.avail, 22)


RING = RingAddresses(8, DEFAULT_BASE, DEFAULT_BASE + 0x100, DEFAULT_BASE + 0x200)
END = DEFAULT_BASE + (1 << 16)


@pytest.mark.parametrize(
    ("index", "ring", "words"),
    [
        pytest.param(2, RING, "at most 0", id="no-such-queue"),
        pytest.param(-1, RING, "at most 0", id="negative-queue"),
        pytest.param(0, RingAddresses(16, RING.desc, RING.avail, RING.used), "at most 8", id="larger-than-offered"),
        pytest.param(0, RingAddresses(6, RING.desc, RING.avail, RING.used), "power of two", id="no-power-of-two"),
        pytest.param(0, RingAddresses(0, RING.desc, RING.avail, RING.used), "power of two", id="empty"),
        pytest.param(0, RingAddresses(8, RING.desc + 8, RING.avail, RING.used), "aligned", id="desc-not-aligned"),
        pytest.param(0, RingAddresses(8, RING.desc, RING.avail + 1, RING.used), "aligned", id="avail-not-aligned"),
        pytest.param(0, RingAddresses(8, RING.desc, RING.avail, RING.used + 2), "aligned", id="used-not-aligned"),
        pytest.param(0, RingAddresses(8, END - 112, RING.avail, RING.used), "no region", id="desc-over-the-end"),
        pytest.param(0, RingAddresses(8, RING.desc, END - 20, RING.used), "no region", id="avail-over-the-end"),
        pytest.param(0, RingAddresses(8, RING.desc, RING.avail, END - 68), "no region", id="used-over-the-end"),
        pytest.param(0, RingAddresses(8, 0, RING.avail, RING.used), "no region", id="null"),
        pytest.param(0, RingAddresses(8, 2**64 - 16, RING.avail, RING.used), "no region", id="wraps"),
    ],
)
def test_split_v_01_a_ring_that_cannot_be_is_refused_and_the_queue_stays_off(
    index: int, ring: RingAddresses, words: str
) -> None:
    """SPLIT-V-01."""
    net = device(VERSION_1)
    negotiate(net, FeatureSet.of(VERSION_1))
    with pytest.raises(NetemuError, match=words):
        net.setup_queue(index, ring)
    net.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    frame = HostFrame(bytes(60))
    assert [dq.num for dq in net.queues] == [0, 0]
    assert r.receive_frame(net.queues[0], net.side, frame.address, frame.size, 0) == r.BROKEN


def test_rings_may_reach_to_the_last_byte_of_memory() -> None:
    """SPLIT-B-01: 128, 22 and 70 bytes for 8 entries."""
    for ring in (
        RingAddresses(8, END - 128, RING.avail, RING.used),
        RingAddresses(8, RING.desc, END - 22, RING.used),
        RingAddresses(8, RING.desc, RING.avail, END - 72),
    ):
        net = device(VERSION_1)
        negotiate(net, FeatureSet.of(VERSION_1))
        net.setup_queue(0, ring)


# Configuration.


def test_cfg_d_01_configuration_reads_at_the_offsets_of_section_c_before_features_ok() -> None:
    """CFG-D-01."""
    config = NetConfig(
        mac=bytes.fromhex("0a0b0c0d0e0f"),
        status=3,
        max_virtqueue_pairs=0x1122,
        mtu=0x3344,
        speed=0x55667788,
        duplex=1,
        rss_max_key_size=0x99,
        rss_max_indirection_table_length=0xAABB,
        supported_hash_types=0xCCDDEEFF,
        supported_tunnel_types=0x01020304,
    )
    space = device(VERSION_1, config=config).read_config()
    assert space == bytes.fromhex(
        "0a 0b 0c 0d 0e 0f"  # mac
        " 03 00"  # status
        " 22 11"  # max_virtqueue_pairs
        " 44 33"  # mtu
        " 88 77 66 55"  # speed
        " 01"  # duplex
        " 99"  # rss_max_key_size
        " bb aa"  # rss_max_indirection_table_length
        " ff ee dd cc"  # supported_hash_types
        " 04 03 02 01"  # supported_tunnel_types
    )


def test_what_a_device_says_of_itself_when_nobody_says_otherwise_keeps_the_rules() -> None:
    """NETC-D-01, NETC-D-02, NETC-D-07, NETC-D-08, NETC-D-10, NETC-D-11; and the MAC address is a station's own."""
    space = device(VERSION_1).read_config()
    fields = {
        "status": int.from_bytes(space[6:8], "little"),
        "pairs": int.from_bytes(space[8:10], "little"),
        "mtu": int.from_bytes(space[10:12], "little"),
        "speed": int.from_bytes(space[12:16], "little"),
        "duplex": space[16],
        "key": space[17],
        "table": int.from_bytes(space[18:20], "little"),
    }
    assert fields["status"] & 1
    assert 1 <= fields["pairs"] <= 0x8000
    assert 68 <= fields["mtu"] <= 65535
    assert fields["speed"] <= 0x7FFFFFFF or fields["speed"] == 0xFFFFFFFF
    assert fields["duplex"] in (0, 1, 0xFF)
    assert fields["key"] >= 40
    assert fields["table"] >= 128
    assert space[0] & 1 == 0
