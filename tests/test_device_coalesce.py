"""Notification coalescing at the device (VIRTIO 1.4, section 5.1.6.5.9), by a driver held by hand.

Time is whatever the test says: microseconds here, nanoseconds in the device.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netemu.device.coalesce import Moderation, call_if_due, signal_used
from netemu.device.queue import flush, pop_chain
from tests import control_kit as k
from tests.control_kit import ERR, OK, ControlHand, coal, coal_vq
from tests.device_kit import EVENT_IDX, MQ, negotiate

BOTH = (k.NOTF_COAL, k.VQ_NOTF_COAL)
RX0, TX0, RX1, TX1 = range(4)


class Coalesced(ControlHand):
    """A device whose queues use a buffer whenever a packet passes."""

    def packet(self, queue: int, usecs: int, packets: int = 1) -> bool:
        """Buffers for packets are used at a time; whether the driver was called."""
        for _ in range(packets):
            self.rings[queue].post(self.buffer(1))
        dq = self.device.queues[queue]
        before = self.bells[queue].call_count
        while pop_chain(dq) > 0:
            pass
        flush(dq)
        signal_used(dq, self._moderation(queue), packets, usecs * 1000)
        return self.bells[queue].call_count > before

    def time(self, queue: int, usecs: int) -> bool:
        """Time has come to ``usecs``; whether the driver was called."""
        self.device.coalescing.now = usecs * 1000
        before = self.bells[queue].call_count
        call_if_due(self.device.queues[queue], self._moderation(queue), usecs * 1000)
        return self.bells[queue].call_count > before

    def _moderation(self, queue: int) -> Moderation:
        return self.device.coalescing.queues[queue]

    def get(self, queue: int) -> tuple[int, int]:
        """VQ_GET: the acknowledgement comes first, then the values (erratum E10)."""
        answer = self.send(k.COAL, k.VQ_GET, struct.pack("<HH", queue, 0), room=9)
        assert answer.ack == OK
        assert answer.length == 9
        packets, usecs = struct.unpack("<II", answer.result)
        return packets, usecs


def coalesced(*bits: int, pairs: int = 2) -> Coalesced:
    return Coalesced(*BOTH, MQ, *bits, pairs=pairs, num=64)


def calls(net: Coalesced, queue: int, times: Iterable[int]) -> list[int]:
    """At which of these times a packet brought a call."""
    return [usecs for usecs in times if net.packet(queue, usecs)]


# Conditions.


def test_coal_d_11_without_parameters_the_driver_is_called_for_every_packet() -> None:
    """COAL-D-11, COAL-D-09: that is how a device starts."""
    net = coalesced()
    assert calls(net, RX0, range(5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("packets", "usecs"), [(8, 0), (0, 100), (0, 0)])
def test_coal_d_11_with_either_value_0_too(packets: int, usecs: int) -> None:
    """COAL-D-11."""
    net = coalesced()
    assert net.accepts(k.COAL, k.RX_SET, coal(packets, usecs))
    assert calls(net, RX0, range(3)) == [0, 1, 2]


def test_coal_d_10_the_driver_is_called_after_max_packets() -> None:
    """COAL-D-10."""
    net = coalesced()
    assert net.accepts(k.COAL, k.RX_SET, coal(3, 1000))
    assert calls(net, RX0, range(10)) == [2, 5, 8]


def test_coal_d_10_or_after_max_usecs_from_the_first_packet_whichever_is_first() -> None:
    """COAL-D-10: Counting starts at a packet: 40, and again with the next one after the call, at 200."""
    net = coalesced()
    assert net.accepts(k.COAL, k.RX_SET, coal(100, 50))
    assert not net.packet(RX0, 40)
    assert not net.packet(RX0, 80)
    assert not net.time(RX0, 89)
    assert net.time(RX0, 90)
    assert not net.time(RX0, 199)
    assert not net.packet(RX0, 200)
    assert not net.time(RX0, 249)
    assert net.time(RX0, 251)


def test_coal_d_10_counters_are_per_queue() -> None:
    """COAL-D-10."""
    net = coalesced()
    assert net.accepts(k.COAL, k.RX_SET, coal(2, 1000))
    assert not net.packet(RX0, 0)
    assert not net.packet(RX1, 0)
    assert net.packet(RX0, 0)
    assert net.packet(RX1, 0)
    assert calls(net, TX0, range(3)) == [0, 1, 2]


def test_coal_d_08_a_driver_that_wants_no_calls_gets_none_whatever_is_due() -> None:
    """COAL-D-08."""
    net = coalesced()
    assert net.accepts(k.COAL, k.RX_SET, coal(2, 10))
    net.rings[RX0].set_no_interrupt(1)
    assert calls(net, RX0, range(8)) == []
    assert not net.time(RX0, 100)
    net.rings[RX0].set_no_interrupt(0)
    assert calls(net, RX0, (101, 102)) == [102]


def test_coal_d_08_with_event_idx_a_call_held_back_counts_from_the_last_decision() -> None:
    """COAL-D-08: used_event 0: the first buffer is the one the driver waits for; the call comes with the third."""
    net = coalesced(EVENT_IDX)
    assert net.accepts(k.COAL, k.RX_SET, coal(3, 1000))
    assert calls(net, RX0, range(9)) == [2]
    net.rings[RX0].set_used_event(10)
    assert calls(net, RX0, range(9)) == [2]


@given(
    packets=st.integers(1, 5),
    usecs=st.integers(1, 20),
    gaps=st.lists(st.integers(0, 15), min_size=1, max_size=30),
)
def test_coal_d_07_no_packet_waits_longer_and_no_more_wait_than_was_asked_for(
    packets: int, usecs: int, gaps: list[int]
) -> None:
    """COAL-D-07: The rule of section 5.1.6.5.9.1 by a model: first packet's time plus max_usecs, or max_packets."""
    net = coalesced()
    net.accepts(k.COAL, k.RX_SET, coal(packets, usecs))
    now, waiting, since = 0, 0, 0
    for gap in gaps[:30]:
        now += gap
        expected = waiting > 0 and now >= since + usecs
        assert net.time(RX0, now) == expected
        if expected:
            waiting = 0
        since = since if waiting else now
        waiting += 1
        expected = waiting >= packets
        assert net.packet(RX0, now) == expected
        if expected:
            waiting = 0


# Commands.


def test_coal_d_12_the_last_command_that_touched_a_queue_counts() -> None:
    """COAL-D-12."""
    net = coalesced()
    assert net.accepts(k.COAL, k.RX_SET, coal(1, 2))
    assert net.accepts(k.COAL, k.TX_SET, coal(3, 4))
    assert [net.get(queue) for queue in range(4)] == [(1, 2), (3, 4), (1, 2), (3, 4)]
    assert net.accepts(k.COAL, k.VQ_SET, coal_vq(RX1, 5, 6))
    assert [net.get(queue) for queue in range(4)] == [(1, 2), (3, 4), (5, 6), (3, 4)]
    assert net.accepts(k.COAL, k.RX_SET, coal(7, 8))
    assert [net.get(queue) for queue in range(4)] == [(7, 8), (3, 4), (7, 8), (3, 4)]


def test_coal_d_01_the_reserved_word_is_ignored() -> None:
    """COAL-D-01."""
    net = coalesced()
    assert net.accepts(k.COAL, k.VQ_SET, coal_vq(TX0, 5, 6, reserved=0xFFFF))
    answer = net.send(k.COAL, k.VQ_GET, struct.pack("<HH", TX0, 0xABCD), room=9)
    assert (answer.ack, answer.result) == (OK, struct.pack("<II", 5, 6))


def test_erratum_e10_a_query_laid_out_as_the_whole_structure_is_answered_too() -> None:
    """Values behind the index, which the driver leaves for the device to ignore."""
    net = coalesced()
    net.accepts(k.COAL, k.VQ_SET, coal_vq(TX0, 5, 6))
    assert net.send(k.COAL, k.VQ_GET, coal_vq(TX0, 9, 9), room=9).result == struct.pack("<II", 5, 6)


@pytest.mark.parametrize("index", [4, 5, 0xFFFF])
def test_coal_d_04_a_queue_that_is_no_receive_or_transmit_queue_is_refused(index: int) -> None:
    """COAL-D-04: 4 is the control queue (COAL-D-03)."""
    net = coalesced()
    assert not net.accepts(k.COAL, k.VQ_SET, coal_vq(index, 1, 2))
    assert net.send(k.COAL, k.VQ_GET, struct.pack("<HH", index, 0), room=9) == (ERR, b"", 1)


def test_coal_d_04_so_is_one_that_is_not_enabled() -> None:
    """COAL-D-04."""
    net = coalesced(40)
    net.device.reset_queue(RX1)
    assert not net.accepts(k.COAL, k.VQ_SET, coal_vq(RX1, 1, 2))
    assert net.send(k.COAL, k.VQ_GET, struct.pack("<HH", RX1, 0), room=9).ack == ERR
    assert net.accepts(k.COAL, k.VQ_SET, coal_vq(RX0, 1, 2))


@pytest.mark.parametrize("room", [1, 8])
def test_a_query_without_room_for_the_values_is_refused(room: int) -> None:
    net = coalesced()
    assert net.send(k.COAL, k.VQ_GET, struct.pack("<HH", RX0, 0), room=room) == (ERR, b"", 1)


def test_coal_d_02_and_coal_d_03_what_cannot_be_applied_is_refused() -> None:
    """COAL-D-02, COAL-D-03: A structure of any other length."""
    net = coalesced()
    for command, data in ((k.TX_SET, coal(1, 2)), (k.RX_SET, coal(1, 2)), (k.VQ_SET, coal_vq(0, 1, 2))):
        assert not net.accepts(k.COAL, command, data[:-1])
        assert not net.accepts(k.COAL, command, data + b"\0")
    assert net.get(RX0) == net.get(TX0) == (0, 0)


@pytest.mark.parametrize(("queue", "command", "clause"), [(RX1, k.RX_SET, "COAL-D-06"), (TX1, k.TX_SET, "COAL-D-05")])
def test_coal_d_05_and_coal_d_06_a_queue_enabled_again_has_its_direction_s_parameters(
    queue: int, command: int, clause: str
) -> None:
    """Those of the last TX_SET or RX_SET, or 0."""
    net = coalesced(40)
    net.accepts(k.COAL, k.VQ_SET, coal_vq(queue, 1, 2))
    net.device.reset_queue(queue)
    net.device.setup_queue(queue, net.rings[queue].addresses)
    assert net.get(queue) == (0, 0), clause
    net.accepts(k.COAL, command, coal(3, 4))
    net.accepts(k.COAL, k.VQ_SET, coal_vq(queue, 1, 2))
    net.device.reset_queue(queue)
    net.device.setup_queue(queue, net.rings[queue].addresses)
    assert net.get(queue) == (3, 4), clause


def test_coal_d_09_a_reset_makes_all_parameters_0() -> None:
    """COAL-D-09: Also those that queues enabled later would have."""
    net = coalesced()
    net.accepts(k.COAL, k.RX_SET, coal(7, 8))
    net.accepts(k.COAL, k.VQ_SET, coal_vq(TX0, 1, 2))
    net.packet(RX0, 0)
    features = net.device.features
    net.device.set_status(0)
    negotiate(net.device, features)
    for index, ring in enumerate(net.rings):
        net.device.setup_queue(index, ring.addresses)
    assert all(queue.to_dict() == dict.fromkeys(queue.to_dict(), 0) for queue in net.device.coalescing.queues)


@pytest.mark.parametrize(("packets", "usecs"), [(2, 100), (100, 30), (0, 5), (5, 0)])
def test_coal_d_13_a_change_sends_what_is_due_under_the_new_parameters_at_once(packets: int, usecs: int) -> None:
    """COAL-D-13: Two packets wait since 0; the change comes at 40."""
    net = coalesced()
    net.accepts(k.COAL, k.RX_SET, coal(100, 1000))
    assert not net.packet(RX0, 0, packets=2)
    assert not net.time(RX0, 40)
    before = net.bells[RX0].call_count
    assert net.accepts(k.COAL, k.VQ_SET, coal_vq(RX0, packets, usecs))
    assert net.bells[RX0].call_count == before + 1
    assert not net.time(RX0, 5000)


def test_coal_d_13_and_nothing_that_is_not() -> None:
    """COAL-D-13."""
    net = coalesced()
    net.accepts(k.COAL, k.RX_SET, coal(100, 1000))
    net.packet(RX0, 0, packets=2)
    net.time(RX0, 40)
    before = net.bells[RX0].call_count
    net.accepts(k.COAL, k.VQ_SET, coal_vq(RX0, 3, 50))
    assert net.bells[RX0].call_count == before
    assert not net.time(RX0, 49)
    assert net.time(RX0, 50)


@pytest.mark.parametrize("queue", [RX1, TX0])
def test_a_queue_that_was_reset_owes_no_call(queue: int) -> None:
    """Bug: the call that was held back for it became due, and read a ring that is not there any more."""
    net = coalesced(40)
    command = k.TX_SET if queue % 2 else k.RX_SET
    assert net.accepts(k.COAL, command, coal(10, 50))
    assert not net.packet(queue, usecs=0)
    net.device.reset_queue(queue)
    assert not net.time(queue, usecs=1000)
    assert net.accepts(k.COAL, command, coal(1, 1))
    net.device.coalescing.flush()
    assert net.bells[queue].call_count == 0
