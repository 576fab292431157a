"""ARP of a host that talks: asked, answered, heeded (RFC 826, RFC 5227), byte by byte."""

from __future__ import annotations

import pytest

from tests import wire
from tests.host_kit import MAC, PEER_MAC, SECOND, HostBench

OWN, PEER = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])
OTHER_MAC = bytes.fromhex("020000000003")


def arp(
    operation: int, sender_mac: bytes, sender: bytes, target_mac: bytes, target: bytes, dst: bytes = wire.EVERYONE
) -> bytes:
    head = bytes.fromhex("0001 0800 06 04") + operation.to_bytes(2, "big")
    return dst + sender_mac + b"\x08\x06" + head + sender_mac + sender + target_mac + target


def neighbours(bench: HostBench) -> list[str]:
    return [str(neighbour) for neighbour in bench.stack.ip.neighbour_list()]


def test_a_request_for_an_own_address_is_answered_to_who_asked() -> None:
    bench = HostBench()
    bench.receive(arp(1, PEER_MAC, PEER, bytes(6), OWN))
    assert bench.frames() == [arp(2, MAC, OWN, PEER_MAC, PEER, dst=PEER_MAC)]
    assert neighbours(bench) == ["10.9.0.2 dev eth0 lladdr 02:00:00:00:00:02 STALE"]


def test_a_request_for_an_address_of_another_interface_is_answered_too() -> None:
    """The host owns its addresses, not the interface (RFC 1122 section 3.3.4.2's weak model; Linux's arp_ignore 0)."""
    bench = HostBench()
    bench.interface(OTHER_MAC, "10.8.0.1/24")
    bench.receive(arp(1, PEER_MAC, PEER, bytes(6), bytes([10, 8, 0, 1])))
    assert bench.frames() == [arp(2, MAC, bytes([10, 8, 0, 1]), PEER_MAC, PEER, dst=PEER_MAC)]


@pytest.mark.parametrize(
    "target", [bytes([10, 9, 0, 3]), bytes([10, 9, 0, 255]), bytes([224, 0, 0, 1]), bytes([127, 0, 0, 1])]
)
def test_a_request_for_another_address_is_left_alone(target: bytes) -> None:
    bench = HostBench()
    bench.receive(arp(1, PEER_MAC, PEER, bytes(6), target))
    assert bench.frames() == []
    assert neighbours(bench) == []


def test_a_probe_for_an_own_address_is_answered_and_counts_as_a_conflict() -> None:
    """RFC 5227 section 2.1.1: the prober has no address yet and asks as 0.0.0.0."""
    bench = HostBench()
    bench.receive(arp(1, PEER_MAC, bytes(4), bytes(6), OWN))
    assert bench.frames() == [arp(2, MAC, OWN, PEER_MAC, bytes(4), dst=PEER_MAC)]
    assert bench.stack.ip.neighbours.conflicts == 1
    assert neighbours(bench) == []


@pytest.mark.parametrize("operation", [1, 2])
def test_another_station_with_an_own_address_is_counted_and_not_heeded(operation: int) -> None:
    bench = HostBench()
    bench.receive(arp(operation, PEER_MAC, OWN, bytes(6), OWN))
    assert bench.stack.ip.neighbours.conflicts == 1
    assert bench.frames() == []
    assert neighbours(bench) == []


def test_a_packet_waits_until_its_neighbour_answers() -> None:
    bench = HostBench()
    assert bench.send("10.9.0.2", b"abc") == 0
    assert bench.frames() == [arp(1, MAC, OWN, bytes(6), PEER)]
    bench.receive(arp(2, PEER_MAC, PEER, MAC, OWN, dst=MAC))
    (frame,) = bench.frames()
    assert frame[:14] == PEER_MAC + MAC + b"\x08\x00"
    assert frame[26:] == OWN + PEER + b"abc"
    assert neighbours(bench) == ["10.9.0.2 dev eth0 lladdr 02:00:00:00:00:02 REACHABLE"]


def test_packets_that_waited_go_in_the_order_they_were_sent_in() -> None:
    bench = HostBench()
    for number in range(5):
        bench.send("10.9.0.2", bytes([number]) * 1400, split=1000)
    bench.taken()
    bench.receive(arp(2, PEER_MAC, PEER, MAC, OWN, dst=MAC))
    assert [frame[34:] for frame in bench.frames()] == [bytes([number]) * 1400 for number in range(5)]


def test_an_answer_that_nobody_asked_for_makes_no_entry() -> None:
    bench = HostBench()
    bench.receive(arp(2, PEER_MAC, PEER, MAC, OWN, dst=MAC))
    bench.receive(arp(1, PEER_MAC, PEER, bytes(6), PEER))
    assert neighbours(bench) == []


def test_another_station_is_believed_a_second_later_or_when_it_tells_everybody() -> None:
    """Linux's locktime: of several answers to one question the first counts."""
    bench = HostBench()
    bench.send("10.9.0.2")
    bench.receive(arp(2, PEER_MAC, PEER, MAC, OWN, dst=MAC))
    bench.receive(arp(2, OTHER_MAC, PEER, MAC, OWN, dst=MAC))
    assert "02:00:00:00:00:02" in neighbours(bench)[0]
    bench.run(1.1)
    bench.receive(arp(2, OTHER_MAC, PEER, MAC, OWN, dst=MAC))
    assert neighbours(bench) == ["10.9.0.2 dev eth0 lladdr 02:00:00:00:00:03 REACHABLE"]
    bench.receive(arp(1, PEER_MAC, PEER, bytes(6), PEER))
    assert neighbours(bench) == ["10.9.0.2 dev eth0 lladdr 02:00:00:00:00:02 STALE"]


def test_an_announcement_is_a_request_for_ones_own_address_to_everybody() -> None:
    """RFC 5227 section 2.3."""
    bench = HostBench()
    bench.stack.ip.announce(bench.eth0)
    assert bench.frames() == [arp(1, MAC, OWN, bytes(6), OWN)]


def test_a_neighbour_for_good_is_not_asked_for_and_not_changed() -> None:
    bench = HostBench()
    bench.know()
    bench.send("10.9.0.2")
    bench.run(100)
    bench.receive(arp(2, OTHER_MAC, PEER, MAC, OWN, dst=MAC))
    bench.stack.ip.flush_neighbours()
    bench.send("10.9.0.2")
    assert [frame[:6] for frame in bench.frames()] == [PEER_MAC] * 2
    assert neighbours(bench) == ["10.9.0.2 dev eth0 lladdr 02:00:00:00:00:02 PERMANENT"]
    assert bench.now == 100 * SECOND
