"""The device's control queue: framing, acknowledgement, refusal (VIRTIO 1.4, section 5.1.6.5)."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.device.control import COMMAND_MAX
from netemu.device.net import NetDevice
from netemu.memory import GuestMemory
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import NetConfig
from tests import control_kit as k
from tests.control_kit import ERR, OK, UNWRITTEN, ControlHand, state_of
from tests.device_kit import CTRL_VQ, EVENT_IDX, INDIRECT_DESC, MQ, VERSION_1, Part, negotiate

EVERYTHING = (
    k.CTRL_GUEST_OFFLOADS, k.MAC, k.STATUS, k.CTRL_RX, k.CTRL_VLAN, k.CTRL_RX_EXTRA, k.GUEST_ANNOUNCE, MQ,
    k.CTRL_MAC_ADDR, k.DEVICE_STATS, k.VQ_NOTF_COAL, k.NOTF_COAL,
)  # fmt: skip

VALID = {
    "promisc": (k.RX, k.PROMISC, b"\1", k.CTRL_RX),
    "allmulti": (k.RX, k.ALLMULTI, b"\1", k.CTRL_RX),
    "alluni": (k.RX, k.ALLUNI, b"\1", k.CTRL_RX_EXTRA),
    "nomulti": (k.RX, k.NOMULTI, b"\1", k.CTRL_RX_EXTRA),
    "nouni": (k.RX, k.NOUNI, b"\1", k.CTRL_RX_EXTRA),
    "nobcast": (k.RX, k.NOBCAST, b"\1", k.CTRL_RX_EXTRA),
    "mac table": (k.MAC_CLASS, k.TABLE_SET, struct.pack("<I6sI", 1, k.STATION, 0), k.CTRL_RX),
    "mac address": (k.MAC_CLASS, k.ADDR_SET, bytes.fromhex("02aabbccddee"), k.CTRL_MAC_ADDR),
    "vlan add": (k.VLAN, k.ADD, b"\x64\0", k.CTRL_VLAN),
    "vlan del": (k.VLAN, k.DEL, b"\x64\0", k.CTRL_VLAN),
    "announce": (k.ANNOUNCE, 0, b"", k.GUEST_ANNOUNCE),
    "pairs": (k.MQ_CLASS, k.PAIRS_SET, b"\2\0", MQ),
    "offloads": (k.OFFLOADS, 0, bytes(8), k.CTRL_GUEST_OFFLOADS),
    "coal tx": (k.COAL, k.TX_SET, k.coal(4, 8), k.NOTF_COAL),
    "coal rx": (k.COAL, k.RX_SET, k.coal(4, 8), k.NOTF_COAL),
    "coal vq": (k.COAL, k.VQ_SET, k.coal_vq(1, 4, 8), k.VQ_NOTF_COAL),
    "stats get": (k.STATS, k.GET, b"", k.DEVICE_STATS),
}
"""Class, command and data of a good command each, with the feature it needs."""
every_command = pytest.mark.parametrize("name", VALID)


def hand(*without: int) -> ControlHand:
    return ControlHand(*(bit for bit in EVERYTHING if bit not in without), pairs=1 if MQ in without else 2)


# Where the queue is.


@pytest.mark.parametrize("feature", [MQ, k.RSS])
def test_netq_b_02_the_control_queue_stands_behind_all_pairs_there_could_be(feature: int) -> None:
    """NETQ-B-02, NETQ-B-01, trap T13: 2N with N from the configuration under MQ or RSS, although one pair is in use."""
    net = ControlHand(feature, k.CTRL_RX, pairs=4)
    assert net.control_index == 8
    assert net.device.queue_size_max(9) == 0
    assert net.send(k.RX, k.PROMISC, b"\1").ack == OK


def of_four_pairs(*chosen: int) -> NetDevice:
    """A device that offers MQ with four pairs, and a driver that chose less."""
    offered = FeatureSet.of(VERSION_1, CTRL_VQ, MQ)
    device = NetDevice(GuestMemory(1 << 16), offered, NetConfig(max_virtqueue_pairs=4), queue_size=8)
    negotiate(device, FeatureSet.of(VERSION_1, *chosen))
    return device


def test_without_mq_and_rss_the_control_queue_has_index_2() -> None:
    """NETQ-B-02: whatever the configuration says."""
    device = of_four_pairs(CTRL_VQ)
    assert [device.queue_size_max(index) for index in range(4)] == [8, 8, 8, 0]


def test_netq_b_03_without_ctrl_vq_there_is_no_control_queue() -> None:
    """NETQ-B-03."""
    assert [of_four_pairs().queue_size_max(index) for index in range(4)] == [8, 8, 0, 0]


def test_the_device_touches_no_control_queue_before_driver_ok() -> None:
    """STAT-D-01."""
    net = hand()
    net.device.set_status(0)
    net.device.set_status(3)
    net.device.set_features(net.device.get_features())
    net.device.set_status(11)
    ring = net.control
    ring.seen_idx = 0
    ring.write16(ring.used + 2, 0)
    ring.set_avail_idx(0)
    net.device.setup_queue(net.control_index, ring.addresses)
    head, writable = net.post_command(b"\0\0\1")
    net.serve()
    assert ring.used_idx == 0
    net.device.set_status(15)
    net.serve()
    assert net.answer(head, writable).ack == OK


# Framing.


@every_command
def test_ctrl_v_01_a_command_is_class_number_data_and_an_acknowledgement(name: str) -> None:
    """CTRL-V-01, CTRL-D-01: one byte is written, OK; the used length says so."""
    kind, command, data, _feature = VALID[name]
    assert hand().send(kind, command, data) == (OK, b"", 1)


@given(data=st.data(), name=st.sampled_from(sorted(VALID)), indirect=st.booleans())
def test_ctrl_d_02_where_descriptors_begin_and_end_means_nothing(
    data: st.DataObject, name: str, *, indirect: bool
) -> None:
    """CTRL-D-02: any cut, empty descriptors too; through an indirect table as well.

    More writable bytes than needed do no harm.
    """
    kind, command, payload, _feature = VALID[name]
    request = bytes([kind, command]) + payload
    cuts = sorted(data.draw(st.lists(st.integers(0, len(request)), max_size=5)))
    readable = [end - start for start, end in pairwise([0, *cuts, len(request)])]
    writable = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(sum))
    net = ControlHand(*EVERYTHING, INDIRECT_DESC, pairs=2, num=16)
    head, parts = net.post_parts(request, readable, writable, indirect=indirect)
    net.serve()
    answer = net.answer(head, parts)
    assert answer.length == 1
    assert answer.ack == OK
    behind = b"".join(net.memory.read(part.gpa, part.size) for part in parts)[1:]
    assert set(behind) <= {UNWRITTEN}


def test_commands_that_wait_together_are_done_in_order_and_the_last_one_counts() -> None:
    net = hand()
    area = net.memory.reserve(64)
    net.memory.write(area, b"\0\0\1" + b"\0\0\0" + b"\0\0\1" + b"\xaa" * 3)
    for n in range(3):
        net.control.post(Part(area + 3 * n, 3, writable=False), Part(area + 9 + n, 1))
    net.serve()
    assert [length for _, length in net.control.take_used()] == [1, 1, 1]
    assert net.memory.read(area + 9, 3) == bytes(3)
    assert net.device.filter.struct.promisc == 1


def test_the_driver_is_called_when_a_command_is_used_and_not_when_it_polls() -> None:
    """SPLIT-D-09."""
    net = hand()
    net.send(k.RX, k.PROMISC, b"\1")
    assert net.control_bell.call_count == 1
    net.control.set_no_interrupt(1)
    net.send(k.RX, k.PROMISC, b"\0")
    assert net.control_bell.call_count == 1


def test_event_idx_holds_for_the_control_queue_too() -> None:
    """SPLIT-D-12: used_event 1 is passed by the second command."""
    net = ControlHand(k.CTRL_RX, EVENT_IDX)
    net.control.set_used_event(1)
    net.send(k.RX, k.PROMISC, b"\1")
    assert net.control_bell.call_count == 0
    net.send(k.RX, k.PROMISC, b"\1")
    assert net.control_bell.call_count == 1


# Refusal.


@every_command
def test_a_command_whose_feature_was_not_negotiated_is_refused(name: str) -> None:
    """RXF-V-01, RXF-V-02, MAC-V-01, COAL-V-02, COAL-V-03: a driver must not; the device does nothing and says ERR.

    MAC_ADDR_SET goes by its own bit (erratum E5).
    """
    kind, command, data, feature = VALID[name]
    net = hand(feature)
    before = state_of(net.device)
    assert net.send(kind, command, data).ack == ERR
    assert state_of(net.device) == before


@every_command
def test_a_command_of_any_other_length_is_refused(name: str) -> None:
    kind, command, data, _feature = VALID[name]
    net = hand()
    before = state_of(net.device)
    for wrong in {data[:-1], data + b"\0", b"", bytes(300)} - {data}:
        if kind != k.STATS or len(wrong) % 16:
            assert net.send(kind, command, wrong).ack == ERR, wrong
    assert state_of(net.device) == before


@pytest.mark.parametrize("request_bytes", [b"", b"\0", b"\xff\0", b"\0\6\1", b"\1\2", b"\4\3", b"\x0a\0"])
def test_what_is_no_command_is_refused(request_bytes: bytes) -> None:
    net = hand()
    before = state_of(net.device)
    head, writable = net.post_command(request_bytes)
    net.serve()
    assert net.answer(head, writable) == (ERR, b"", 1)
    assert state_of(net.device) == before
    assert net.send(k.RX, k.PROMISC, b"\1").ack == OK


@pytest.mark.parametrize("command", [0, 1, 2, 3])
def test_commands_for_rss_contexts_are_refused_since_none_are_offered(command: int) -> None:
    net = hand()
    assert net.send(k.CONTEXTS, command, struct.pack("<H6x", 1), room=3) == (ERR, b"", 1)


def test_a_chain_without_room_for_the_acknowledgement_does_nothing_and_breaks_nothing() -> None:
    """The driver can learn nothing from it, so nothing is done; the buffer comes back with length 0."""
    net = hand()
    before = state_of(net.device)
    for writable in ([], [0], [0, 0]):
        head, parts = net.post_parts(b"\0\0\1", [3], writable)
        net.serve()
        assert net.answer(head, parts) == (UNWRITTEN, b"", 0)
    assert state_of(net.device) == before
    assert not net.device.broken
    assert net.send(k.RX, k.PROMISC, b"\1").ack == OK


def test_a_command_of_a_mebibyte_is_refused_unread() -> None:
    net = ControlHand(k.CTRL_RX, size=1 << 21)
    long = net.memory.reserve(COMMAND_MAX + 1, 1)
    ack = net.buffer(1)
    net.control.post(Part(long, COMMAND_MAX + 1, writable=False), ack)
    net.serve()
    assert net.memory.read(ack.gpa, 1) == bytes([ERR])


def test_a_broken_control_queue_is_not_touched_and_the_others_live() -> None:
    """SPLIT-V-04: a chain that loops."""
    net = hand()
    net.control.describe(0, net.control.desc, 1, 1, 0)
    net.control.expose(0)
    net.serve()
    assert len(net.device.broken) == 1
    net.control.post(net.buffer(8))
    net.serve()
    assert net.control.used_idx == 0
    assert net.rx_queue.broken == 0


@given(
    st.lists(st.tuples(st.binary(max_size=40), st.integers(0, 200)), min_size=1, max_size=4),
)
def test_no_command_makes_the_device_raise_or_write_outside_its_buffer(commands: list[tuple[bytes, int]]) -> None:
    """Arbitrary bytes: each comes back once, with OK or ERR, and the byte behind the buffer is untouched."""
    net = hand()
    guard = 16
    for request, room in commands:
        head, parts = net.post_parts(request + b"", [len(request)], [room, guard])
        # The guard belongs to nobody: the chain ends before it.
        tail = parts[-1]
        net.control.describe((head + 1) % net.control.num, parts[0].gpa, room, 2)
        net.serve()
        [(used, length)] = net.control.take_used()
        assert used == head
        assert length <= room
        if room:
            assert net.memory.read(parts[0].gpa, 1)[0] in (OK, ERR)
        assert net.memory.read(tail.gpa, guard) == bytes([UNWRITTEN]) * guard
    assert not net.device.broken


@given(kind=st.integers(0, 10), command=st.integers(0, 7), data=st.binary(max_size=64), room=st.integers(1, 300))
def test_whatever_is_refused_changes_nothing(kind: int, command: int, data: bytes, room: int) -> None:
    net = hand()
    before = state_of(net.device)
    answer = net.send(kind, command, data, room=room)
    if answer.ack == ERR:
        assert answer.length == 1
        assert state_of(net.device) == before


def test_ctrl_vq_alone_accepts_nothing() -> None:
    net = ControlHand()
    assert CTRL_VQ in net.device.features
    assert all(net.send(kind, command, data).ack == ERR for kind, command, data, _ in VALID.values())
