"""UDP and ping sockets on top of IPv4 and Ethernet: whole frames, held against scapy's."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, UDP, UDPerror, defragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netemu.stack.addresses import ANY, halves_of
from netemu.stack.host import (
    ERROR_PORT_UNREACHABLE,
    OFFLOAD_CSUM,
    SEND_DROPPED,
    SEND_TOO_BIG,
    SEND_UNREACHABLE,
    SENT,
)
from tests.host_kit import MAC, PEER_MAC, HostBench
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")

ME, PEER = "10.9.0.1", "10.9.0.2"


def bench(**how: object) -> HostBench:
    host = HostBench(**how)  # type: ignore[arg-type]
    host.know()
    return host


def from_peer(packet: IP) -> bytes:
    return bytes(Ether(src=PEER_MAC.hex(":"), dst=MAC.hex(":")) / packet)


def rebuilt(frame: bytes) -> bytes:
    """The frame with all lengths and checksums made anew by scapy."""
    packet = Ether(frame)
    for layer in (IP, UDP, ICMP):
        if layer in packet:
            for name in ("len", "chksum"):
                if name in packet[layer].fields:
                    del packet[layer].fields[name]
    return bytes(packet)


def test_a_datagram_is_a_frame_that_scapy_finds_in_order() -> None:
    host = bench()
    socket = host.stack.udp.open(port=1000)
    assert socket.send(b"payload", halves_of(PEER), 2000) == SENT
    (frame,) = host.frames()
    assert rebuilt(frame) == frame
    packet = Ether(frame)
    assert (packet.src, packet.dst) == (MAC.hex(":"), PEER_MAC.hex(":"))
    assert (packet[IP].src, packet[IP].dst, packet[IP].flags) == (ME, PEER, 0)
    assert (packet[UDP].sport, packet[UDP].dport, bytes(packet[UDP].payload)) == (1000, 2000, b"payload")


def test_a_checksum_that_comes_to_nothing_is_sent_as_all_ones() -> None:
    """RFC 768: a checksum of zero would say that there is none."""
    host = bench()
    socket = host.stack.udp.open(port=1000)
    sum_without = IP(bytes(IP(src=ME, dst=PEER) / UDP(sport=1000, dport=2000) / Raw(bytes(2))))[UDP].chksum
    data = sum_without.to_bytes(2, "big")  # what is still missing to all ones
    socket.send(data, halves_of(PEER), 2000)
    assert Ether(host.frames()[0])[UDP].chksum == 0xFFFF


def test_a_device_that_finishes_checksums_is_told_where() -> None:
    host = bench(offloads=OFFLOAD_CSUM)
    host.stack.udp.open(port=1000).send(b"x", halves_of(PEER), 2000)
    (sent,) = host.taken()
    assert (sent.partial, sent.start, sent.offset) == (1, 34, 6)


def test_a_long_datagram_goes_in_fragments_with_its_checksum_made() -> None:
    host = bench(offloads=OFFLOAD_CSUM)
    data = bytes(range(256)) * 20
    assert host.stack.udp.open(port=1000).send(data, halves_of(PEER), 2000) == SENT
    sent = host.taken()
    assert len(sent) == 4
    assert {one.partial for one in sent} == {0}
    pieces = defragment([Ether(one.data)[IP] for one in sent])  # type: ignore[no-untyped-call]
    (whole,) = [packet for packet in pieces if UDP in packet]
    assert bytes(whole[UDP].payload) == data
    checksum = whole[UDP].chksum
    del whole[UDP].chksum, whole[IP].chksum, whole[IP].len
    assert IP(bytes(whole))[UDP].chksum == checksum


def test_who_must_not_cut_is_told_that_it_is_too_long() -> None:
    host = bench()
    socket = host.stack.udp.open(port=1000)
    socket.struct.dont_fragment = 1
    assert socket.send(bytes(1472), halves_of(PEER), 2000) == SENT
    assert socket.send(bytes(1473), halves_of(PEER), 2000) == SEND_TOO_BIG
    (frame,) = host.frames()
    assert Ether(frame)[IP].flags == "DF"


def test_no_route_and_no_room() -> None:
    host = bench()
    socket = host.stack.udp.open()
    assert socket.send(b"x", halves_of("192.0.2.1"), 9) == SEND_UNREACHABLE
    assert socket.connect(halves_of("192.0.2.1"), 9) == SEND_UNREACHABLE
    host.full = True
    assert socket.send(b"x", halves_of(PEER), 9) == SEND_DROPPED
    assert host.moved()["UdpSndbufErrors"] == 1


def test_connecting_takes_the_address_of_the_interface() -> None:
    host = bench()
    socket = host.stack.udp.open(ANY, 9)
    assert socket.connect(halves_of(PEER), 53) == SENT
    assert socket.local == (halves_of(ME), 9)


def test_a_datagram_to_a_closed_port_is_answered_with_port_unreachable() -> None:
    """RFC 1122 section 4.1.3.1, RFC 792: type 3, code 3, with the datagram's header quoted."""
    host = bench()
    host.run(1)  # complaints are limited in number from the beginning
    host.receive(from_peer(IP(src=PEER, dst=ME) / UDP(sport=4000, dport=5000) / Raw(b"x")))
    (frame,) = host.frames()
    packet = Ether(frame)
    assert rebuilt(frame) == frame
    assert (packet[IP].dst, packet[ICMP].type, packet[ICMP].code) == (PEER, 3, 3)
    assert (packet[UDPerror].sport, packet[UDPerror].dport) == (4000, 5000)
    assert host.moved()["UdpNoPorts"] == 1


def test_an_open_port_receives_and_nobody_complains() -> None:
    host = bench()
    socket = host.stack.udp.open(port=5000)
    host.receive(from_peer(IP(src=PEER, dst=ME) / UDP(sport=4000, dport=5000) / Raw(b"data")), pieces=(3,), linear=30)
    received = socket.receive()
    assert received is not None
    assert (received.data, received.source, received.port) == (b"data", halves_of(PEER), 4000)
    assert host.frames() == []


def test_port_unreachable_reaches_the_connected_socket() -> None:
    host = bench()
    socket = host.stack.udp.open(port=5000)
    socket.connect(halves_of(PEER), 53)
    socket.send(b"query", halves_of(PEER), 53)
    sent = Ether(host.frames()[0])[IP]
    host.receive(from_peer(IP(src=PEER, dst=ME) / ICMP(type=3, code=3) / bytes(sent)))
    assert socket.take_error()[0] == ERROR_PORT_UNREACHABLE


def test_an_echo_request_and_its_reply() -> None:
    host = bench()
    socket = host.stack.ping.open()
    assert socket.send(halves_of(PEER), 1, b"ping") == SENT
    (frame,) = host.frames()
    assert rebuilt(frame) == frame
    request = Ether(frame)[ICMP]
    assert (request.type, request.id, request.seq, bytes(request.payload)) == (8, socket.identifier, 1, b"ping")
    host.receive(from_peer(IP(src=PEER, dst=ME) / ICMP(type=0, id=request.id, seq=1) / Raw(b"ping")))
    received = socket.receive()
    assert received is not None
    assert (received.data, received.port) == (b"ping", 1)
    moved = host.moved()
    assert (moved["IcmpOutEchos"], moved["IcmpOutMsgs"], moved["IcmpInEchoReps"]) == (1, 1, 1)
