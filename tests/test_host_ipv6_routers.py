"""Routers found and believed, addresses made of their prefixes, routers that advertise (RFC 4861 section 6)."""

from __future__ import annotations

import ipaddress
import itertools
import struct

import pytest

from netemu.jit import call2
from netemu.stack.addresses import from_halves, halves
from netemu.stack.host import SEND_UNREACHABLE, SENT
from netemu.stack.packet import PacketBuffer, start_packet
from netemu.stack.reasons import StackReason
from tests.host_kit import MAC, PEER_MAC
from tests.ipv6_kit import (
    ALL_NODES,
    ALL_ROUTERS,
    HOST,
    HOST_LINK,
    PEER,
    PEER_LINK,
    ROUTER,
    SOLICITED,
    SixBench,
    advertisement,
    link_option,
    message,
    packed,
    prefix_option,
    router_advertisement,
)

PREFIX = "2001:db8:cafe::/64"
FORMED = "2001:db8:cafe::ff:fe00:1"
"""Of that prefix and MAC 02:00:00:00:00:01."""
GOOD = StackReason.NOT_DROPPED_YET


def next_hop(bench: SixBench, target: str) -> str | None:
    """Where a packet to a target goes first; None: nowhere."""
    packet = PacketBuffer()
    start_packet(packet.address, 17, 8)
    p = packet.struct
    p.target_hi, p.target_lo = halves(ipaddress.IPv6Address(target))
    if call2(bench.host.route, bench.host.address, packet.address) != SENT:
        return None
    return str(from_halves(p.next_hop_hi, p.next_hop_lo))


def with_prefix(*, valid: int = 3600, preferred: int = 1800, flags: int = 0xC0, prefix: str = PREFIX) -> bytes:
    return router_advertisement(prefix_option(prefix, valid=valid, preferred=preferred, flags=flags))


class TestHost:
    def test_a_router_is_a_default_one_for_its_lifetime(self) -> None:
        bench = SixBench()
        assert next_hop(bench, "2001:db8:77::1") is None
        assert bench.receive(router_advertisement(lifetime=100)) == GOOD
        assert next_hop(bench, "2001:db8:77::1") == PEER_LINK
        assert [str(router) for router in bench.stack.ip6.routers()] == [PEER_LINK]
        bench.run(99.9)
        assert next_hop(bench, "2001:db8:77::1") == PEER_LINK
        bench.run(0.2)
        assert next_hop(bench, "2001:db8:77::1") is None
        assert bench.stack.ip6.routers() == []

    def test_a_lifetime_of_zero_takes_it_back(self) -> None:
        bench = SixBench()
        bench.receive(router_advertisement())
        bench.receive(router_advertisement(lifetime=0, source="fe80::77"))
        assert next_hop(bench, "2001:db8:77::1") == PEER_LINK
        bench.receive(router_advertisement(lifetime=0))
        assert next_hop(bench, "2001:db8:77::1") is None

    def test_a_router_that_is_none_any_more(self) -> None:
        """RFC 4861 section 7.2.5: an advertisement without the router flag."""
        bench = SixBench()
        bench.receive(router_advertisement(link_option(1, PEER_MAC)))
        bench.receive(advertisement(PEER_LINK, PEER_LINK, HOST_LINK, ROUTER | SOLICITED))
        assert next_hop(bench, "2001:db8:77::1") == PEER_LINK
        bench.receive(advertisement(PEER_LINK, PEER_LINK, HOST_LINK, SOLICITED))
        assert next_hop(bench, "2001:db8:77::1") is None

    def test_one_that_answers_is_preferred(self) -> None:
        """RFC 4861 section 6.3.6."""
        bench = SixBench()
        bench.receive(router_advertisement())
        bench.receive(router_advertisement(source="fe80::77"))
        assert next_hop(bench, "2001:db8:77::1") == PEER_LINK
        packet = PacketBuffer()
        start_packet(packet.address, 17, 8)
        packet.struct.target_hi, packet.struct.target_lo = halves(ipaddress.IPv6Address("2001:db8:77::1"))
        call2(bench.host.send, bench.host.address, packet.address)
        bench.run(10)  # nobody answers for PEER_LINK
        assert next_hop(bench, "2001:db8:77::1") == "fe80::77"

    def test_solicitations_end_with_the_first_answer(self) -> None:
        bench = SixBench(ready=False)
        while not any(one.payload[:1] == b"\x85" for one in bench.packets()):
            bench.run(0.1)
        bench.receive(router_advertisement())
        bench.run(20)
        assert not any(one.payload[:1] == b"\x85" for one in bench.packets())

    def test_its_station_address_is_remembered(self) -> None:
        bench = SixBench()
        bench.receive(router_advertisement(link_option(1, PEER_MAC)))
        (entry,) = bench.stack.ip.neighbour_list()
        assert (str(entry.address), entry.mac, entry.state, entry.is_router) == (
            PEER_LINK,
            "02:00:00:00:00:02",
            "stale",
            True,
        )

    def test_hop_limit_and_mtu(self) -> None:
        bench = SixBench()
        bench.know(PEER)
        bench.receive(router_advertisement(struct.pack(">BBHI", 5, 1, 0, 1400), hop_limit=33))
        bench.receive(message(128, bytes(1456), PEER, HOST))
        packets = bench.packets()
        assert len(packets) == 2
        assert {one.hop_limit for one in packets} == {33}
        for mtu in (1279, 1501, 9000):
            bench.receive(router_advertisement(struct.pack(">BBHI", 5, 1, 0, mtu), hop_limit=0))
        bench.receive(message(128, bytes(1456), PEER, HOST))
        assert len(bench.packets()) == 2  # what is not possible was not believed

    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param(router_advertisement(source="2001:db8:9::2"), id="source not link-local"),
            pytest.param(router_advertisement(b"\x05\x00" + bytes(6)), id="option of no length"),
            pytest.param(router_advertisement(limit=64), id="from beyond the link"),
            pytest.param(message(134, bytes(8), PEER_LINK, ALL_NODES), id="too short"),
            pytest.param(message(134, bytes(12) + bytes(0), PEER_LINK, ALL_NODES, code=1), id="code"),
        ],
    )
    def test_what_is_malformed_is_not_believed(self, frame: bytes) -> None:
        """RFC 4861 section 6.1.2."""
        bench = SixBench()
        assert bench.receive(frame) in (StackReason.ICMP_INVALID, StackReason.IPV6_NDISC_HOP_LIMIT)
        assert bench.stack.ip6.routers() == []

    def test_a_router_believes_no_other(self) -> None:
        bench = SixBench(forwarding=True)
        bench.receive(with_prefix())
        assert bench.stack.ip6.routers() == []
        assert bench.state(FORMED) is None


class TestPrefixes:
    def test_on_the_link(self) -> None:
        bench = SixBench()
        bench.receive(router_advertisement(prefix_option(PREFIX, valid=50, flags=0x80)))
        assert next_hop(bench, "2001:db8:cafe::5") == "2001:db8:cafe::5"
        assert [str(prefix) for prefix in bench.stack.ip6.prefixes()] == [PREFIX]
        assert bench.state(FORMED) is None
        bench.run(51)
        assert next_hop(bench, "2001:db8:cafe::5") == PEER_LINK

    def test_not_on_the_link(self) -> None:
        bench = SixBench()
        bench.receive(with_prefix(flags=0x40))
        bench.run(3)
        assert bench.state(FORMED) == "preferred"
        assert next_hop(bench, "2001:db8:cafe::5") == PEER_LINK

    def test_taken_back(self) -> None:
        bench = SixBench()
        bench.receive(router_advertisement(prefix_option(PREFIX, flags=0x80)))
        bench.receive(router_advertisement(prefix_option(PREFIX, valid=0, preferred=0, flags=0x80)))
        assert bench.stack.ip6.prefixes() == []

    def test_the_longest_wins(self) -> None:
        bench = SixBench()
        bench.stack.add_route("2001:db8:cafe::/48", via=PEER)
        assert next_hop(bench, "2001:db8:cafe::5") == PEER
        bench.receive(router_advertisement(prefix_option(PREFIX, flags=0x80)))
        assert next_hop(bench, "2001:db8:cafe::5") == "2001:db8:cafe::5"
        bench.stack.add_route("2001:db8:cafe::/96", via=PEER)
        assert next_hop(bench, "2001:db8:cafe::5") == PEER

    @pytest.mark.parametrize(
        "prefix", ["::/0", "2001:db8::/31", "2001:db8:cafe::8000:0:0:0/65", "2001:db8:cafe::1/128"]
    )
    def test_of_any_length(self, prefix: str) -> None:
        bench = SixBench()
        bench.receive(router_advertisement(prefix_option(prefix, flags=0xC0)))
        first = str(ipaddress.IPv6Network(prefix).network_address + (prefix == "::/0"))
        if prefix != "::/0":
            assert next_hop(bench, first) == first
        assert next_hop(bench, "2001:dead::1") == ("2001:dead::1" if prefix == "::/0" else PEER_LINK)
        assert len(bench.stack.ip6.addresses()) == 2  # an interface identifier has 64 bits: no address is formed

    @pytest.mark.parametrize(
        "option",
        [
            pytest.param(prefix_option("fe80::/64"), id="link-local"),
            pytest.param(prefix_option("ff02::/64"), id="multicast"),
            pytest.param(prefix_option(PREFIX)[:1] + b"\x05" + prefix_option(PREFIX)[2:] + bytes(8), id="wrong length"),
            pytest.param(prefix_option(PREFIX)[:2] + b"\x81" + prefix_option(PREFIX)[3:], id="129 bits"),
        ],
    )
    def test_that_cannot_be(self, option: bytes) -> None:
        bench = SixBench()
        assert bench.receive(router_advertisement(option)) == GOOD
        assert bench.stack.ip6.prefixes() == []
        assert len(bench.stack.ip6.addresses()) == 2


class TestAutoconfiguration:
    """RFC 4862 section 5.5.3."""

    def test_an_address_is_made_and_looked_for_elsewhere_first(self) -> None:
        bench = SixBench()
        bench.receive(with_prefix())
        assert bench.state(FORMED) == "tentative"
        bench.run(3)
        assert bench.state(FORMED) == "preferred"
        (probe,) = [one for one in bench.packets() if one.payload[:1] == b"\x87"]
        assert probe.payload[8:24] == packed(FORMED)
        bench.run(1800)
        assert bench.state(FORMED) == "deprecated"
        bench.run(1800)
        assert bench.state(FORMED) is None

    def test_it_is_renewed(self) -> None:
        bench = SixBench()
        bench.receive(with_prefix(valid=100, preferred=50))
        bench.run(90)
        assert bench.state(FORMED) == "deprecated"
        bench.receive(with_prefix(valid=100, preferred=50))
        assert bench.state(FORMED) == "preferred"
        bench.run(99)
        assert bench.state(FORMED) == "deprecated"
        assert len(bench.stack.ip6.addresses()) == 3

    @pytest.mark.parametrize(
        ("first", "told", "left"),
        [
            # (e): more than two hours, or more than what is left, is believed; else two hours are, if more is left.
            (10_000, 8_000, 8_000),
            (10_000, 100, 7_200),
            (3_000, 100, 3_000),
            (3_000, 4_000, 4_000),
            (3_000, 0, 3_000),
        ],
    )
    def test_nobody_takes_it_away_within_two_hours(self, first: int, told: int, left: int) -> None:
        bench = SixBench()
        bench.receive(with_prefix(valid=first, preferred=first))
        bench.receive(with_prefix(valid=told, preferred=min(told, 50)))
        (entry,) = [one for one in bench.stack.ip6.addresses() if str(one.address.ip) == FORMED]
        assert entry.valid_until == bench.now + left * 1_000_000_000

    def test_for_good(self) -> None:
        bench = SixBench()
        bench.receive(with_prefix(valid=0xFFFFFFFF, preferred=0xFFFFFFFF))
        bench.run(10)
        (entry,) = [one for one in bench.stack.ip6.addresses() if str(one.address.ip) == FORMED]
        assert (entry.preferred_until, entry.valid_until, entry.learned) == (None, None, True)
        assert str(entry) == f"{FORMED}/64 dynamic"

    @pytest.mark.parametrize(("valid", "preferred"), [(0, 0), (100, 101)])
    def test_lifetimes_that_make_no_sense(self, valid: int, preferred: int) -> None:
        bench = SixBench()
        bench.receive(with_prefix(valid=valid, preferred=preferred))
        assert bench.state(FORMED) is None

    def test_a_flood_of_prefixes_fills_no_more_than_there_is_room_for(self) -> None:
        bench = SixBench()
        for number in range(200):
            options = prefix_option(f"2001:db8:{number:x}::/64")
            bench.receive(router_advertisement(options, source=f"fe80::{number + 1:x}"))
        assert len(bench.stack.ip6.addresses()) == 64
        assert len(bench.stack.ip6.prefixes()) == 32
        assert len(bench.stack.ip6.routers()) == 16
        bench.run(10_000)
        assert len(bench.stack.ip6.addresses()) == 2
        bench.receive(with_prefix())
        assert bench.state(FORMED) == "tentative"


def advertisements(bench: SixBench) -> list[bytes]:
    return [one.payload for one in bench.packets() if one.payload[:1] == b"\x86"]


class TestRouter:
    def router(self, **how: int) -> SixBench:
        bench = SixBench(forwarding=True)
        bench.stack.ip6.advertise(bench.eth0, **how)  # type: ignore[arg-type]
        return bench

    def test_an_advertisement_by_hand(self) -> None:
        """RFC 4861 section 4.2: hop limit 64, no flags, lifetime 1800; station address, MTU, prefix with L and A."""
        bench = self.router(mtu=1400)
        bench.run(0)
        (one,) = bench.packets()
        assert (one.source, one.target, one.hop_limit) == (HOST_LINK, ALL_NODES, 255)
        assert one.checksum_right
        assert one.payload[4:] == (
            bytes.fromhex("40 00 0708 00000000 00000000")
            + link_option(1, MAC)
            + bytes.fromhex("05 01 0000 00000578")
            + bytes.fromhex("03 04 40 c0 00015180 00003840 00000000")
            + packed("2001:db8:9::")
        )

    def test_the_first_few_come_sooner(self) -> None:
        """RFC 4861 section 6.2.4: no more than 16 seconds between the first three, then within the bounds."""
        bench = self.router()
        times = []
        for second in range(1500):
            bench.run(1)
            times += [second] * len(advertisements(bench))
        steps = [b - a for a, b in itertools.pairwise(times)]
        assert all(step <= 16 for step in steps[:2])
        assert all(199 <= step <= 601 for step in steps[2:])
        assert len(steps) >= 4

    def test_who_asks_is_answered_within_half_a_second_but_not_too_often(self) -> None:
        """RFC 4861 section 6.2.6: never sooner than three seconds after the last."""
        bench = self.router()
        bench.run(100)
        bench.frames()
        question = message(133, bytes(4) + link_option(1, PEER_MAC), PEER_LINK, ALL_ROUTERS)
        bench.receive(question)
        bench.run(0.5)
        assert len(advertisements(bench)) == 1
        for _ in range(10):
            bench.receive(question)
        bench.run(2.4)
        assert advertisements(bench) == []
        bench.run(0.7)
        assert len(advertisements(bench)) == 1
        assert bench.neighbour(PEER_LINK) == ("02:00:00:00:00:02", "stale")

    @pytest.mark.parametrize(
        "frame",
        [
            pytest.param(message(133, bytes(4) + link_option(1, PEER_MAC), "::", ALL_ROUTERS), id="unspecified source"),
            pytest.param(message(133, bytes(4), PEER_LINK, ALL_ROUTERS, code=1), id="code"),
            pytest.param(message(133, bytes(4) + b"\x01\x00" + bytes(6), PEER_LINK, ALL_ROUTERS), id="option length 0"),
        ],
    )
    def test_a_malformed_question_is_not_answered(self, frame: bytes) -> None:
        """RFC 4861 section 6.1.1."""
        bench = self.router()
        bench.run(100)
        bench.frames()
        assert bench.receive(frame) == StackReason.ICMP_INVALID
        bench.run(5)
        assert advertisements(bench) == []

    def test_a_host_and_a_router_find_each_other(self) -> None:
        """Both ends of the emulation: no proof that either is right, but that they can talk."""
        router = self.router()
        host = SixBench(ready=False)
        host.eth0.mac = int.from_bytes(PEER_MAC, "big")
        for _ in range(100):
            host.run(0.1)
            router.run(0.1)
            for frame in router.frames():
                host.receive(frame)
            for frame in host.frames():
                router.receive(frame)
        assert [str(one) for one in host.stack.ip6.routers()] == [HOST_LINK]
        assert next_hop(host, "2001:db8:77::1") == HOST_LINK

    def test_solicitations_are_none_of_a_hosts_business(self) -> None:
        bench = SixBench()
        question = message(133, bytes(4), PEER_LINK, ALL_ROUTERS)
        assert bench.receive(question) == StackReason.IP_INADDRERRORS
        assert next_hop(bench, "2001:db8:77::1") is None


def test_without_a_router_there_is_no_way_out() -> None:
    bench = SixBench()
    packet = PacketBuffer()
    start_packet(packet.address, 17, 8)
    packet.struct.target_hi, packet.struct.target_lo = halves(ipaddress.IPv6Address("2001:db8:77::1"))
    assert call2(bench.host.send, bench.host.address, packet.address) == SEND_UNREACHABLE
