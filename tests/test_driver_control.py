"""The driver's control queue: what it sends, when, and what a refusal does; the device is held by hand.

Class and command numbers are those of the specification's section 5.1.6.5, written out.
"""

from __future__ import annotations

import struct

import pytest

from netemu.driver.control import VirtnetControl
from netemu.driver.cvq import SPINS
from netemu.virtio import features as f
from netemu.virtio.control import Coalesce
from netemu.virtio.features import FeatureSet
from netemu.virtio.rss import HashConfig, RssConfig
from tests.driver_kit import ERAS, MERGEABLE, V4_19, V6_1, V7_0, Rig, every_era

CONTROL = MERGEABLE | FeatureSet.of(
    f.CTRL_VQ, f.CTRL_RX, f.CTRL_VLAN, f.CTRL_MAC_ADDR, f.CTRL_GUEST_OFFLOADS, f.GUEST_ANNOUNCE, f.MQ
)
COALESCE = FeatureSet.of(f.NOTF_COAL, f.VQ_NOTF_COAL)
STATS = FeatureSet.of(f.DEVICE_STATS)

PROMISC, ALLMULTI, TABLE_SET, ADDR_SET = (0, 0), (0, 1), (1, 0), (1, 1)
VLAN_ADD, VLAN_DEL, ANNOUNCE_ACK, PAIRS_SET, RSS_CONFIG, HASH_CONFIG = (2, 0), (2, 1), (3, 0), (4, 0), (4, 1), (4, 2)
OFFLOADS_SET, TX_SET, RX_SET, VQ_SET, VQ_GET, QUERY, GET = (5, 0), (6, 0), (6, 1), (6, 2), (6, 3), (8, 0), (8, 1)

UNICAST, MULTICAST = bytes.fromhex("0200000000aa"), bytes.fromhex("01005e000001")


def rig(kernel: str = V7_0, more: FeatureSet = FeatureSet(), without: FeatureSet = FeatureSet(), pairs: int = 1) -> Rig:  # noqa: B008
    """A probed driver whose device has answered what probe asked."""
    made = Rig(kernel, (CONTROL | more) - without, 16, pairs=pairs)
    made.control.take()
    return made


# The buffer.


@every_era
def test_ctrl_v_01_a_command_is_one_buffer_of_header_data_and_acknowledgement(kernel: str) -> None:
    """CTRL-V-01, sheet 7.1: two bytes and the data to read, then a byte preset to 0xFF to write.

    A segment each, as devices without ANY_LAYOUT have to be asked (LEG-V-07, LEG-V-08, LEG-V-09).
    """
    one = rig(kernel)
    assert one.driver.control.virtnet_vlan_rx_add_vid(0x123)
    assert one.control.take() == [(*VLAN_ADD, b"\x23\x01")]
    chain = one.control.chains[-1]
    assert [(length, flags) for _, length, flags in chain] == [(2, 0), (2, 0), (1, 2)]
    assert one.control.presets[-1] == 0xFF


@pytest.mark.parametrize(("kernel", "fresh"), [(V4_19, False), (V6_1, False), (V7_0, True)])
def test_commands_share_their_memory_until_6_10(kernel: str, *, fresh: bool) -> None:
    """Sheet 10: shared buffers against memory per command; the acknowledgement's place is the same in all."""
    one = rig(kernel)
    for vid in range(1, 4):
        one.driver.control.virtnet_vlan_rx_add_vid(vid)
    data = {chain[1][0] for chain in one.control.chains[-3:]}
    assert len(data) == (3 if fresh else 1)
    assert len({chain[2][0] for chain in one.control.chains[-3:]}) == 1


@pytest.mark.parametrize("kernel", ERAS)
def test_thousands_of_commands_find_room(kernel: str) -> None:
    one = rig(kernel)
    one.driver.control.rx_mode.multicast = [bytes([1, 0, 0x5E, 0, n >> 8, n & 255]) for n in range(1000)]
    for _ in range(30):
        one.driver.control.virtnet_set_rx_mode()
        one.driver.control.run_work()
    assert one.control.commands[-1] == (*TABLE_SET, struct.pack("<II", 0, 1000) + b"".join(
        bytes([1, 0, 0x5E, 0, n >> 8, n & 255]) for n in range(1000)
    ))  # fmt: skip
    assert one.driver.control.warnings == []
    assert one.driver.rings[-1].num_free == 16


def test_the_control_queue_asks_for_no_interrupts_and_stands_last() -> None:
    """NETQ-B-02, sheet 1.6: it has no callback; with two pairs its index is 4."""
    one = rig(pairs=2)
    assert sorted(one.transport.rings) == [0, 1, 2, 3, 4]
    assert one.control.ring is not None
    assert one.control.ring.avail_flags == 1
    assert Rig(V7_0, MERGEABLE, 16).transport.rings.keys() == {0, 1}  # NETQ-B-03


@every_era
def test_a_device_that_never_answers_breaks_the_queue_and_hangs_nobody(kernel: str) -> None:
    """Sheet 9 no. 29: Linux spins for ever."""
    one = rig(kernel)
    one.transport.answer = None
    serves = len(one.transport.log)
    assert not one.driver.control.virtnet_vlan_rx_add_vid(1)
    assert len(one.transport.log) - serves == SPINS
    assert one.driver.broken == ["virtqueue 2: the device does not answer commands"]
    assert not one.driver.control.virtnet_vlan_rx_add_vid(2)
    assert len(one.transport.log) - serves == SPINS
    assert one.driver.control.vlans == set()


def test_a_device_that_is_silent_in_probe_leaves_one_pair() -> None:
    """MQ-V-04: nothing but pair 1 is used before the device has agreed."""
    one = Rig(V7_0, CONTROL, 16, pairs=4, silent=True)
    assert one.vi.curr_queue_pairs == 1
    assert one.driver.broken


@pytest.mark.parametrize(("id_", "reason"), [(99, "id 99 out of range"), (7, "id 7 is not a head")])
def test_a_used_id_that_cannot_be_breaks_the_control_queue_alone(id_: int, reason: str) -> None:
    one = rig()

    def answer(_index: int) -> None:
        assert one.control.ring is not None
        one.control.ring.use(id_, 1)

    one.transport.answer = answer
    assert not one.driver.control.virtnet_vlan_rx_add_vid(1)
    assert one.driver.broken == [f"virtqueue 2: {reason}"]
    one.open()
    assert one.vq.num_free == 0


# Probe.


@every_era
def test_neti_v_02_probe_asks_for_all_pairs_once_driver_ok_is_set(kernel: str) -> None:
    """NETI-V-02, NETI-V-01, MQ-V-02, sheet 1.3 step 17, 9 no. 28: rings are set up, and DRIVER_OK (4) is set."""
    one = Rig(kernel, CONTROL, 16, pairs=3)
    assert one.control.commands == [(*PAIRS_SET, b"\3\0")]
    assert one.control.status == [1 | 2 | 4 | 8]
    assert one.vi.curr_queue_pairs == 3
    queues = [index for what, index in one.transport.log if what == "queue"]
    assert queues == [0, 1, 2, 3, 4, 5, 6]


def test_without_mq_nothing_is_asked_for() -> None:
    assert Rig(V7_0, CONTROL - FeatureSet.of(f.MQ), 16).control.commands == []


@pytest.mark.parametrize(("kernel", "told"), [(V4_19, False), (V6_1, False), (V7_0, True)])
def test_mac_v_02_an_address_the_driver_made_up_is_told_to_the_device(kernel: str, *, told: bool) -> None:
    """MAC-V-02: Sheet 1.3 step 7: since v6.3. With MAC there is nothing to tell."""
    without = FeatureSet.of(f.MAC, f.MQ)
    one = Rig(kernel, CONTROL - without, 16)
    mac = one.vi.mac.to_bytes(6, "big")
    assert mac[0] & 3 == 2  # locally administered, one station
    assert one.control.commands == ([(*ADDR_SET, mac)] if told else [])
    assert Rig(kernel, CONTROL - FeatureSet.of(f.MQ), 16).control.commands == []


# Receive modes.


@every_era
def test_the_receive_mode_is_sent_as_promiscuous_all_multicast_table(kernel: str) -> None:
    """MAC-V-03: two lists, each a le32 count and its addresses; sheet 7.1: in this order, since v6.6 by a work item."""
    one = rig(kernel)
    one.driver.control.set_addresses([MULTICAST, UNICAST])
    if kernel == V7_0:
        assert one.control.take() == []
        one.driver.control.run_work()
    table = b"\1\0\0\0" + UNICAST + b"\1\0\0\0" + MULTICAST
    assert one.control.take() == [(*PROMISC, b"\0"), (*ALLMULTI, b"\0"), (*TABLE_SET, table)]
    # Header, two lists, acknowledgement: a segment each (LEG-V-08).
    assert [length for _, length, _ in one.control.chains[-1]] == [2, 10, 10, 1]


@every_era
def test_mac_v_04_both_lists_may_be_empty(kernel: str) -> None:
    """MAC-V-04."""
    one = rig(kernel)
    one.driver.control.set_promiscuous(on=True)
    one.driver.control.set_allmulti(on=True)
    one.driver.control.run_work()
    assert one.control.take()[-3:] == [(*PROMISC, b"\1"), (*ALLMULTI, b"\1"), (*TABLE_SET, bytes(8))]


def test_changes_before_the_work_item_runs_are_sent_once() -> None:
    one = rig(V7_0)
    for on in (True, False, True):
        one.driver.control.set_promiscuous(on=on)
    one.driver.control.run_work()
    assert one.control.take() == [(*PROMISC, b"\1"), (*ALLMULTI, b"\0"), (*TABLE_SET, bytes(8))]
    one.driver.control.run_work()
    assert one.control.take() == []


@every_era
def test_ctrl_v_02_a_refusal_leaves_a_line_in_the_log_and_the_next_command_is_sent(kernel: str) -> None:
    """CTRL-V-02."""
    one = rig(kernel)
    one.control.refuse = {PROMISC, TABLE_SET}
    one.driver.control.set_promiscuous(on=True)
    one.driver.control.run_work()
    assert [command[:2] for command in one.control.take()] == [PROMISC, ALLMULTI, TABLE_SET]
    assert one.driver.control.warnings == ["Failed to enable promisc mode.", "Failed to set MAC filter table."]


@every_era
def test_rxf_v_01_and_mac_v_01_without_ctrl_rx_no_receive_mode_and_no_table_is_sent(kernel: str) -> None:
    """RXF-V-01, MAC-V-01: Nor PROMISC, ALLMULTI, MAC_TABLE_SET; the address goes by its own bit (erratum E5)."""
    one = rig(kernel, without=FeatureSet.of(f.CTRL_RX))
    one.driver.control.set_promiscuous(on=True)
    one.driver.control.set_addresses([UNICAST])
    one.driver.control.run_work()
    assert one.control.take() == []
    assert one.driver.control.virtnet_set_mac_address(UNICAST)
    assert one.control.take() == [(*ADDR_SET, UNICAST)]


@every_era
def test_rxf_v_02_modes_of_ctrl_rx_extra_are_never_sent(kernel: str) -> None:
    """RXF-V-02: Linux does not even negotiate it (sheet 1.1)."""
    one = rig(kernel, FeatureSet.of(f.CTRL_RX_EXTRA))
    assert f.CTRL_RX_EXTRA not in one.driver.features
    one.driver.control.set_promiscuous(on=True)
    one.driver.control.run_work()
    assert {command[:2] for command in one.control.take()} <= {PROMISC, ALLMULTI, TABLE_SET}


def test_a_mac_address_that_the_device_refuses_is_not_taken() -> None:
    one = rig()
    before = one.vi.mac
    one.control.refuse = {ADDR_SET}
    assert not one.driver.control.virtnet_set_mac_address(UNICAST)
    assert one.vi.mac == before
    one.control.refuse = set()
    assert one.driver.control.virtnet_set_mac_address(UNICAST)
    assert one.vi.mac == 0x0200000000AA


def test_vlans_are_added_and_taken_out_and_without_the_feature_kept_by_the_driver_alone() -> None:
    one = rig()
    one.driver.control.virtnet_vlan_rx_add_vid(100)
    one.driver.control.virtnet_vlan_rx_add_vid(4095)
    one.driver.control.virtnet_vlan_rx_kill_vid(100)
    assert one.control.take() == [(*VLAN_ADD, b"\x64\0"), (*VLAN_ADD, b"\xff\x0f"), (*VLAN_DEL, b"\x64\0")]
    assert one.driver.control.vlans == {4095}
    other = rig(without=FeatureSet.of(f.CTRL_VLAN))
    assert other.driver.control.virtnet_vlan_rx_add_vid(5)
    assert other.control.take() == []


def test_ann_v_02_an_announcement_is_acknowledged_without_data() -> None:
    """ANN-V-02."""
    one = rig()
    assert one.driver.control.virtnet_ack_link_announce()
    assert one.control.take() == [(*ANNOUNCE_ACK, b"")]
    assert [length for _, length, _ in one.control.chains[-1]] == [2, 1]


# Queues.


@every_era
def test_mq_v_03_no_more_pairs_are_asked_for_than_there_are_and_not_0(kernel: str) -> None:
    """MQ-V-03."""
    one = rig(kernel, pairs=4)
    for pairs in (0, 5, 0x8001, -1):
        assert not one.driver.control.virtnet_set_queues(pairs)
    assert one.control.take() == []
    assert one.vi.curr_queue_pairs == 4


@every_era
def test_mq_v_06_multiqueue_is_disabled_by_asking_for_one_pair_and_waiting(kernel: str) -> None:
    """MQ-V-06, MQ-V-05: from the answer on the driver uses the first pair alone."""
    one = rig(kernel, pairs=4)
    assert one.driver.control.virtnet_set_queues(1)
    assert one.control.take() == [(*PAIRS_SET, b"\1\0")]
    assert one.vi.curr_queue_pairs == 1


@every_era
def test_pairs_that_the_device_refuses_are_not_used(kernel: str) -> None:
    one = rig(kernel, pairs=4)
    one.driver.control.virtnet_set_queues(2)
    one.control.refuse = {PAIRS_SET}
    assert not one.driver.control.virtnet_set_queues(3)
    assert one.vi.curr_queue_pairs == 2
    assert one.driver.control.warnings == ["Fail to set num of queue pairs to 3"]


@every_era
def test_queues_that_come_into_use_while_the_interface_is_up_are_filled(kernel: str) -> None:
    """By the refill worker where a kernel has one; v7.0 has the new queues polled."""
    one = rig(kernel, pairs=2)
    one.driver.control.virtnet_set_queues(1)
    one.open()
    one.turn_to(1)
    assert one.vq.num_free == 16
    one.napi.scheduled = 0
    one.driver.control.virtnet_set_queues(2)
    if kernel == V7_0:
        assert one.napi.scheduled == 1
    else:
        assert one.vi.refill_due == one.vi.now


# Hashing.

TABLE = tuple(n % 2 for n in range(128))
KEY = bytes(range(40))


def with_rss(one: Rig, *bits: int) -> VirtnetControl:
    """The commands of a driver that negotiated hashing, over the rig's queue."""
    features = one.driver.features | FeatureSet.of(*bits)
    return VirtnetControl(one.driver.cvq, one.vi, features, one.driver.facts)


def test_rss_v_06_an_rss_configuration_is_sent_as_the_specification_lays_it_out() -> None:
    """RSS-V-06: Hash types, mask, unclassified queue, table, max_tx_vq, key length, key; all little-endian."""
    one = rig(pairs=2)
    assert with_rss(one, f.RSS).virtnet_commit_rss_command(RssConfig(0x3F, TABLE, 1, 2, KEY))
    data = struct.pack("<IHH128HHB", 0x3F, 127, 1, *TABLE, 2, 40) + KEY
    assert one.control.take() == [(*RSS_CONFIG, data)]


def test_hcfg_v_01_a_hash_configuration_has_zeros_in_its_reserved_words() -> None:
    """HCFG-V-01."""
    one = rig()
    assert with_rss(one, f.HASH_REPORT).virtnet_commit_rss_command(HashConfig(0x3F, KEY))
    assert one.control.take() == [(*HASH_CONFIG, struct.pack("<I8xB", 0x3F, 40) + KEY)]


def test_rss_v_01_without_the_features_neither_is_sent() -> None:
    """RSS-V-01."""
    one = rig()
    assert not one.driver.control.virtnet_commit_rss_command(RssConfig(0x3F, TABLE, 0, 1, KEY))
    assert not one.driver.control.virtnet_commit_rss_command(HashConfig(0x3F, KEY))
    assert one.control.take() == []


def test_with_rss_on_the_number_of_queues_is_changed_by_its_table_unless_the_user_laid_that_out() -> None:
    """Sheet 7.1: RSS_CONFIG with entries n modulo pairs, and max_tx_vq; else VQ_PAIRS_SET (RSS-V-02)."""
    one = rig(pairs=2)
    control = with_rss(one, f.RSS)
    control.virtnet_commit_rss_command(RssConfig(0x3F, TABLE, 0, 2, KEY))
    one.control.take()
    assert control.virtnet_set_queues(1)
    assert one.control.take() == [(*RSS_CONFIG, struct.pack("<IHH256xHB", 0x3F, 127, 0, 1, 40) + KEY)]
    assert one.vi.curr_queue_pairs == 1
    control.rxfh_configured = True
    assert control.virtnet_set_queues(2)
    assert one.control.take() == [(*PAIRS_SET, b"\2\0")]


def test_a_table_that_the_device_refuses_leaves_the_queues_as_they_are() -> None:
    one = rig(pairs=2)
    control = with_rss(one, f.RSS)
    control.virtnet_commit_rss_command(RssConfig(0x3F, TABLE, 0, 2, KEY))
    one.control.refuse = {RSS_CONFIG}
    assert not control.virtnet_set_queues(1)
    assert one.vi.curr_queue_pairs == 2
    assert isinstance(control.rss, RssConfig)
    assert control.rss.indirection_table == TABLE


# Offloads.


@every_era
def test_offl_v_01_only_offloads_that_were_negotiated_are_switched_on(kernel: str) -> None:
    """OFFL-V-01: MERGEABLE has CSUM 1, TSO4 7, TSO6 8 and UFO 10; ECN (9) was not negotiated."""
    one = rig(kernel)
    assert one.driver.control.guest_offloads == 1 << 1 | 1 << 7 | 1 << 8 | 1 << 10
    assert not one.driver.control.virtnet_set_guest_offloads(1 << 1 | 1 << 9)
    assert one.control.take() == []
    assert one.driver.control.virtnet_set_guest_offloads(1 << 1 | 1 << 8)
    assert one.control.take() == [(*OFFLOADS_SET, struct.pack("<Q", 0x102))]
    assert one.driver.control.guest_offloads == 0x102


def test_the_tunnel_offloads_have_bits_46_and_47() -> None:
    """Erratum E9: feature bits 65 and 66 do not fit the mask."""
    one = rig()
    tunnels = FeatureSet.of(f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM)
    control = VirtnetControl(one.driver.cvq, one.vi, one.driver.features | tunnels, one.driver.facts)
    assert control.virtnet_set_guest_offloads(1 << 46 | 1 << 47)
    assert one.control.take() == [(*OFFLOADS_SET, (3 << 46).to_bytes(8, "little"))]


def test_offloads_that_the_device_refuses_stay_as_they_are() -> None:
    one = rig()
    before = one.driver.control.guest_offloads
    one.control.refuse = {OFFLOADS_SET}
    assert not one.driver.control.virtnet_set_guest_offloads(0)
    assert one.driver.control.guest_offloads == before


# Coalescing.


def test_coal_v_01_queues_are_named_by_virtqueue_and_only_those_there_are() -> None:
    """COAL-V-01."""
    one = rig(more=COALESCE, pairs=2)
    control = one.driver.control
    assert control.virtnet_send_ctrl_coal_vq_cmd(3, Coalesce(32, 50))
    assert one.control.take() == [(*VQ_SET, struct.pack("<HHII", 3, 0, 32, 50))]
    assert not control.virtnet_send_ctrl_coal_vq_cmd(4, Coalesce(32, 50))  # the control queue
    assert not control.virtnet_send_ctrl_coal_vq_cmd(-1, Coalesce(32, 50))
    assert one.control.take() == []


def test_parameters_of_a_direction_are_packets_then_microseconds() -> None:
    one = rig(more=COALESCE)
    control = one.driver.control
    assert control.virtnet_send_ctrl_coal_vq_cmd(0, Coalesce(1, 1))
    assert control.virtnet_send_tx_notf_coal_cmds(Coalesce(16, 100))
    assert control.virtnet_send_rx_notf_coal_cmds(Coalesce(64, 8))
    assert one.control.take()[1:] == [(*TX_SET, struct.pack("<II", 16, 100)), (*RX_SET, struct.pack("<II", 64, 8))]
    assert control.coalesce_queues == {}


@every_era
def test_coal_v_02_and_coal_v_03_nothing_is_sent_without_the_features(kernel: str) -> None:
    """COAL-V-02, COAL-V-03."""
    one = rig(kernel)
    control = one.driver.control
    assert not control.virtnet_send_tx_notf_coal_cmds(Coalesce(16, 100))
    assert not control.virtnet_send_rx_notf_coal_cmds(Coalesce(16, 100))
    assert not control.virtnet_send_ctrl_coal_vq_cmd(0, Coalesce(16, 100))
    assert control.get_coalesce(0) is None
    assert one.control.take() == []


def test_coal_v_04_values_beside_an_err_are_ignored() -> None:
    """COAL-V-04."""
    one = rig(more=COALESCE)
    one.control.results = {VQ_GET: struct.pack("<II", 7, 9)}
    assert one.driver.control.get_coalesce(0) == Coalesce(7, 9)
    assert one.control.take() == [(*VQ_GET, bytes(4))]
    one.control.refuse = {VQ_GET}
    assert one.driver.control.get_coalesce(0) is None


def test_leg_v_10_the_used_length_is_not_looked_at() -> None:
    """LEG-V-10: devices got it wrong; what was not written reads as zeros, whatever lay there before."""
    one = rig(more=COALESCE)
    one.control.used_length = 0
    one.control.results = {VQ_GET: struct.pack("<II", 7, 9)}
    assert one.driver.control.get_coalesce(0) == Coalesce(7, 9)
    one.control.used_length = 1000
    one.control.results = {VQ_GET: b"\1"}
    assert one.driver.control.get_coalesce(0) == Coalesce(1, 0)


# Statistics.


def block(kind: int, vq: int, *counters: int) -> bytes:
    return struct.pack(f"<BBHHH{len(counters)}Q", kind, 0, vq, 0, 8 + 8 * len(counters), *counters)


def test_dst_v_01_only_types_that_the_device_reported_are_asked_for() -> None:
    """DST-V-01, DST-V-02: of each queue those of its kind. Here RX_BASIC (0), TX_BASIC (16) and CVQ (32)."""
    one = Rig(V7_0, CONTROL | STATS, 16, pairs=2, results={QUERY: struct.pack("<Q", 1 << 0 | 1 << 16 | 1 << 32)})
    assert one.control.take() == [(*PAIRS_SET, b"\2\0"), (*QUERY, b"")]
    one.driver.control.virtnet_get_hw_stats()
    requests = [(0, 1), (1, 1 << 16), (2, 1), (3, 1 << 16), (4, 1 << 32)]
    data = b"".join(struct.pack("<H6xQ", vq, mask) for vq, mask in requests)
    assert one.control.take() == [(*GET, data)]


def test_dst_v_03_the_result_has_room_for_every_block_asked_for() -> None:
    """DST-V-03: RX_BASIC 56, RX_CSUM 40, TX_BASIC 56, CVQ 24 bytes, in a segment behind the acknowledgement."""
    kinds = 1 << 0 | 1 << 1 | 1 << 16 | 1 << 32
    one = Rig(V7_0, CONTROL | STATS, 16, results={QUERY: struct.pack("<Q", kinds)})
    answer = block(0, 0, *range(6)) + block(1, 0, *range(4)) + block(16, 1, *range(6)) + block(32, 2, 5, 4)
    one.control.results[GET] = answer
    blocks = one.driver.control.virtnet_get_hw_stats()
    assert [(length, flags) for _, length, flags in one.control.chains[-1]] == [(2, 0), (48, 0), (1, 2), (176, 2)]
    assert [(part.kind, part.vq_index) for part in blocks] == [(0, 0), (1, 0), (16, 1), (32, 2)]
    assert blocks[0].counters == {
        "rx_notifications": 0, "rx_packets": 1, "rx_bytes": 2, "rx_interrupts": 3, "rx_drops": 4, "rx_drop_overruns": 5,
    }  # fmt: skip
    assert blocks[3].counters == {"command_num": 5, "ok_num": 4}


@pytest.mark.parametrize("answer", [b"", b"\0", b"\xff" * 20, struct.pack("<BBHHH", 0, 0, 0, 0, 0), bytes(7)])
def test_an_answer_that_makes_no_sense_is_no_statistics(answer: bytes) -> None:
    one = Rig(V7_0, CONTROL | STATS, 16, results={QUERY: struct.pack("<Q", 1), GET: answer})
    assert one.driver.control.virtnet_get_hw_stats() == []


def test_without_device_stats_or_an_answer_nothing_is_asked_for() -> None:
    one = rig()
    assert one.driver.control.virtnet_get_hw_stats() == []
    assert one.control.take() == []
    other = Rig(V7_0, CONTROL | STATS, 16)
    assert other.driver.control.device_stats_cap == 0


def test_without_a_control_queue_everything_is_answered_by_the_driver_itself() -> None:
    one = Rig(V7_0, MERGEABLE, 16)
    control = one.driver.control
    control.set_promiscuous(on=True)
    control.run_work()
    assert control.virtnet_set_queues(1)
    assert not control.virtnet_set_queues(2)
    assert control.virtnet_set_mac_address(UNICAST)
    assert not control.virtnet_set_guest_offloads(0)
    assert not control.virtnet_ack_link_announce()
    assert one.control.commands == []
