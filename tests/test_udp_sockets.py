"""UDP sockets: which one a datagram is for, what is sent, what is counted. Judged by scapy's packets."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from netemu.errors import ConfigError
from netemu.jit import hook
from netemu.stack.addresses import ANY, halves_of
from netemu.stack.host import (
    ERROR_PORT_UNREACHABLE,
    ERROR_TOO_BIG,
    SEND_DROPPED,
    SEND_TOO_BIG,
    SEND_UNREACHABLE,
    SENT,
    is_ready,
)
from netemu.stack.messages.datagram import RECORD
from netemu.stack.messages.socket import MessageSocket, Received
from netemu.stack.reasons import StackReason
from netemu.stack.udp.sockets import EPHEMERAL
from tests.message_kit import MessageHost, packet_of
from tests.plain import plain_entries

__all__ = ["plain_entries"]

pytestmark = pytest.mark.usefixtures("plain_entries")

ME, PEER, ME6, PEER6 = "10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"


def datagram(sport: int, dport: int, data: bytes = b"x", src: str = PEER, dst: str = ME) -> IP | IPv6:
    ip = IPv6 if ":" in dst else IP
    return ip(src=src, dst=dst) / UDP(sport=sport, dport=dport) / Raw(data)


# Receiving.


@pytest.mark.parametrize(("mine", "peer", "version"), [(ME, PEER, 4), (ME6, PEER6, 6)])
def test_a_datagram_is_received_with_all_that_is_known_of_it(mine: str, peer: str, version: int) -> None:
    host = MessageHost()
    host.timers.run_until(12_345)
    socket = host.udp.open(port=53)
    assert host.deliver(datagram(4000, 53, b"hello", peer, mine)) == StackReason.NOT_DROPPED_YET
    assert socket.receive() == Received(b"hello", halves_of(peer), 4000, 12_345, halves_of(mine), 64)
    assert socket.receive() is None
    snmp = host.stack.snmp()
    assert snmp["UdpInDatagrams" if version == 4 else "Udp6InDatagrams"] == 1


def test_a_datagram_in_any_number_of_pieces_is_received_whole() -> None:
    host = MessageHost()
    socket = host.udp.open(port=53)
    data = bytes(range(256)) * 4
    host.deliver(datagram(1, 53, data), pieces=(7, 1, 300), linear=14)
    received = socket.receive()
    assert received is not None
    assert received.data == data


def test_an_empty_datagram_is_a_message() -> None:
    host = MessageHost()
    socket = host.udp.open(port=53)
    host.deliver(IP(src=PEER, dst=ME) / UDP(sport=7, dport=53))
    received = socket.receive()
    assert received is not None
    assert received.data == b""


@pytest.mark.parametrize(
    ("mine", "peer", "complaint", "counter"),
    [(ME, PEER, (3, 3, 0), "UdpNoPorts"), (ME6, PEER6, (1, 4, 0), "Udp6NoPorts")],
)
def test_a_port_without_a_socket_is_unreachable_and_counted(
    mine: str, peer: str, complaint: tuple[int, int, int], counter: str
) -> None:
    """RFC 1122 section 4.1.3.1, RFC 4443 section 3.1: port unreachable is type 3 code 3 of ICMP, 1 and 4 of ICMPv6."""
    host = MessageHost()
    host.udp.open(port=54)
    assert host.deliver(datagram(4000, 53, src=peer, dst=mine)) == StackReason.NO_SOCKET
    assert host.complaints == [complaint]
    assert host.stack.snmp()[counter] == 1


def test_a_broadcast_that_nobody_takes_is_no_error() -> None:
    """RFC 1122 section 3.2.2: no ICMP error answers a broadcast."""
    host = MessageHost()
    assert host.deliver(datagram(4000, 53, dst="255.255.255.255")) == StackReason.NO_SOCKET
    assert host.complaints == []
    assert host.stack.snmp()["UdpIgnoredMulti"] == 1


def test_a_broadcast_goes_to_every_socket_of_the_port() -> None:
    host = MessageHost()
    of_any, of_peer = host.udp.open(port=67, family=4), host.udp.open(halves_of("10.9.9.9"), 67 + 256)
    host.deliver(datagram(68, 67, b"all", dst="255.255.255.255"))
    assert [socket.receive() is not None for socket in (of_any, of_peer)] == [True, False]
    assert host.stack.snmp()["UdpInDatagrams"] == 1


def test_the_socket_that_is_set_on_most_has_the_datagram() -> None:
    """udp(7) and compute_score: a connected socket goes before one bound to the address, that before one for any."""
    host = MessageHost()
    of_other = host.udp.open(halves_of("10.0.0.9"), 53)
    bound = host.udp.open(halves_of(ME), 53)
    six = host.udp.open(port=53, family=6)
    host.deliver(datagram(4000, 53, b"1"))
    assert bound.receive() is not None
    assert bound.connect(halves_of(PEER), 4000) == SENT
    host.deliver(datagram(4000, 53, b"2"))
    assert bound.receive() is not None
    assert host.deliver(datagram(4001, 53, b"3")) == StackReason.NO_SOCKET
    host.deliver(datagram(4001, 53, b"4", PEER6, ME6))
    assert six.receive() is not None
    assert of_other.receive() is None


def test_sockets_whose_ports_share_a_bucket_keep_their_datagrams_apart() -> None:
    host = MessageHost()
    sockets = {port: host.udp.open(port=port) for port in (10, 10 + 256, 10 + 512)}
    for port in sockets:
        host.deliver(datagram(1, port, str(port).encode()))
    sockets[266].close()
    assert host.deliver(datagram(1, 266)) == StackReason.NO_SOCKET
    for port, socket in sockets.items():
        received = socket.receive()
        assert received is not None
        assert received.data == str(port).encode()


def test_a_full_queue_drops_and_counts() -> None:
    """SO_RCVBUF, socket(7): RcvbufErrors and InErrors move, as in Linux's __udp_queue_rcv_skb."""
    host = MessageHost()
    socket = host.udp.open(port=53, rcvbuf=3 * (RECORD + 1000))
    verdicts = [host.deliver(datagram(1, 53, bytes(1000))) for _ in range(6)]
    assert verdicts == [StackReason.NOT_DROPPED_YET] * 4 + [StackReason.SOCKET_RCVBUFF] * 2
    snmp = host.stack.snmp()
    assert (snmp["UdpInDatagrams"], snmp["UdpRcvbufErrors"], snmp["UdpInErrors"]) == (4, 2, 2)
    assert (socket.struct.received, socket.struct.dropped) == (4, 2)
    while socket.receive() is not None:
        pass
    assert host.deliver(datagram(1, 53, bytes(1000))) == StackReason.NOT_DROPPED_YET


@given(st.lists(st.one_of(st.integers(0, 1400), st.none()), max_size=120))
def test_messages_come_out_as_they_went_in(sizes: list[int | None]) -> None:
    """A number is a datagram of that many bytes, None reads one; a queue of little room begins anew all the time."""
    host = MessageHost()
    socket = host.udp.open(port=53, rcvbuf=2000)
    socket.struct.room = 8192
    waiting: deque[bytes] = deque()
    for number, size in enumerate(sizes):
        if size is None:
            received = socket.receive()
            assert (received.data if received else None) == (waiting.popleft() if waiting else None)
            continue
        data = bytes([number & 0xFF]) * size
        if host.deliver(datagram(1, 53, data)) == StackReason.NOT_DROPPED_YET:
            waiting.append(data)
    while waiting:
        received = socket.receive()
        assert received is not None
        assert received.data == waiting.popleft()
    assert socket.receive() is None


def test_a_socket_is_ready_once_each_time_it_is_asked_for() -> None:
    host = MessageHost()
    socket = host.udp.open(port=53, handle=77)
    host.deliver(datagram(1, 53))
    assert host.ready.take() == []
    socket.struct.wanted = 1
    host.deliver(datagram(1, 53))
    host.deliver(datagram(1, 53))
    assert host.ready.take() == [77]
    assert socket.struct.wanted == 0


def test_an_app_gets_messages_in_place_of_the_queue() -> None:
    host = MessageHost()
    socket = host.udp.open(port=53, handle=5)
    calls: list[tuple[int, int]] = []

    def app(on: int, of: int) -> int:
        calls.append((on, of))
        return 0

    socket.struct.app = hook(app)
    socket.struct.wanted = 1
    host.deliver(datagram(1, 53))
    assert calls == [(host.host.address, socket.address)]
    assert socket.receive() is None
    assert host.ready.take() == []


# Sending.


@pytest.mark.parametrize(("mine", "peer"), [(ME, PEER), (ME6, PEER6)])
def test_a_datagram_that_is_sent_is_what_scapy_would_have_sent(mine: str, peer: str) -> None:
    host = MessageHost()
    socket = host.udp.open(port=5353)
    socket.struct.hop_limit = 9
    assert socket.send(b"some data", halves_of(peer), 53) == SENT
    (sent,) = host.sent
    packet = packet_of(sent)
    wanted = datagram(5353, 53, b"some data", mine, peer)
    if isinstance(wanted, IP):
        wanted.ttl = 9
    else:
        wanted.hlim = 9
    assert bytes(packet) == bytes(wanted)
    assert sent.check == 6


def test_counters_of_sending_are_those_of_linux() -> None:
    """udp_send_skb: what the device had no room for is SndbufErrors, what went is OutDatagrams."""
    host = MessageHost()
    socket = host.udp.open()
    for answer in (SENT, SEND_DROPPED, SEND_UNREACHABLE, SEND_TOO_BIG):
        host.answer = answer
        assert socket.send(b"x", halves_of(PEER), 9) == answer
    snmp = host.stack.snmp()
    assert (snmp["UdpOutDatagrams"], snmp["UdpSndbufErrors"]) == (1, 1)
    assert socket.struct.sent == 1


@pytest.mark.parametrize(("peer", "longest"), [(PEER, 65_507), (PEER6, 65_527)])
def test_a_datagram_is_no_longer_than_ip_allows(peer: str, longest: int) -> None:
    host = MessageHost()
    socket = host.udp.open()
    assert socket.send(bytes(longest), halves_of(peer), 9) == SENT
    assert socket.send(bytes(longest + 1), halves_of(peer), 9) == SEND_TOO_BIG
    assert len(host.sent) == 1


# Binding and connecting.


def test_a_socket_that_asks_for_no_port_gets_a_free_one_and_the_same_seed_the_same() -> None:
    ports = [[host.udp.open().local[1] for _ in range(50)] for host in (MessageHost(), MessageHost())]
    assert ports[0] == ports[1]
    assert len(set(ports[0])) == 50
    assert all(port in EPHEMERAL for port in ports[0])


def test_a_port_is_taken_once() -> None:
    host = MessageHost()
    first = host.udp.open(halves_of(ME), 53)
    host.udp.open(halves_of("10.0.0.7"), 53)
    host.udp.open(port=53, family=6)
    for address, family in ((ME, 0), ("0.0.0.0", 4)):
        with pytest.raises(ConfigError, match="port 53 is in use"):
            host.udp.open(halves_of(address), 53, family=family)
    first.close()
    first.close()
    host.udp.open(halves_of(ME), 53)


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_is_a_number_of_16_bits(port: int) -> None:
    with pytest.raises(ConfigError, match="from 0 to 65535"):
        MessageHost().udp.open(port=port)


def test_connecting_binds_to_the_address_that_routes_choose() -> None:
    host = MessageHost()
    socket = host.udp.open(port=9)
    assert socket.remote is None
    assert socket.connect(halves_of(PEER), 53) == SENT
    assert socket.local == (halves_of(ME), 9)
    assert socket.remote == (halves_of(PEER), 53)


def test_connecting_to_where_no_route_leads_changes_nothing() -> None:
    host = MessageHost()
    host.answer = SEND_UNREACHABLE
    socket = host.udp.open(port=9)
    assert socket.connect(halves_of(PEER), 53) == SEND_UNREACHABLE
    assert socket.local == (ANY, 9)
    assert socket.remote is None


# Errors that ICMP tells of.


@pytest.mark.parametrize("peer", [PEER, PEER6])
def test_a_connected_socket_hears_that_its_peer_has_no_such_port(peer: str) -> None:
    """RFC 1122 section 4.1.3.3: ICMP errors are passed up to the application."""
    host = MessageHost()
    socket = host.udp.open(handle=3)
    socket.connect(halves_of(peer), 53)
    socket.struct.wanted = 1
    socket.send(b"x", halves_of(peer), 53)
    assert host.quote(host.sent[0], ERROR_PORT_UNREACHABLE) == 1
    assert host.ready.take() == [3]
    assert socket.take_error() == (ERROR_PORT_UNREACHABLE, 0)
    assert socket.take_error()[0] == 0


def test_a_socket_that_is_not_connected_hears_nothing() -> None:
    """udp(7): such a socket would have to ask for errors with IP_RECVERR."""
    host = MessageHost()
    socket = host.udp.open()
    socket.send(b"x", halves_of(PEER), 53)
    assert host.quote(host.sent[0], ERROR_PORT_UNREACHABLE) == 1
    assert socket.take_error()[0] == 0


def test_an_error_about_somebody_elses_datagram_is_nobodys() -> None:
    host = MessageHost()
    socket = host.udp.open()
    socket.connect(halves_of(PEER), 53)
    socket.send(b"x", halves_of(PEER), 53)
    forged = host.sent[0]._replace(target=halves_of("10.0.0.99"))
    assert host.quote(forged, ERROR_PORT_UNREACHABLE) == 0
    assert socket.take_error()[0] == 0


@pytest.mark.parametrize("whole", [0, 1])
def test_who_must_not_cut_hears_of_the_paths_mtu(whole: int) -> None:
    host = MessageHost()
    socket = host.udp.open()
    socket.connect(halves_of(PEER), 53)
    socket.struct.dont_fragment = whole
    socket.send(b"x", halves_of(PEER), 53)
    host.quote(host.sent[0], ERROR_TOO_BIG, 1400)
    assert host.sent[0].dont_fragment == whole
    assert socket.take_error() == ((ERROR_TOO_BIG, 1400) if whole else (0, 0))


def test_a_full_ready_list_writes_nowhere_else() -> None:
    host = MessageHost()
    for number in range(100):
        is_ready(host.ready.struct.address, number)
    assert host.ready.take() == list(range(64))


def test_any_message_socket_begins_empty() -> None:
    socket = MessageSocket(0)
    assert socket.receive() is None
    assert socket.take_error() == (0, 0)
