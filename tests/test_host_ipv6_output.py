"""Packets of IPv6 on their way down: header, flow label, checksum and offload, fragments at the source, routes."""

from __future__ import annotations

import ipaddress
import itertools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import ConfigError
from netemu.jit import Buffer, allocate, call2, store16be
from netemu.stack.addresses import from_halves, halves
from netemu.stack.host import (
    OFFLOAD_CSUM,
    OFFLOAD_TSO6,
    SEND_DROPPED,
    SEND_TOO_BIG,
    SEND_UNREACHABLE,
    SENT,
)
from netemu.stack.packet import PacketBuffer, start_packet
from netemu.stack.routes import learn_mtu
from netemu.stack.state import MULTICAST
from tests import wire
from tests.host_kit import PEER_MAC
from tests.ipv6_kit import HOST, HOST_LINK, PEER, PEER_LINK, SixBench, packed, seen
from tests.wire import TCP, UDP, internet_checksum, pseudo


class Sender:
    """A transport protocol in the making: headers by struct, payload in a buffer of its own, in one piece or two."""

    def __init__(self, bench: SixBench) -> None:
        self.bench = bench
        self.packet = PacketBuffer()
        self._kept: list[Buffer] = []

    def _keep(self, data: bytes) -> int:
        block = allocate(len(data) + 1, align=1)
        block.array[: len(data)] = bytearray(data)
        self._kept.append(block)
        return block.address

    def start(self, protocol: int, header: bytes, payload: bytes, target: str, *, split: int | None = None) -> None:
        at = start_packet(self.packet.address, protocol, len(header))
        for n in range(0, len(header), 2):
            store16be(at + n, int.from_bytes(header[n : n + 2], "big"))
        p = self.packet.struct
        split = len(payload) if split is None else split
        p.payload, p.payload_len = self._keep(payload[:split]), split
        p.more, p.more_len = self._keep(payload[split:]), len(payload) - split
        p.target_hi, p.target_lo = halves(ipaddress.IPv6Address(target))

    def udp(
        self, payload: bytes = b"hello", target: str = PEER, *, ports: tuple[int, int] = (4000, 9), **how: int
    ) -> int:
        """Send a datagram; what `Host.send` gives."""
        split = how.pop("split", None)
        self.start(UDP, struct.pack(">HHHH", *ports, 8 + len(payload) & 0xFFFF, 0), payload, target, split=split)
        p = self.packet.struct
        p.check = 6
        for name, value in how.items():
            setattr(p, name, value)
        return self.send()

    def tcp(self, payload: bytes, *, gso_size: int = 0, flags: int = 0x10, options: int = 0) -> int:
        header = struct.pack(">HHIIBBHHH", 4000, 80, 1, 1, (5 + options) << 4, flags, 1000, 0, 0) + bytes(4 * options)
        self.start(TCP, header, payload, PEER)
        p = self.packet.struct
        p.check, p.gso_size, p.dont_fragment = 16, gso_size, 1
        return self.send()

    def send(self) -> int:
        return call2(self.bench.host.send, self.bench.host.address, self.packet.address)

    def route(self) -> int:
        return call2(self.bench.host.route, self.bench.host.address, self.packet.address)


def ready(**how: int) -> tuple[SixBench, Sender]:
    """A host whose neighbour is known."""
    bench = SixBench(**how)  # type: ignore[arg-type]
    bench.know(PEER)
    return bench, Sender(bench)


class TestHeader:
    def test_a_datagram_by_hand(self) -> None:
        """RFC 8200 section 3, bit by bit; the checksum is `wire.internet_checksum`'s."""
        bench, sender = ready()
        assert sender.udp(traffic_class=0x22) == SENT
        (frame,) = bench.frames()
        assert frame[:14] == bytes.fromhex("020000000002 020000000001 86dd")
        assert frame[14] == 0x62
        assert frame[15] >> 4 == 2
        assert frame[18:22] == bytes.fromhex("000d 11 40")
        assert frame[22:54] == wire.pack_addresses(HOST, PEER)
        assert frame[54:] == wire.udp(addresses=packed(HOST) + packed(PEER))

    def test_a_checksum_of_zero_is_sent_as_all_ones(self) -> None:
        """RFC 8200 section 8.1. Found by trying all payloads of two bytes: one of them sums to zero."""
        bench, sender = ready()
        base = struct.pack(">HHHH", 4000, 9, 10, 0)
        total = internet_checksum(pseudo(packed(HOST) + packed(PEER), UDP, 10) + base)
        sender.udp(struct.pack(">H", total))
        assert bench.packets()[0].payload[6:8] == b"\xff\xff"

    @pytest.mark.parametrize("split", [0, 1, 2, 7, 8])
    def test_a_payload_in_two_pieces_sums_like_one(self, split: int) -> None:
        bench, sender = ready()
        sender.udp(b"\x01\x02\x03\x04\x05\x06\x07\x08", split=split)
        assert bench.packets()[0].checksum_right

    def test_hop_limits(self) -> None:
        bench, sender = ready()
        sender.udp()
        sender.udp(hop_limit=3)
        sender.udp(target="ff02::fb")
        assert [one.hop_limit for one in bench.packets()] == [64, 3, 1]

    def test_a_flow_keeps_its_label(self) -> None:
        """RFC 6437 section 3: the same for all packets of a flow, other flows have others, never 0, by the seed."""
        bench, sender = ready()
        labels = set()
        for port in range(4000, 4064):
            sender.udp(ports=(port, 9))
            sender.udp(b"more", ports=(port, 9))
            first, second = bench.packets()
            assert first.label == second.label != 0
            labels.add(first.label)
        assert len(labels) > 60
        other = SixBench()
        other.know(PEER)
        Sender(other).udp(ports=(4063, 9))
        assert other.packets()[0].label == first.label

    def test_groups_are_mapped_to_station_addresses(self) -> None:
        """RFC 2464 section 7."""
        bench, sender = ready()
        sender.udp(target="ff02::1:2")
        (one,) = bench.packets()
        assert (one.dst, one.source) == (bytes.fromhex("333300010002"), HOST_LINK)
        moved = bench.moved()
        assert moved["Ip6OutMcastPkts"] - SixBench().moved()["Ip6OutMcastPkts"] == 1

    def test_counters(self) -> None:
        bench, sender = ready()
        before = bench.moved()
        sender.udp()
        after = bench.moved()
        moved = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
        assert moved == {"Ip6OutRequests": 1, "Ip6OutTransmits": 1, "Ip6OutOctets": 53}


class TestOffload:
    def test_a_device_gets_the_sum_of_the_pseudo_header(self) -> None:
        bench, sender = ready(offloads=OFFLOAD_CSUM)
        sender.udp()
        (sent,) = bench.taken()
        assert (sent.partial, sent.start, sent.offset) == (1, 54, 6)
        expected = internet_checksum(pseudo(packed(HOST) + packed(PEER), UDP, 13)) ^ 0xFFFF
        assert sent.data[60:62] == struct.pack(">H", expected)

    def test_but_not_for_icmpv6(self) -> None:
        bench = SixBench(ready=False, offloads=OFFLOAD_CSUM)
        bench.run(3)
        sent = bench.taken()
        assert sent
        assert {one.partial for one in sent} == {0}

    def test_segments_are_left_to_the_device(self) -> None:
        bench, sender = ready(offloads=OFFLOAD_CSUM | OFFLOAD_TSO6)
        assert sender.tcp(bytes(5000), gso_size=1440) == SENT
        (sent,) = bench.taken()
        assert (sent.gso_size, sent.gso_type, sent.partial) == (1440, 4, 1)
        assert len(sent.data) == 54 + 20 + 5000
        assert sent.data[18:20] == struct.pack(">H", 5020)
        assert bench.moved()["Ip6OutTransmits"] - SixBench().moved()["Ip6OutTransmits"] == 4
        sender.tcp(bytes(5000), gso_size=1440, flags=0x90)
        assert bench.taken()[0].gso_type == 0x84
        sender.tcp(bytes(1440), gso_size=1440)
        assert bench.taken()[0].gso_size == 0

    @pytest.mark.parametrize("offloads", [0, OFFLOAD_CSUM])
    def test_segments_that_no_device_cuts_are_cut_here(self, offloads: int) -> None:
        bench, sender = ready(offloads=offloads)
        before = bench.moved()["Ip6OutTransmits"]
        payload = bytes(n * 7 & 0xFF for n in range(3000))
        assert sender.tcp(payload, gso_size=1440, flags=0x19) == SENT
        sent = bench.taken()
        packets = [seen(one.data) for one in sent]
        assert b"".join(one.payload[20:] for one in packets) == payload
        assert [struct.unpack(">I", one.payload[4:8])[0] for one in packets] == [1, 1441, 2881]
        assert [one.payload[13] for one in packets] == [0x10, 0x10, 0x19]  # FIN and PSH stand in the last alone
        assert len({one.label for one in packets}) == 1
        assert {one.partial for one in sent} == {offloads}
        assert {one.checksum_right for one in packets} == {offloads == 0}
        assert bench.moved()["Ip6OutTransmits"] - before == 3

    def test_segments_over_the_paths_mtu_are_refused(self) -> None:
        bench, sender = ready(offloads=OFFLOAD_CSUM | OFFLOAD_TSO6)
        assert sender.tcp(bytes(5000), gso_size=1441) == SEND_TOO_BIG
        assert bench.frames() == []


def reassemble(frames: list[bytes]) -> tuple[int, bytes]:
    """Protocol and bytes of what fragments make, put together the slow way."""
    parts: dict[int, bytes] = {}
    protocols, identifications, total = set(), set(), None
    for frame in frames:
        one = seen(frame)
        assert one.next_header == 44
        protocol, reserved, place, identification = struct.unpack(">BBHI", one.payload[:8])
        assert reserved == place & 6 == 0
        protocols.add(protocol)
        identifications.add(identification)
        parts[place & ~7] = one.payload[8:]
        if place & 1 == 0:
            total = (place & ~7) + len(one.payload) - 8
        else:
            assert len(one.payload) % 8 == 0
    assert len(protocols) == len(identifications) == 1
    data = b"".join(parts[at] for at in sorted(parts))
    assert len(data) == total
    return protocols.pop(), data


class TestFragments:
    """RFC 8200 section 4.5."""

    @given(st.integers(1400, 9000), st.integers(0, 9000), st.integers(1280, 1500))
    @settings(max_examples=40, deadline=None)
    def test_together_they_are_the_datagram(self, size: int, split: int, mtu: int) -> None:
        bench, sender = ready(mtu=mtu)
        payload = bytes(n * 7 & 0xFF for n in range(size))
        assert sender.udp(payload, split=min(split, size)) == SENT
        frames = bench.frames()
        if 48 + size <= mtu:
            assert len(frames) == 1
            assert seen(frames[0]).payload[8:] == payload
            return
        assert all(len(frame) - 14 <= mtu for frame in frames)
        room = (mtu - 48) // 8 * 8
        assert len(frames) == -(-(size + 8) // room)
        assert reassemble(frames) == (UDP, wire.udp(payload, addresses=packed(HOST) + packed(PEER)))

    def test_their_checksum_is_made_whole_even_with_an_offload(self) -> None:
        bench, sender = ready(offloads=OFFLOAD_CSUM)
        sender.udp(bytes(3000))
        sent = bench.taken()
        assert {one.partial for one in sent} == {0}
        assert reassemble([one.data for one in sent])[1] == wire.udp(bytes(3000), addresses=packed(HOST) + packed(PEER))

    def test_identifications_do_not_follow_each_other(self) -> None:
        """RFC 7739 section 5: they are not to be told beforehand."""
        bench, sender = ready()
        seen_before = []
        for _ in range(20):
            sender.udp(bytes(1500))
            seen_before.append(int.from_bytes(bench.frames()[0][58:62], "big"))
        steps = {(b - a) & 0xFFFFFFFF for a, b in itertools.pairwise(seen_before)}
        assert len(steps) == 19

    def test_counters(self) -> None:
        bench, sender = ready()
        before = bench.moved()
        sender.udp(bytes(3000))
        after = bench.moved()
        moved = {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}
        # Three pieces of 1448, 1448 and 112 bytes, with 48 in front of each.
        assert moved == {
            "Ip6OutRequests": 1,
            "Ip6OutTransmits": 3,
            "Ip6OutOctets": 3008 + 3 * 48,
            "Ip6FragOKs": 1,
            "Ip6FragCreates": 3,
        }

    def test_who_forbids_it_is_told(self) -> None:
        bench, sender = ready()
        assert sender.udp(bytes(1452), dont_fragment=1) == SENT
        assert sender.udp(bytes(1453), dont_fragment=1) == SEND_TOO_BIG
        assert bench.moved()["Ip6FragFails"] == 1
        assert len(bench.frames()) == 1

    def test_the_longest(self) -> None:
        bench, sender = ready()
        assert sender.udp(bytes(65535 - 8)) == SENT
        assert len(reassemble(bench.frames())[1]) == 65535
        assert sender.udp(bytes(65536 - 8)) == SEND_DROPPED

    def test_a_path_that_takes_less(self) -> None:
        """RFC 8201: never below 1280."""
        bench, sender = ready()
        routes = bench.stack.ip.routes.struct
        learn_mtu(routes, *halves(ipaddress.IPv6Address(PEER)), 600, 1280, bench.now)
        sender.udp(bytes(1400))
        assert max(len(frame) for frame in bench.frames()) - 14 == 1280
        assert sender.packet.struct.path_mtu == 1280
        bench.run(601)  # and it is forgotten after ten minutes
        sender.udp(bytes(1400))
        assert len(bench.frames()) == 1

    def test_a_full_interface(self) -> None:
        bench, sender = ready()
        bench.full = True
        assert sender.udp(bytes(3000)) == SEND_DROPPED
        assert bench.moved()["Ip6FragFails"] == bench.moved()["Ip6OutDiscards"] == 1


class TestRoutes:
    def test_what_no_route_leads_to(self) -> None:
        bench, sender = ready()
        assert sender.udp(target="2001:db8:77::1") == SEND_UNREACHABLE
        assert bench.moved()["Ip6OutNoRoutes"] == 1

    def test_by_a_gateway(self) -> None:
        bench, sender = ready()
        bench.know(PEER_LINK)
        bench.stack.add_route("2001:db8:77::/48", via=PEER_LINK, interface=bench.eth0)
        bench.stack.add_route("::/0", via=PEER)
        assert sender.udp(target="2001:db8:77::1") == SENT
        (one,) = bench.packets()
        assert (one.dst, one.source, one.target) == (PEER_MAC, HOST, "2001:db8:77::1")
        p = sender.packet.struct
        assert from_halves(p.next_hop_hi, p.next_hop_lo) == ipaddress.IPv6Address(PEER_LINK)
        assert sender.udp(target="2001:db8:99::1") == SENT
        assert from_halves(p.next_hop_hi, p.next_hop_lo) == ipaddress.IPv6Address(PEER)

    def test_a_default_route_of_ipv6_is_none_of_ipv4(self) -> None:
        bench, sender = ready()
        bench.stack.add_route("::/0", via=PEER)
        sender.start(UDP, bytes(8), b"", PEER)
        sender.packet.struct.target_hi, sender.packet.struct.target_lo = halves(ipaddress.IPv4Address("8.8.8.8"))
        assert sender.route() == SEND_UNREACHABLE

    def test_an_unreachable_route(self) -> None:
        bench, sender = ready()
        bench.stack.add_route("2001:db8:9::/96", kind="unreachable")
        assert sender.udp() == SEND_UNREACHABLE

    def test_a_link_local_target_goes_by_the_interface_that_is_named(self) -> None:
        bench, sender = ready()
        bench.know(PEER_LINK)
        assert sender.udp(target=PEER_LINK) == SENT  # there is just one
        other = bench.interface(bytes.fromhex("020000000011"))
        bench.stack.enable_ipv6(other, detect=0, report=False, accept_advertisements=False)
        bench.know(PEER_LINK, bytes.fromhex("020000000012"), other)
        assert sender.udp(target=PEER_LINK) == SEND_UNREACHABLE
        bench.frames()
        assert sender.udp(target=PEER_LINK, interface=other.address) == SENT
        (sent,) = bench.taken()
        assert (sent.interface, sent.data[:6]) == (2, bytes.fromhex("020000000012"))
        assert sent.data[22:38] == packed("fe80::ff:fe00:11")

    def test_the_name_of_an_interface_in_an_address(self) -> None:
        """RFC 4007 section 11: fe80::1%eth0."""
        bench, sender = ready()
        other = bench.interface(bytes.fromhex("020000000011"))
        bench.stack.enable_ipv6(other, detect=0, report=False, accept_advertisements=False)
        address, interface = bench.stack.scoped(f"{PEER_LINK}%eth1")
        assert interface is not None
        assert (str(address), interface.index) == (PEER_LINK, 2)
        assert bench.stack.scoped(f"{PEER_LINK}%1")[1] is not None
        assert bench.stack.scoped(PEER)[1] is None
        with pytest.raises(ConfigError, match="no interface of this host is called wlan0, there is eth0, eth1"):
            bench.stack.scoped(f"{PEER_LINK}%wlan0")
        bench.stack.add_route("::/0", via=f"{PEER_LINK}%eth1")
        bench.know(PEER_LINK, bytes.fromhex("020000000012"), other)
        assert sender.udp(target="2001:db8:77::1", source_hi=bench.eth0.ipv6_hi, source_lo=bench.eth0.ipv6_lo) == SENT
        assert [one.interface for one in bench.taken()] == [2]

    def test_routing_beforehand_tells_source_and_mtu(self) -> None:
        _, sender = ready()
        sender.start(UDP, bytes(8), b"", PEER)
        assert sender.route() == SENT
        p = sender.packet.struct
        assert from_halves(p.source_hi, p.source_lo) == ipaddress.IPv6Address(HOST)
        assert (p.path_mtu, p.routed) == (1500, 1)
        sender.start(UDP, bytes(8), b"", "ff02::1")
        assert sender.route() == SENT
        assert p.cast == MULTICAST

    @pytest.mark.parametrize("target", ["::1", HOST, HOST_LINK])
    def test_to_itself(self, target: str) -> None:
        bench, sender = ready()
        assert sender.udp(target=target) == SENT
        before = bench.moved().get("Ip6InReceives", 0)
        bench.run(0)
        # The datagram, and what the host says to itself about the port: nobody listens there.
        assert bench.moved()["Ip6InReceives"] - before == bench.moved()["Ip6InDelivers"] == 2
        assert bench.moved()["Udp6NoPorts"] == bench.moved()["Icmp6InDestUnreachs"] == 1
        assert bench.frames() == []

    def test_two_addresses_of_a_subnet_share_its_route(self) -> None:
        bench, sender = ready()
        bench.stack.add_address(bench.eth0, "2001:db8:9::5/64")
        bench.stack.ip.remove_address(bench.eth0, f"{HOST}/64")
        assert sender.udp() == SENT
        with pytest.raises(ConfigError):
            bench.stack.ip.remove_address(bench.eth0, f"{HOST}/64")
