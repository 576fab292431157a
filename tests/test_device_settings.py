"""What commands set at the device besides filters and coalescing: pairs, announcements, offloads, statistics."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.device.stats import count_frame
from netemu.device.steering import select_queue
from netemu.jit import allocate
from netemu.virtio import features as f
from tests import control_kit as k
from tests.control_kit import ERR, OK, UNWRITTEN, ControlHand, state_of
from tests.device_kit import MQ, HostFrame, negotiate

counted_frame = getattr(count_frame, "py_func", count_frame)
"""The entry point as the Python function it was written as."""

CSUM, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, HOST_TSO4 = 0, 1, 7, 8, 11
TUNNELS = (54, 55, 65, 66)


# Queue pairs.


def queues_used(net: ControlHand) -> set[int]:
    """Where frames of many flows go."""
    seen = set()
    for port in range(200):
        data = bytes.fromhex("02000000000102000000000a0800") + struct.pack(
            ">BBHHHBBH4s4sHHHH", 0x45, 0, 28, 0, 0, 64, 17, 0, b"\xc0\0\2\1", b"\xc0\0\2\2", 1024 + port, 53, 8, 0
        )
        frame = HostFrame(data)
        seen.add(select_queue(net.device.steering.state.address, frame.address, frame.size, 0))
    return seen


def test_mq_d_02_after_a_reset_only_receiveq1_is_used() -> None:
    """MQ-D-02, MQ-B-01: multiqueue is off by default, although four pairs are set up (NETI-V-02)."""
    net = ControlHand(MQ, pairs=4)
    assert queues_used(net) == {0}
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\4\0")
    assert queues_used(net) == {0, 1, 2, 3}
    features = net.device.features
    net.device.set_status(0)
    negotiate(net.device, features)
    for index, ring in enumerate(net.rings):
        net.device.setup_queue(index, ring.addresses)
    net.device.set_status(15)
    assert queues_used(net) == {0}


def test_mq_d_03_after_the_command_no_queue_beyond_the_pairs_is_used() -> None:
    """MQ-D-03, MQ-V-06: and one pair disables it. MQ-B-02: all of the enabled may be used."""
    net = ControlHand(MQ, pairs=4)
    for pairs in (4, 2, 3, 1):
        assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, struct.pack("<H", pairs))
        assert queues_used(net) == set(range(pairs))


@pytest.mark.parametrize("pairs", [0, 5, 0x8000, 0x8001, 0xFFFF])
def test_mq_v_03_more_pairs_than_there_are_and_none_at_all_are_refused(pairs: int) -> None:
    """MQ-V-03."""
    net = ControlHand(MQ, pairs=4)
    assert net.accepts(k.MQ_CLASS, k.PAIRS_SET, b"\2\0")
    assert not net.accepts(k.MQ_CLASS, k.PAIRS_SET, struct.pack("<H", pairs))
    assert queues_used(net) == {0, 1}


# Announcements.


def test_ann_d_01_the_bit_is_clear_when_the_acknowledgement_is_used() -> None:
    """ANN-D-01: VIRTIO_NET_S_ANNOUNCE is bit 1 of status, at offset 6; the link (bit 0) stays up."""
    net = ControlHand(k.GUEST_ANNOUNCE, k.STATUS)
    net.device.ask_to_announce()
    assert net.device.read_config(6, 2) == b"\3\0"
    assert net.accepts(k.ANNOUNCE, 0)
    assert net.device.read_config(6, 2) == b"\1\0"
    assert net.accepts(k.ANNOUNCE, 0)


def test_the_driver_s_own_command_brings_no_configuration_interrupt() -> None:
    net = ControlHand(k.GUEST_ANNOUNCE, k.STATUS)
    net.device.ask_to_announce()
    rang = net.device.config_bell.count
    net.accepts(k.ANNOUNCE, 0)
    assert net.device.config_bell.count == rang


# Offloads.


def test_offl_d_01_every_offload_is_on_after_negotiation_and_the_command_replaces_the_whole_mask() -> None:
    """OFFL-D-01."""
    net = ControlHand(k.CTRL_GUEST_OFFLOADS, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6)
    assert set(net.device.guest_offloads) == {GUEST_CSUM, GUEST_TSO4, GUEST_TSO6}
    assert net.accepts(k.OFFLOADS, 0, struct.pack("<Q", 1 << 7))
    assert set(net.device.guest_offloads) == {GUEST_TSO4}
    assert net.accepts(k.OFFLOADS, 0, struct.pack("<Q", 1 << 1 | 1 << 8))
    assert set(net.device.guest_offloads) == {GUEST_CSUM, GUEST_TSO6}
    assert net.accepts(k.OFFLOADS, 0, bytes(8))
    assert not net.device.guest_offloads


@pytest.mark.parametrize("bit", [0, 2, 9, 10, 11, 46, 54, 59, 63])
def test_offl_v_01_an_offload_that_was_not_negotiated_is_refused(bit: int) -> None:
    """OFFL-V-01."""
    net = ControlHand(k.CTRL_GUEST_OFFLOADS, GUEST_CSUM, GUEST_TSO4)
    before = state_of(net.device)
    assert not net.accepts(k.OFFLOADS, 0, struct.pack("<Q", 1 << 1 | 1 << bit))
    assert state_of(net.device) == before


def test_erratum_e9_bits_46_and_47_stand_for_features_65_and_66() -> None:
    net = ControlHand(k.CTRL_GUEST_OFFLOADS, GUEST_CSUM, GUEST_TSO4, GUEST_TSO6, *TUNNELS)
    assert net.accepts(k.OFFLOADS, 0, struct.pack("<Q", 1 << 46 | 1 << 47 | 1 << 54))
    assert set(net.device.guest_offloads) == {f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM, f.GUEST_USO4}
    assert not net.accepts(k.OFFLOADS, 0, struct.pack("<Q", 1 << 61))


def test_the_bit_of_guest_hdrlen_does_no_harm_where_it_was_negotiated() -> None:
    """Linux sets it with the others (sheet 1.3, step 18), although the specification lists no such offload."""
    net = ControlHand(k.CTRL_GUEST_OFFLOADS, GUEST_CSUM, f.GUEST_HDRLEN)
    assert net.accepts(k.OFFLOADS, 0, struct.pack("<Q", 1 << 1 | 1 << 59))
    assert set(net.device.guest_offloads) == {GUEST_CSUM}


# Statistics.

RX_BASIC, RX_CSUM, RX_GSO, RX_SPEED, TX_BASIC, TX_CSUM, TX_GSO, TX_SPEED, CVQ = 0, 1, 2, 3, 16, 17, 18, 19, 32
SIZES = {
    RX_BASIC: 56, RX_CSUM: 40, RX_GSO: 40, RX_SPEED: 24, TX_BASIC: 56, TX_CSUM: 24, TX_GSO: 56, TX_SPEED: 24, CVQ: 24,
}  # fmt: skip
"""Bytes of each block with its header (sheet G)."""
STATS = (k.DEVICE_STATS, CSUM, GUEST_CSUM, GUEST_TSO4, HOST_TSO4, MQ)


def request(*pairs: tuple[int, int]) -> bytes:
    return b"".join(struct.pack("<HHHHQ", index, 0xDEAD, 0xBEEF, 0xFFFF, mask) for index, mask in pairs)


def blocks(data: bytes) -> list[tuple[int, int, int, tuple[int, ...]]]:
    """Type, queue, size, counters of each block."""
    found = []
    while data:
        kind, _, vq, _, size = struct.unpack_from("<BBHHH", data)
        found.append((kind, vq, size, struct.unpack_from(f"<{(size - 8) // 8}Q", data, 8)))
        data = data[size:]
    return found


@pytest.mark.parametrize(
    ("features", "kinds"),
    [
        ((), (RX_BASIC, RX_SPEED, TX_BASIC, TX_SPEED, CVQ)),
        ((GUEST_CSUM,), (RX_BASIC, RX_CSUM, RX_SPEED, TX_BASIC, TX_SPEED, CVQ)),
        ((CSUM, HOST_TSO4), (RX_BASIC, RX_SPEED, TX_BASIC, TX_CSUM, TX_GSO, TX_SPEED, CVQ)),
        ((GUEST_CSUM, GUEST_TSO6), (RX_BASIC, RX_CSUM, RX_GSO, RX_SPEED, TX_BASIC, TX_SPEED, CVQ)),
    ],
)
def test_dst_d_01_the_query_is_answered_with_all_types_there_are(
    features: tuple[int, ...], kinds: tuple[int, ...]
) -> None:
    """DST-D-01: Eight bytes; DST-D-11: checksum and GSO types only with their features."""
    net = ControlHand(k.DEVICE_STATS, *features)
    answer = net.send(k.STATS, k.QUERY, room=9)
    assert (answer.ack, answer.length) == (OK, 9)
    assert struct.unpack("<Q", answer.result) == (sum(1 << kind for kind in kinds),)


def test_dst_d_07_and_dst_d_08_each_block_names_its_type_its_queue_and_its_size() -> None:
    """DST-D-07, DST-D-08."""
    net = ControlHand(*STATS, pairs=2)
    wanted = [(0, RX_BASIC), (0, RX_CSUM), (0, RX_GSO), (0, RX_SPEED), (3, TX_BASIC), (3, TX_CSUM), (3, TX_GSO)]
    wanted += [(3, TX_SPEED), (4, CVQ)]
    mask: dict[int, int] = {}
    for index, kind in wanted:
        mask[index] = mask.get(index, 0) | 1 << kind
    room = 1 + sum(SIZES[kind] for _, kind in wanted)
    answer = net.send(k.STATS, k.GET, request(*mask.items()), room=room)
    assert answer.ack == OK
    assert answer.length == room
    assert [(vq, kind, size) for kind, vq, size, _ in blocks(answer.result)] == [
        (index, kind, SIZES[kind]) for index, kind in wanted
    ]


BAD = {
    "DST-D-03, no such queue": request((5, 1 << RX_BASIC)),
    "DST-D-03, far away": request((0xFFFF, 1 << RX_BASIC)),
    "DST-D-04, unknown type": request((0, 1 << 4)),
    "DST-D-04, the last bit": request((0, 1 << 63)),
    "DST-D-05, transmit type on a receive queue": request((0, 1 << TX_BASIC)),
    "DST-D-05, receive type on a transmit queue": request((1, 1 << RX_BASIC)),
    "DST-D-05, queue type on the control queue": request((4, 1 << RX_BASIC)),
    "DST-D-05, control type on a receive queue": request((0, 1 << CVQ)),
    "a request cut short": request((0, 1 << RX_BASIC))[:-1],
}


@pytest.mark.parametrize("fault", BAD)
def test_dst_d_02_any_fault_makes_the_whole_command_an_error(fault: str) -> None:
    """DST-D-02: A good request in front of it changes nothing."""
    net = ControlHand(*STATS, pairs=2)
    good = request((0, 1 << RX_BASIC))
    for data in (BAD[fault], good + BAD[fault]):
        assert net.send(k.STATS, k.GET, data, room=400) == (ERR, b"", 1)
    assert net.send(k.STATS, k.GET, good, room=400).ack == OK


@pytest.mark.parametrize(("index", "kind"), [(0, RX_CSUM), (0, RX_GSO), (1, TX_CSUM), (1, TX_GSO)])
def test_dst_d_06_a_type_whose_feature_was_not_negotiated_is_an_error(index: int, kind: int) -> None:
    """DST-D-06."""
    net = ControlHand(k.DEVICE_STATS)
    assert net.send(k.STATS, k.GET, request((index, 1 << kind)), room=400).ack == ERR


@given(room=st.integers(1, 60))
def test_dst_d_09_nothing_is_written_behind_the_result_buffer(room: int) -> None:
    """DST-D-09: 57 bytes are needed (DST-V-03); with less there is but ERR, and nothing behind its byte is written."""
    net = ControlHand(k.DEVICE_STATS)
    head, parts = net.post_command(b"\x08\1" + request((0, 1 << RX_BASIC)), room)
    net.serve()
    answer = net.answer(head, parts)
    assert answer.ack == (OK if room >= 57 else ERR)
    assert answer.length == (57 if room >= 57 else 1)
    behind = net.memory.read(parts[0].gpa, room)[answer.length :]
    assert set(behind) <= {UNWRITTEN}


def test_the_control_queue_s_counters_include_the_command_at_hand() -> None:
    """One refused, one good, and this one: three commands, two of them OK."""
    net = ControlHand(*STATS, k.CTRL_RX)
    net.send(99, 0)
    net.send(k.RX, k.PROMISC, b"\1")
    answer = net.send(k.STATS, k.GET, request((2, 1 << CVQ)), room=25)
    assert blocks(answer.result) == [(CVQ, 2, 24, (3, 2))]


def counted(net: ControlHand, index: int, kind: int) -> tuple[int, ...]:
    [(_, _, _, counters)] = blocks(net.send(k.STATS, k.GET, request((index, 1 << kind)), room=200).result)
    return counters


def test_frames_are_counted_by_what_their_header_says() -> None:
    """NEEDS_CSUM (1), DATA_VALID (2) or neither; gso_type TCPV4 with ECN (0x81); ECN alone is no GSO."""
    net = ControlHand(*STATS)
    header = allocate(12)
    for flags, gso, size in ((0, 0, 60), (1, 0x81, 5000), (1, 0, 100), (2, 0, 200), (3, 4, 3000), (0, 0x80, 70)):
        header.array[0], header.array[1] = flags, gso
        counted_frame(net.device.stats.counts.address, header.address, size)
    assert counted(net, 0, RX_BASIC) == (0, 6, 8430, 0, 0, 0)
    assert counted(net, 0, RX_CSUM) == (1, 3, 2, 0)
    assert counted(net, 0, RX_GSO) == (2, 8000, 0, 0)
    assert counted(net, 1, TX_BASIC) == (0,) * 6


def test_kicks_and_calls_are_counted() -> None:
    net = ControlHand(*STATS)
    net.bells[0].kick_count = 3
    net.device.queues[0].notifications = 4
    assert counted(net, 0, RX_BASIC) == (3, 0, 0, 4, 0, 0)


def test_dst_d_10_counters_wrap_to_zero() -> None:
    """DST-D-10."""
    net = ControlHand(*STATS)
    counts = net.device.stats.counts[0]
    counts.packets = -1  # 2^64 - 1
    assert counted(net, 0, RX_BASIC)[1] == (1 << 64) - 1
    header = allocate(12)
    counted_frame(net.device.stats.counts.address, header.address, 60)
    assert counted(net, 0, RX_BASIC)[1] == 0


def test_a_reset_clears_all_counters() -> None:
    net = ControlHand(*STATS)
    net.device.stats.counts[0].packets = 5
    features = net.device.features
    net.device.set_status(0)
    negotiate(net.device, features)
    assert net.device.stats.counts[0].packets == 0
    assert net.device.stats.commands == 0
