"""Probing: the order of status writes, features, the shape of the device, and the names of the counters.

"Sheet" is the project's fact sheet on Linux's virtio_net.c.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest

from netemu.driver.eras import ERAS as TABLE
from netemu.driver.eras import era
from netemu.driver.ethtool import ethtool_statistics, netdev_statistics
from netemu.driver.features import SUPPORTED
from netemu.driver.probe import VirtioNet
from netemu.driver.virtnet import MODE_BIG, MODE_MERGEABLE, MODE_SMALL, ReceiveQueue, SendQueue
from netemu.driver.vqs import rxq2vq, txq2vq, vq2rxq, vq2txq
from netemu.errors import ConfigError
from netemu.jit import array_of
from netemu.memory import GuestMemory
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from tests.driver_hand import HandTransport
from tests.driver_kit import BASE, ERAS, MAC, MERGEABLE, V4_19, V6_1, V7_0, Rig, every_era, frame, free

ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED = 1, 2, 4, 8, 128
MULTIQUEUE = MERGEABLE | FeatureSet.of(f.MQ, f.CTRL_VQ)


def _probe(transport: HandTransport, kernel: str = V7_0, wanted: FeatureSet = SUPPORTED) -> VirtioNet:
    return VirtioNet(transport, GuestMemory(32 << 20), kernel, 16, wanted)


def _transport(offered: FeatureSet, **config: int) -> HandTransport:
    return HandTransport(offered, NetConfig(mac=MAC, **config), 16)


def test_the_driver_knows_no_device() -> None:
    """The halves meet in memory alone: importing the driver brings no module of the device."""
    script = (
        "import sys, pkgutil, importlib, netemu.driver as d\n"
        "for m in pkgutil.iter_modules(d.__path__): importlib.import_module('netemu.driver.' + m.name)\n"
        "assert 'netemu.driver.receive' in sys.modules\n"
        "others = ('netemu.device', 'netemu.engine', 'netemu.nic')\n"
        "assert not [name for name in sys.modules if name.startswith(others)]\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"NETEMU_JIT": "0"})


# Initialisation


@every_era
def test_order_of_initialisation(kernel: str) -> None:
    """Reset, ACKNOWLEDGE, DRIVER, features, FEATURES_OK, queues, DRIVER_OK; no write but to the status (STAT-V-01).

    INIT-V-01, INIT-V-02, INIT-V-03, INIT-V-04, INIT-V-06, INIT-V-07, INIT-V-08, INIT-V-09, INIT-V-10, INIT-V-11.
    """
    transport = _transport(MERGEABLE)
    _probe(transport, kernel)
    assert transport.log == [
        ("status", 0),
        ("status", ACKNOWLEDGE),
        ("status", ACKNOWLEDGE | DRIVER),
        ("get_features", MERGEABLE.mask),
        ("set_features", MERGEABLE.mask),
        ("status", ACKNOWLEDGE | DRIVER | FEATURES_OK),
        ("queue", 0),
        ("queue", 1),
        ("status", ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK),
    ]


@every_era
def test_nothing_is_posted_or_kicked_before_driver_ok(kernel: str) -> None:
    """INIT-V-14; sheet 1.3: the first fill is in open."""
    rig = Rig(kernel, MULTIQUEUE, 16, pairs=2)
    assert [rig.transport.bells[index].kick_count for index in range(4)] == [0, 0, 0, 0]
    assert rig.control.status == [15]  # the control queue was used, and by then DRIVER_OK was there
    assert rig.rx.avail_idx == 0
    assert rig.napi.enabled == 0


@every_era
def test_fresh_rings_as_bytes(kernel: str) -> None:
    """SPLIT-V-01, SPLIT-V-19, sheet 5.1: aligned parts, all zero but the list of free descriptors, 0 to 15."""
    rig = Rig(kernel, MERGEABLE, 16)
    for ring in rig.transport.rings.values():
        assert (ring.num, ring.desc % 16, ring.avail % 2, ring.used % 4) == (16, 0, 0, 0)
        table = rig.memory.read(ring.desc, 256)
        assert [table[at : at + 14] for at in range(0, 256, 16)] == [bytes(14)] * 16
        assert [int.from_bytes(table[at + 14 : at + 16], "little") for at in range(0, 240, 16)] == list(range(1, 16))
        assert rig.memory.read(ring.avail, 6 + 32) == bytes(38)
        assert rig.memory.read(ring.used, 6 + 128) == bytes(134)


def test_features_refused() -> None:
    """INIT-V-09, INIT-V-12, INIT-V-13: FEATURES_OK is gone on the second look: FAILED, and no queue is set up."""
    transport = HandTransport(MERGEABLE, NetConfig(), 16, refuse_features=True)
    with pytest.raises(ConfigError, match="refuses the feature set"):
        _probe(transport)
    assert transport.status_writes == [0, 1, 3, 11, 3 | FAILED]
    assert transport.rings == {}


def test_only_offered_and_known_features_are_taken() -> None:
    """INIT-V-04: the subset that it understands; bits it does not know stay out."""
    offered = MERGEABLE | FeatureSet.of(f.CTRL_VQ, f.RSC_EXT, f.ADMIN_VQ, f.SUSPEND, 100)
    transport = _transport(offered)
    driver = _probe(transport)
    assert driver.features == transport.accepted == MERGEABLE | FeatureSet.of(f.CTRL_VQ)


def test_wanted_limits_what_is_taken() -> None:
    """What ``wanted`` leaves out is not accepted, even where it is offered."""
    transport = _transport(MERGEABLE)
    _probe(transport, wanted=SUPPORTED - FeatureSet.of(f.MRG_RXBUF))
    assert f.MRG_RXBUF not in transport.accepted
    assert f.GUEST_TSO4 in transport.accepted


@pytest.mark.parametrize(
    ("offered", "accepted"),
    [
        ([f.GUEST_TSO4], []),
        ([f.GUEST_TSO6, f.GUEST_UFO], []),
        ([f.GUEST_CSUM, f.GUEST_ECN], [f.GUEST_CSUM]),
        ([f.GUEST_TSO4, f.GUEST_ECN], []),
        ([f.GUEST_CSUM, f.GUEST_TSO6, f.GUEST_ECN], [f.GUEST_CSUM, f.GUEST_TSO6, f.GUEST_ECN]),
    ],
)
def test_features_without_what_they_require_are_left(offered: list[int], accepted: list[int]) -> None:
    """FEAT-V-02: GUEST_TSO4, TSO6 and UFO require GUEST_CSUM; ECN requires TSO4 or TSO6 (NETF-B-01 and on)."""
    transport = _transport(BASE | FeatureSet.of(*offered))
    _probe(transport)
    assert transport.accepted == BASE | FeatureSet.of(*accepted)


# virtnet_validate

SEED_LIST = [f.CTRL_RX, f.CTRL_VLAN, f.GUEST_ANNOUNCE, f.MQ, f.CTRL_MAC_ADDR]


@pytest.mark.parametrize("bit", SEED_LIST, ids=[f.NAMES[bit] for bit in SEED_LIST])
@every_era
def test_validate_refuses_control_features_without_control_queue(kernel: str, bit: int) -> None:
    """Sheet 1.2 step 2: the probe fails with a line that names the feature; FAILED is set (INIT-V-12)."""
    transport = _transport(MERGEABLE | FeatureSet.of(bit))
    with pytest.raises(ConfigError, match=f"{f.NAMES[bit]} without CTRL_VQ"):
        _probe(transport, kernel)
    assert transport.status_writes == [0, 1, 3, 3 | FAILED]
    _probe(_transport(MERGEABLE | FeatureSet.of(bit, f.CTRL_VQ)), kernel)


@pytest.mark.parametrize(
    ("kernel", "refused"),
    [
        (V4_19, []),
        (V6_1, [f.RSS, f.HASH_REPORT, f.NOTF_COAL]),
        (V7_0, [f.RSS, f.HASH_REPORT, f.NOTF_COAL, f.VQ_NOTF_COAL]),
    ],
)
def test_validate_refuses_newer_features_too(kernel: str, refused: list[int]) -> None:
    """Sheet 1.2 step 2: RSS, HASH_REPORT, NOTF_COAL, VQ_NOTF_COAL in the kernels that know them."""
    for bit in (f.RSS, f.HASH_REPORT, f.NOTF_COAL, f.VQ_NOTF_COAL):
        if bit in refused:
            with pytest.raises(ConfigError, match="without CTRL_VQ"):
                _probe(_transport(MERGEABLE | FeatureSet.of(bit)), kernel)
        else:
            _probe(_transport(MERGEABLE | FeatureSet.of(bit)), kernel)


@every_era
def test_validate_lets_guest_offloads_pass(kernel: str) -> None:
    """Sheet 1.2 step 2: CTRL_GUEST_OFFLOADS is not in the list."""
    _probe(_transport(MERGEABLE | FeatureSet.of(f.CTRL_GUEST_OFFLOADS)), kernel)


@pytest.mark.parametrize(("mtu", "taken"), [(0, False), (67, False), (68, True), (1500, True), (65535, True)])
@every_era
def test_an_mtu_below_68_is_not_taken(kernel: str, mtu: int, taken: bool) -> None:
    """Sheet 1.2 step 3: silently cleared."""
    transport = _transport(BASE | FeatureSet.of(f.MTU), mtu=mtu)
    driver = _probe(transport, kernel)
    assert (f.MTU in transport.accepted) == taken
    assert driver.vi.max_mtu == (mtu if taken else 65535)


def test_an_mtu_that_changes_while_probing() -> None:
    """Sheet 1.3 step 13: below 68 by then: the probe fails."""
    transport = _transport(BASE | FeatureSet.of(f.MTU), mtu=1500)
    original = transport.set_features

    def set_features(features: FeatureSet) -> None:
        original(features)
        transport.config.mtu = 67

    transport.set_features = set_features  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="67"):
        _probe(transport)
    assert transport.status & FAILED


# Modes and header


@pytest.mark.parametrize(
    ("features", "mtu", "mode"),
    [
        ([f.MRG_RXBUF], 1500, MODE_MERGEABLE),
        ([f.MRG_RXBUF, f.GUEST_CSUM, f.GUEST_TSO4], 1500, MODE_MERGEABLE),
        ([f.MRG_RXBUF, f.MTU], 9000, MODE_MERGEABLE),
        ([f.GUEST_CSUM, f.GUEST_TSO4], 1500, MODE_BIG),
        ([f.GUEST_CSUM, f.GUEST_TSO6], 1500, MODE_BIG),
        ([f.GUEST_CSUM, f.GUEST_UFO], 1500, MODE_BIG),
        ([f.MTU], 1501, MODE_BIG),
        ([f.MTU], 1500, MODE_SMALL),
        ([], 9000, MODE_SMALL),
        ([f.GUEST_CSUM], 1500, MODE_SMALL),
    ],
)
@every_era
def test_receive_mode(kernel: str, features: list[int], mtu: int, mode: int) -> None:
    """Sheet 1.4."""
    assert _probe(_transport(BASE | FeatureSet.of(*features), mtu=mtu), kernel).vi.mode == mode


@pytest.mark.parametrize(
    ("features", "rx_indirect"),
    [
        ([f.MRG_RXBUF], 0),
        ([], 0),
        ([f.GUEST_CSUM, f.GUEST_TSO4], 1),
    ],
    ids=["mergeable", "small", "big"],
)
def test_indirect_only_where_no_ctx_is_kept(features: list[int], rx_indirect: int) -> None:
    """Sheet 1.4: the receive queue of small and mergeable mode keeps a ctx; the send queue never does (SPLIT-V-06)."""
    driver = _probe(_transport(BASE | FeatureSet.of(f.INDIRECT_DESC, *features)))
    assert [ring.indirect for ring in driver.rings] == [rx_indirect, 1]
    driver = _probe(_transport(BASE | FeatureSet.of(*features)))
    assert [ring.indirect for ring in driver.rings] == [0, 0]


@pytest.mark.parametrize(
    ("features", "hdr_len"),
    [([], 10), ([f.MRG_RXBUF], 12), ([f.VERSION_1], 12), ([f.VERSION_1, f.MRG_RXBUF], 12)],
)
@every_era
def test_hdr_len(kernel: str, features: list[int], hdr_len: int) -> None:
    """Sheet 1.5, RXB-V-04."""
    assert _probe(_transport(FeatureSet.of(f.MAC, *features)), kernel).vi.hdr_len == hdr_len


@pytest.mark.parametrize(
    ("features", "mtu", "seed", "newer"),
    [
        ([f.GUEST_CSUM, f.GUEST_TSO4], 1500, 17, 17),
        ([f.GUEST_CSUM, f.GUEST_TSO4, f.MTU], 9000, 17, 17),
        ([f.MTU], 1501, 17, 1),
        ([f.MTU], 4096, 17, 1),
        ([f.MTU], 4097, 17, 2),
        ([f.MTU], 9000, 17, 3),
        ([f.MTU], 65535, 17, 16),
    ],
)
def test_big_packets_num_skbfrags(features: list[int], mtu: int, seed: int, newer: int) -> None:
    """Sheet 1.4: 17 in the seed; since v6.1 17 with guest GSO, else ceil(mtu / 4096)."""
    offered = BASE | FeatureSet.of(f.INDIRECT_DESC, *features)
    found = [_probe(_transport(offered, mtu=mtu), kernel).vi.big_packets_num_skbfrags for kernel in ERAS]
    assert found == [seed, newer, newer]


def test_mac() -> None:
    """Sheet 1.3 step 7: from the configuration with the MAC feature."""
    assert _probe(_transport(BASE)).vi.mac == 0x020000000001
    transport = _transport(BASE)
    transport.config.mac = bytes.fromhex("525400abcdef")
    assert _probe(transport).vi.mac == 0x525400ABCDEF


# Queues


def test_queue_numbering() -> None:
    """NETQ-B-01, sheet 1.6: rx0 = 0, tx0 = 1, rx1 = 2, tx1 = 3."""
    assert [rxq2vq(n) for n in range(4)] == [0, 2, 4, 6]
    assert [txq2vq(n) for n in range(4)] == [1, 3, 5, 7]
    assert [vq2rxq(n) for n in (0, 2, 4, 6)] == [0, 1, 2, 3]
    assert [vq2txq(n) for n in (1, 3, 5, 7)] == [0, 1, 2, 3]


@every_era
def test_queues_are_set_up_in_order(kernel: str) -> None:
    """NETQ-B-01, NETQ-B-02; each queue has its ring, and no two rings share memory."""
    transport = _transport(MULTIQUEUE, max_virtqueue_pairs=3)
    driver = _probe(transport, kernel)
    assert [index for what, index in transport.log if what == "queue"] == [0, 1, 2, 3, 4, 5, 6]
    assert [rq.vq for rq in driver.receive_queues] == [driver.rings[n].address for n in (0, 2, 4)]
    assert [sq.vq for sq in driver.send_queues] == [driver.rings[n].address for n in (1, 3, 5)]
    spans = []
    for ring in transport.rings.values():
        spans += [(ring.desc, 16 * 16), (ring.avail, 6 + 32), (ring.used, 6 + 128)]
    spans.sort()
    assert all(start + size <= following for (start, size), (following, _) in pairwise(spans))


@pytest.mark.parametrize(
    ("features", "offered_pairs", "pairs"),
    [
        ([f.MQ, f.CTRL_VQ], 4, 4),
        ([f.MQ, f.CTRL_VQ], 1, 1),
        ([f.MQ, f.CTRL_VQ], 0, 1),
        ([f.MQ, f.CTRL_VQ], 0x8001, 1),
        ([f.MQ, f.CTRL_VQ], 0xFFFF, 1),
        ([f.CTRL_VQ], 4, 1),
        ([], 4, 1),
    ],
)
def test_queue_pairs(features: list[int], offered_pairs: int, pairs: int) -> None:
    """Sheet 1.3 step 1, NETQ-B-02: 1 without MQ, and where the number is not from 1 to 0x8000."""
    driver = _probe(_transport(MERGEABLE | FeatureSet.of(*features), max_virtqueue_pairs=offered_pairs))
    assert (len(driver.receive_queues), driver.vi.max_queue_pairs) == (pairs, pairs)


@pytest.mark.parametrize(("wanted", "most", "size"), [(256, 64, 64), (16, 64, 16), (64, 64, 64)])
def test_ring_sizes(wanted: int, most: int, size: int) -> None:
    """As many entries as are wanted and the device can have."""
    transport = HandTransport(MERGEABLE, NetConfig(), most)
    VirtioNet(transport, GuestMemory(32 << 20), V7_0, wanted)
    assert [ring.num for ring in transport.rings.values()] == [size, size]


@pytest.mark.parametrize("most", [0, 48, 65536])
def test_ring_sizes_that_cannot_be(most: int) -> None:
    """SPLIT-B-02: no queue, no power of two, more than 32768: FAILED, and the probe ends (INIT-V-12, INIT-V-13)."""
    transport = HandTransport(MERGEABLE, NetConfig(), most)
    with pytest.raises(ConfigError, match="power of two"):
        VirtioNet(transport, GuestMemory(32 << 20), V7_0, 65536)
    assert transport.status_writes[-1] == 11 | FAILED
    assert transport.rings == {}


def test_an_unknown_kernel() -> None:
    """The message lists those there are."""
    with pytest.raises(ConfigError, match=r"linux-2\.6.*linux-4\.19, linux-6\.1, linux-7\.0"):
        era("linux-2.6")
    assert tuple(TABLE) == ERAS


# Counters

RX_4_19 = ["packets", "bytes", "drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "kicks"]
TX_4_19 = ["packets", "bytes", "xdp_tx", "xdp_tx_drops", "kicks"]


def _counted(pairs: int) -> tuple[list[ReceiveQueue], list[SendQueue]]:
    """Queues in which every counter has a value of its own: 1000 * queue + place."""
    receive, send = array_of(ReceiveQueue, pairs), array_of(SendQueue, pairs)
    for n in range(pairs):
        for at, name in enumerate([*RX_4_19, "rx_length_errors", "rx_frame_errors"]):
            setattr(receive[n], name, 1000 * (n + 1) + at)
        for at, name in enumerate([*TX_4_19, "tx_timeouts", "tx_dropped", "tx_fifo_errors"]):
            setattr(send[n], name, 5000 * (n + 1) + at)
    return receive[:], send[:]


def test_ethtool_names_of_4_19() -> None:
    """Sheet 7.2: all receive queues, then all send queues, in this order."""
    stats = ethtool_statistics("4.19", *_counted(2))
    assert list(stats) == [
        *(f"rx_queue_{n}_{name}" for n in (0, 1) for name in RX_4_19),
        *(f"tx_queue_{n}_{name}" for n in (0, 1) for name in TX_4_19),
    ]
    assert list(stats)[:3] == ["rx_queue_0_packets", "rx_queue_0_bytes", "rx_queue_0_drops"]
    assert (stats["rx_queue_1_kicks"], stats["tx_queue_0_bytes"], stats["tx_queue_1_kicks"]) == (2007, 5001, 10004)


def test_ethtool_names_since_5_17() -> None:
    """Sheet 7.2: the send queues have tx_timeouts at the end."""
    stats = ethtool_statistics("4.19", *_counted(2), timeouts=True)
    assert list(stats)[-6:] == [
        "tx_queue_1_packets",
        "tx_queue_1_bytes",
        "tx_queue_1_xdp_tx",
        "tx_queue_1_xdp_tx_drops",
        "tx_queue_1_kicks",
        "tx_queue_1_tx_timeouts",
    ]
    assert stats["tx_queue_1_tx_timeouts"] == 10005


def test_ethtool_names_since_6_10() -> None:
    """Sheet 7.2: totals first, tx_tx_timeouts indeed, then rxN_ and txN_; packets and bytes are gone."""
    stats = ethtool_statistics("6.10", *_counted(2))
    rx = ["drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "kicks"]
    tx = ["xdp_tx", "xdp_tx_drops", "kicks", "tx_timeouts"]
    assert list(stats) == [
        *(f"rx_{name}" for name in rx),
        *(f"tx_{name}" for name in tx),
        *(f"rx{n}_{name}" for n in (0, 1) for name in rx),
        *(f"tx{n}_{name}" for n in (0, 1) for name in tx),
    ]
    assert (stats["rx_drops"], stats["rx1_drops"], stats["tx_tx_timeouts"], stats["tx0_kicks"]) == (
        3004,
        2002,
        15010,
        5004,
    )


@pytest.mark.parametrize(("kernel", "style"), [(V4_19, "4.19"), (V6_1, "4.19"), (V7_0, "6.10")])
def test_ethtool_style(kernel: str, style: str) -> None:
    """Sheet 7.2."""
    assert era(kernel).ethtool == style


def test_netdev_counters() -> None:
    """Sheet 7.2: sums over all queues; rx_dropped is the sum of drops, tx_errors that of tx_timeouts."""
    assert netdev_statistics(*_counted(2)) == {
        "rx_packets": 3000,
        "tx_packets": 15000,
        "rx_bytes": 3002,
        "tx_bytes": 15002,
        "rx_dropped": 3004,
        "tx_dropped": 15012,
        "rx_length_errors": 3016,
        "rx_frame_errors": 3018,
        "tx_errors": 15010,
        "tx_fifo_errors": 15014,
    }


@every_era
def test_counters_of_a_device_in_use(kernel: str) -> None:
    """Sheet 7.2, 4.8: rx_packets and rx_bytes include dropped frames; kicks are those of the fills."""
    rig = Rig(kernel, MERGEABLE, 64)
    rig.open()
    rig.poll()
    rig.arrive_frame(frame(100))
    rig.arrive(bytes(12) + frame(13))
    rig.arrive(bytes(10) + b"\x02\x00" + frame(100))
    free(*rig.receive())
    driver = rig.driver
    stats = netdev_statistics(driver.receive_queues[:], driver.send_queues[:])
    # The third frame's header asks for a second buffer that is not there.
    assert {name: value for name, value in stats.items() if value} == {
        "rx_packets": 3,
        "rx_bytes": 200,
        "rx_dropped": 1,
        "rx_length_errors": 2,
    }
    names = ethtool_statistics(driver.facts.ethtool, driver.receive_queues[:], driver.send_queues[:])
    assert names["rx0_kicks" if kernel == V7_0 else "rx_queue_0_kicks"] == 1
    assert names["rx0_drops" if kernel == V7_0 else "rx_queue_0_drops"] == 1
