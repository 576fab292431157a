"""ARP of a host that talks: asked, answered, heeded (RFC 826, RFC 5227), byte by byte."""

from __future__ import annotations

from netemu.jit import call2
from netemu.stack.host import mapped
from netemu.stack.packet import packet_at, start_packet
from tests import wire
from tests.host_kit import MAC, PEER_MAC, HostBench

OWN, PEER = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])


def arp(
    operation: int, sender_mac: bytes, sender: bytes, target_mac: bytes, target: bytes, dst: bytes = wire.EVERYONE
) -> bytes:
    head = bytes.fromhex("0001 0800 06 04") + operation.to_bytes(2, "big")
    return dst + sender_mac + b"\x08\x06" + head + sender_mac + sender + target_mac + target


def send_udp(bench: HostBench, target: int) -> int:
    packet = bench.host.packet
    start_packet(packet, 17, 8)
    packet_at(packet).target_hi, packet_at(packet).target_lo = 0, mapped(target)
    return call2(bench.host.send, bench.host.address, packet)


def test_a_request_for_an_own_address_is_answered_to_who_asked() -> None:
    bench = HostBench()
    bench.receive(arp(1, PEER_MAC, PEER, bytes(6), OWN))
    assert bench.frames() == [arp(2, MAC, OWN, PEER_MAC, PEER, dst=PEER_MAC)]
    assert [str(n) for n in bench.stack.ip.neighbour_list()] == ["10.9.0.2 dev eth0 lladdr 02:00:00:00:00:02 STALE"]


def test_a_request_for_another_address_is_left_alone() -> None:
    bench = HostBench()
    bench.receive(arp(1, PEER_MAC, PEER, bytes(6), bytes([10, 9, 0, 3])))
    assert bench.frames() == []
    assert bench.stack.ip.neighbour_list() == []


def test_a_packet_waits_until_its_neighbour_answers() -> None:
    bench = HostBench()
    assert send_udp(bench, 0x0A090002) == 0
    assert bench.frames() == [arp(1, MAC, OWN, bytes(6), PEER)]
    bench.receive(arp(2, PEER_MAC, PEER, MAC, OWN, dst=MAC))
    (frame,) = bench.frames()
    assert frame[:14] == PEER_MAC + MAC + b"\x08\x00"
    assert frame[26:34] == OWN + PEER
    assert [n.state for n in bench.stack.ip.neighbour_list()] == ["reachable"]
