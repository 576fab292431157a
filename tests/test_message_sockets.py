"""Ping and raw sockets: what they send is judged by scapy, what they get is made by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netemu.errors import ConfigError
from netemu.jit import call3
from netemu.stack.addresses import halves_are_ipv4, halves_of, halves_text
from netemu.stack.host import ERROR_HOST_UNREACHABLE, SEND_DROPPED, SEND_TOO_BIG, SENT
from tests.message_kit import MAC, PEER_MAC, MessageHost, packet_of
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")

ME, PEER, ME6, PEER6 = "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"


def reply(host: MessageHost, packet: IP | IPv6, header: int) -> int:
    """An echo reply comes in that the layer below found in order."""
    host.host.skb = host.kit.build(bytes(Ether(src=PEER_MAC, dst=MAC) / packet)).address
    return call3(host.host.ping_input, host.host.address, 14 + header, len(bytes(packet)) - header)


# Ping.


@pytest.mark.parametrize("payload", [b"", b"a", b"abcdefgh" * 7])
def test_an_echo_request_is_what_scapy_would_have_sent(payload: bytes) -> None:
    """RFC 792: type 8, identifier, sequence number, and a checksum over all of the message."""
    host = MessageHost()
    socket = host.ping.open()
    assert socket.send(halves_of(PEER), 513, payload) == SENT
    wanted = IP(src=ME, dst=PEER) / ICMP(type=8, id=socket.identifier, seq=513) / Raw(payload)
    assert bytes(packet_of(host.sent[0])) == bytes(wanted)
    assert host.sent[0].check == -1


def test_an_echo_request_of_icmpv6_leaves_its_checksum_to_the_layer_below() -> None:
    """RFC 4443 section 2.3: the pseudo-header goes into it."""
    host = MessageHost()
    socket = host.ping.open()
    assert socket.send(halves_of(PEER6), 7, b"odd") == SENT
    wanted = IPv6(src=ME6, dst=PEER6) / ICMPv6EchoRequest(id=socket.identifier, seq=7, data=b"odd")
    assert bytes(packet_of(host.sent[0])) == bytes(wanted)
    assert host.sent[0].check == 2


def test_replies_find_their_socket_by_identifier() -> None:
    host = MessageHost()
    one, other = host.ping.open(handle=1), host.ping.open(handle=2)
    assert one.identifier != other.identifier
    other.struct.wanted = 1
    host.timers.run_until(99)
    answer = IP(src=PEER, dst=ME, ttl=61) / ICMP(type=0, id=other.identifier, seq=4) / Raw(b"back")
    assert reply(host, answer, 20) == 1
    assert one.receive() is None
    received = other.receive()
    assert received is not None
    assert (received.data, received.source, received.port) == (b"back", halves_of(PEER), 4)
    assert (received.time, received.extra) == (99, 61)
    assert host.ready.take() == [2]


def test_a_reply_of_icmpv6_carries_its_hop_limit() -> None:
    host = MessageHost()
    socket = host.ping.open()
    answer = IPv6(src=PEER6, dst=ME6, hlim=5) / ICMPv6EchoReply(id=socket.identifier, seq=9, data=b"six")
    assert reply(host, answer, 40) == 1
    received = socket.receive()
    assert received is not None
    assert (received.data, received.source, received.port, received.extra) == (b"six", halves_of(PEER6), 9, 5)


def test_a_reply_to_nobody_is_nobodys() -> None:
    host = MessageHost()
    socket = host.ping.open()
    stranger = IP(src=PEER, dst=ME) / ICMP(type=0, id=socket.identifier ^ 1, seq=1)
    assert reply(host, stranger, 20) == 0
    mine = IP(src=PEER, dst=ME) / ICMP(type=0, id=socket.identifier, seq=1)
    socket.close()
    assert reply(host, mine, 20) == 0


def test_an_error_names_the_request_it_is_about() -> None:
    host = MessageHost()
    socket = host.ping.open(handle=8)
    socket.struct.wanted = 1
    socket.send(halves_of(PEER), 300, b"")
    assert host.quote(host.sent[0], ERROR_HOST_UNREACHABLE, protocol_hook="ping_error") == 1
    assert host.ready.take() == [8]
    assert socket.take_error() == (ERROR_HOST_UNREACHABLE, 300)


def test_an_error_about_what_was_no_request_is_nobodys() -> None:
    host = MessageHost()
    socket = host.ping.open()
    socket.send(halves_of(PEER), 300, b"")
    answer = host.sent[0]._replace(data=b"\0" + host.sent[0].data[1:])
    assert host.quote(answer, ERROR_HOST_UNREACHABLE, protocol_hook="ping_error") == 0
    assert socket.take_error()[0] == 0


def test_an_echo_request_has_a_size_that_ip_allows() -> None:
    host = MessageHost()
    socket = host.ping.open()
    assert socket.send(halves_of(PEER), 1, bytes(65_507)) == SENT
    assert socket.send(halves_of(PEER), 1, bytes(65_508)) == SEND_TOO_BIG


# Raw.


def test_a_frame_goes_out_as_it_is() -> None:
    host = MessageHost()
    socket = host.raw.open(host.interface)
    frame = bytes(Ether(src=MAC, dst=PEER_MAC, type=0x88B5) / Raw(b"anything"))
    assert socket.send(frame) == SENT
    assert host.frames == [frame]
    assert socket.struct.sent == 1


def test_a_frame_is_neither_too_short_nor_too_long() -> None:
    host = MessageHost()
    socket = host.raw.open(host.interface)
    with pytest.raises(ConfigError, match="13 bytes has no Ethernet header"):
        socket.send(bytes(13))
    assert socket.send(bytes(14)) == SENT
    assert socket.send(bytes(1522)) == SENT
    assert socket.send(bytes(1523)) == SEND_TOO_BIG
    host.interface.up = 0
    assert socket.send(bytes(60)) == SEND_DROPPED


def test_raw_sockets_see_every_frame_and_the_protocols_do_too() -> None:
    host = MessageHost()
    first, second = host.raw.open(host.interface), host.raw.open(host.interface)
    udp = host.udp.open(port=53)
    frame = bytes(Ether(src=PEER_MAC, dst=MAC) / IP(src=PEER, dst=ME) / b"\x10\x00\x00\x35\x00\x09\x00\x00x")
    frame = frame[:23] + b"\x11" + frame[24:]  # UDP
    packet = Ether(frame)
    del packet[IP].chksum
    frame = bytes(packet)
    host.deliver_frame(frame, pieces=(3, 9), linear=20)
    unknown = bytes(Ether(src=PEER_MAC, dst="02:00:00:00:00:99", type=0x88B5) / Raw(b"for somebody else"))
    host.deliver_frame(unknown)
    for socket in (first, second):
        received = [socket.receive(), socket.receive(), socket.receive()]
        assert [one.data if one else None for one in received] == [frame, unknown, None]
        assert received[0] is not None
        assert received[0].extra == 1
    assert udp.receive() is not None


def test_without_a_raw_socket_frames_are_not_copied() -> None:
    host = MessageHost()
    socket = host.raw.open(host.interface)
    assert host.host.raw_input != 0
    socket.close()
    assert host.host.raw_input == 0
    host.deliver_frame(bytes(Ether(dst=MAC, type=0x88B5) / Raw(b"x")))
    assert socket.receive() is None


# Addresses.


@given(st.ip_addresses())
def test_an_address_is_read_and_written_back(address: object) -> None:
    text = str(address)
    if text in ("0.0.0.0", "::") or getattr(address, "ipv4_mapped", None) is not None:
        return
    assert halves_text(*halves_of(text)) == text
    assert halves_are_ipv4(halves_of(text)) == (":" not in text)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"10\.0\.0 is no IP address"):
        halves_of("10.0.0")
