"""A link without chance: when frames arrive, what it drops, and that it accounts for all."""

from __future__ import annotations

import pytest

from netemu.errors import ConfigError
from netemu.net.link import Link
from netemu.net.port import Port, port_send
from netemu.net.wire_frame import get_wire_frame, put_wire_frame, wire_frame_at
from tests.net_kit import MS, Rig, S, balance


def test_a_link_of_which_nothing_is_said_delivers_at_once() -> None:
    rig = Rig()
    rig.send(b"abc", at=5)
    assert [(arrival.when, arrival.port, arrival.data) for arrival in rig.run()] == [(5, 1, b"abc")]


def test_each_direction_is_its_own() -> None:
    rig = Rig("delay 2ms")
    rig.link.backward.set("delay 5ms")
    rig.send(b"there", port=0)
    rig.send(b"back", port=1)
    assert [(arrival.when, arrival.port, arrival.data) for arrival in rig.run()] == [
        (2 * MS, 1, b"there"),
        (5 * MS, 0, b"back"),
    ]


def test_frames_follow_each_other_at_the_rate() -> None:
    """1250 bytes are 10,000 bits: 1 ms at 10 Mbit/s. The third waits for two."""
    rig = Rig("delay 10ms rate 10mbit")
    for _ in range(3):
        rig.send(1250)
    rig.run()
    assert rig.times == [11 * MS, 12 * MS, 13 * MS]
    stats = rig.link.forward.stats()
    assert (stats.sent, stats.sent_bytes, stats.delivered_bytes) == (3, 3750, 3750)
    assert stats.queued_ns == 1 * MS + 2 * MS
    assert stats.queued_most == 2


def test_rounding_does_not_add_up() -> None:
    """A byte takes 8/3 ns at 3 Gbit/s: three take exactly 8."""
    rig = Rig("rate 3gbit queue 0p")
    for _ in range(300):
        rig.send(1)
    rig.run()
    assert rig.times[-1] == 800
    assert rig.times[:3] == [2, 5, 8]


@pytest.mark.parametrize(
    ("rate", "size", "ns"),
    [
        pytest.param("1mbit", 125, 1 * MS, id="plain"),
        pytest.param("1mbit 24", 101, 1 * MS, id="a-preamble-and-more"),
        pytest.param("1mbit -14", 139, 1 * MS, id="without-the-ethernet-header"),
        pytest.param("1mbit -200", 125, 0, id="less-than-nothing"),
        # The example of tc-netem(8): 50 bytes are two ATM cells of 48 + 5 bytes: 106 bytes.
        pytest.param("1mbit 0 48 5", 50, 848_000, id="atm"),
        pytest.param("1mbit 0 48 5", 48, 424_000, id="one-full-cell"),
        # Its last example: 5 kbit/s, 20 bytes of overhead, cells of 100 + 5 bytes. 100 + 20 bytes are two: 210 bytes.
        pytest.param("5kbit 20 100 5", 100, 336 * MS, id="the-manual"),
        pytest.param("1mbit 0 48 -8", 96, 640_000, id="negative-cell-overhead"),
    ],
)
def test_overhead_and_cells_take_time(rate: str, size: int, ns: int) -> None:
    rig = Rig(f"rate {rate}")
    rig.send(size)
    rig.run()
    assert rig.times == [ns]


def test_a_queue_of_packets_drops_what_finds_it_full() -> None:
    rig = Rig("rate 1mbit queue 2p")
    for _ in range(5):
        rig.send(125)
    assert rig.forward.dropped_queue == 2  # one is being sent, two wait
    assert rig.forward.overlimits == 2
    assert (rig.forward.backlog, rig.forward.backlog_bytes) == (2, 250)
    assert len(rig.run()) == 3


def test_a_queue_of_bytes_takes_a_small_frame_where_a_large_one_finds_no_room() -> None:
    rig = Rig("rate 1mbit queue 1000b")
    for size in (1500, 900, 101, 100):
        rig.send(size)
    assert rig.forward.dropped_queue == 1
    assert [len(arrival.data) for arrival in rig.run()] == [1500, 900, 100]


def test_the_limit_counts_what_is_under_way() -> None:
    """As netem's: everything that the link holds."""
    rig = Rig("delay 10ms limit 2")
    for at in (0, 1, 2, 10 * MS):
        rig.send(60, at=at)
    assert rig.forward.dropped_limit == 1
    assert len(rig.run()) == 3


@pytest.mark.parametrize(
    ("head", "size", "passes"),
    [
        (bytes(12) + b"\x08\x00", 1514, True),
        (bytes(12) + b"\x08\x00", 1515, False),
        (bytes(12) + b"\x81\x00\x00\x05\x08\x00", 1518, True),
        (bytes(12) + b"\x88\xa8\x00\x05\x81\x00\x00\x06\x08\x00", 1522, True),
        (bytes(12) + b"\x81\x00\x00\x05\x08\x00", 1519, False),
        (b"short", 5, True),
    ],
)
def test_a_packet_over_the_mtu_is_dropped_whatever_its_tags(head: bytes, size: int, passes: bool) -> None:
    rig = Rig("mtu 1500")
    rig.send(head.ljust(size, b"\0"))
    assert bool(rig.run()) == passes
    assert rig.forward.dropped_mtu == int(not passes)


def test_what_is_on_its_way_is_lost_when_a_link_goes_down() -> None:
    rig = Rig("delay 10ms rate 1mbit queue 10p")
    for _ in range(4):
        rig.send(125)
    rig.timers.run_until(1 * MS + 1)  # one on the wire, one being sent, two waiting
    rig.link.down()
    assert rig.forward.dropped_down == 4
    assert rig.buffers() == rig.free
    rig.send(125)
    assert rig.forward.dropped_down == 5
    rig.link.up()
    rig.send(125, at=20 * MS)
    rig.run()
    assert rig.times == [31 * MS]
    assert balance(rig.forward) == 0


def test_a_frame_that_is_ahead_of_others_is_lost_with_them() -> None:
    rig = Rig("delay 10ms")
    rig.send(b"slow")
    rig.link.set("delay 1ms")
    rig.send(b"fast")
    rig.link.down()
    rig.link.up()
    assert rig.forward.dropped_down == 2
    assert rig.run() == []
    assert rig.buffers() == rig.free


def test_a_new_delay_is_for_frames_that_leave_from_now_on() -> None:
    rig = Rig("delay 10ms")
    rig.send(b"first")
    rig.link.set("delay 1ms")
    rig.send(b"second")
    assert [(arrival.when, arrival.data) for arrival in rig.run()] == [(1 * MS, b"second"), (10 * MS, b"first")]


def test_a_new_rate_is_for_frames_that_are_not_being_sent_yet() -> None:
    rig = Rig("rate 1mbit")
    for _ in range(3):
        rig.send(125)
    rig.link.set(rate="2mbit")
    rig.run()
    assert rig.times == [1 * MS, 1_500_000, 2 * MS]


def test_without_its_rate_a_link_sends_all_that_waited() -> None:
    rig = Rig("rate 1mbit")
    for _ in range(3):
        rig.send(125)
    rig.link.set(rate=None)
    rig.send(60)  # behind those that wait
    rig.run()
    assert rig.times == [1 * MS] * 4
    assert [len(arrival.data) for arrival in rig.arrivals] == [125, 125, 125, 60]


def test_a_shorter_queue_keeps_what_waits() -> None:
    rig = Rig("rate 1mbit queue 10p")
    for _ in range(5):
        rig.send(125)
    rig.link.set(queue="1p")
    rig.send(125)
    assert rig.forward.dropped_queue == 1
    assert len(rig.run()) == 5


def test_a_frame_that_several_hold_is_copied() -> None:
    """What a switch floods hangs in the lists of several links."""
    rig = Rig("delay 1ms")
    wire_frame = rig.make(b"shared")
    get_wire_frame(wire_frame)
    port_send(rig.ports[0].address, wire_frame)
    assert wire_frame_at(wire_frame).users == 1
    assert [arrival.data for arrival in rig.run()] == [b"shared"]
    put_wire_frame(wire_frame)
    assert rig.buffers() == rig.free


def test_a_port_without_a_link_drops_and_counts() -> None:
    rig = Rig()
    rig.link.unplug()
    rig.send(60)
    assert rig.ports[0].tx_dropped == 1
    assert rig.buffers() == rig.free


def test_statistics_read_as_tc_prints_them() -> None:
    rig = Rig("rate 1mbit queue 1p")
    for _ in range(4):
        rig.send(125)
    text = str(rig.link.forward.stats())
    assert text.splitlines()[:2] == [
        "Sent 0 bytes 0 pkt (dropped 2: queue 2, overlimits 2)",
        "backlog 125b 1p, under way 1p, at most 1p, 0s each",
    ]
    rig.run(10 * S)
    assert str(rig.link.forward.stats()).startswith("Sent 250 bytes 2 pkt (dropped 2: queue 2, overlimits 2)\n")


def test_a_port_takes_one_link() -> None:
    rig = Rig()
    with pytest.raises(ConfigError, match="one link"):
        Link(rig.timers, rig.frames, rig.ports[0], Port())
    rig.link.unplug()
    Link(rig.timers, rig.frames, rig.ports[0], rig.ports[1])
