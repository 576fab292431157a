"""Neighbour discovery (RFC 4861 section 7) and duplicate address detection (RFC 4862 section 5.4), against bytes."""

from __future__ import annotations

import itertools

import pytest

from netemu.stack.reasons import StackReason
from tests import wire
from tests.host_kit import MAC, PEER_MAC
from tests.ipv6_kit import (
    ADVERTISE,
    ALL_NODES,
    ALL_ROUTERS,
    HOST,
    HOST_LINK,
    MLD_ROUTERS,
    OVERRIDE,
    PEER,
    PEER_LINK,
    ROUTER,
    SOLICIT,
    SOLICITED,
    SixBench,
    advertisement,
    group_mac,
    link_option,
    message,
    packed,
    solicitation,
    solicited_node,
)
from tests.wire import ICMPV6, put

OTHER_MAC = bytes.fromhex("020000000099")
ECHO = wire.ipv6(wire.icmpv6(128, b"\x00\x01\x00\x02hello"), ICMPV6)
GOOD = StackReason.NOT_DROPPED_YET


class TestStart:
    """What a host says when it begins, as Linux does: groups, a question per address, then a search for routers."""

    def test_the_link_local_address_is_made_of_the_mac(self) -> None:
        """RFC 4291 appendix A."""
        assert SixBench().state(HOST_LINK) == "preferred"

    def test_an_address_is_tentative_until_nobody_answered_for_a_second(self) -> None:
        """RFC 4862 section 5.4: one probe from the unspecified address to the solicited-node group."""
        bench = SixBench(ready=False)
        assert bench.state(HOST) == "tentative"
        bench.run(1)  # the random delay is shorter
        probes = [one for one in bench.packets() if one.next_header == ICMPV6 and one.kind == SOLICIT]
        assert {one.payload[8:24] for one in probes} == {packed(HOST), packed(HOST_LINK)}
        for one in probes:
            assert (one.source, one.target, one.hop_limit) == ("::", "ff02::1:ff00:1", 255)
            assert one.dst == bytes.fromhex("3333ff000001")
            assert one.checksum_right
            # No station address, but a nonce (RFC 7527), which is eight bytes long with its header.
            assert one.payload[24:26] == b"\x0e\x01"
            assert len(one.payload) == 32
        assert bench.state(HOST) == "tentative"
        bench.run(1)
        assert bench.state(HOST) == bench.state(HOST_LINK) == "preferred"

    def test_a_tentative_address_takes_no_packets(self) -> None:
        bench = SixBench(ready=False)
        assert bench.receive(ECHO) == StackReason.IP_INADDRERRORS
        bench.run(5)
        assert bench.receive(ECHO) == GOOD

    def test_routers_are_looked_for_three_times_four_seconds_apart(self) -> None:
        """RFC 4861 section 6.3.7; by hand: type 133, a reserved word, the station address."""
        bench = SixBench(ready=False)
        times = []
        for tenth in range(200):
            bench.run(0.1)
            for one in bench.packets():
                if one.next_header == ICMPV6 and one.kind == 133:
                    times.append(tenth)
                    assert (one.source, one.target, one.hop_limit) == (HOST_LINK, ALL_ROUTERS, 255)
                    assert one.payload[4:] == bytes(4) + link_option(1, MAC)
                    assert one.checksum_right
        assert len(times) == 3
        assert [b - a for a, b in itertools.pairwise(times)] == [40, 40]

    def test_groups_are_reported_with_a_router_alert(self) -> None:
        """RFC 3810 section 5.2: hop-by-hop header with router alert 0, hop limit 1, to ff02::16, type 143."""
        bench = SixBench(ready=False)
        bench.run(5)
        reports = [one for one in bench.packets() if one.next_header == 0]
        assert {one.source for one in reports} == {"::", HOST_LINK}
        for one in reports:
            assert (one.target, one.hop_limit) == (MLD_ROUTERS, 1)
            assert one.payload[:8] == bytes.fromhex("3a 00 0502 0000 0100")
            data = one.payload[8:]
            addresses = packed(one.source) + packed(one.target)
            assert wire.internet_checksum(wire.pseudo(addresses, ICMPV6, len(data)) + data) == 0
            assert data[:2] == b"\x8f\x00"
            # One record, CHANGE_TO_EXCLUDE without sources: both addresses end in 00:00:01, so they share a group.
            assert data[4:] == bytes.fromhex("0000 0001 04 00 0000") + packed("ff02::1:ff00:1")

    def test_each_group_has_a_record(self) -> None:
        bench = SixBench(ready=False)
        bench.stack.add_address(bench.eth0, "2001:db8:9::abcd:1234/64")
        bench.stack.ip6.join(bench.eth0, "ff02::fb")
        last = bench.packets()[-1].payload
        assert last[14:16] == b"\x00\x03"
        groups = {last[16 + 20 * n :][4:20] for n in range(3)}
        assert groups == {packed("ff02::1:ff00:1"), packed("ff02::1:ffcd:1234"), packed("ff02::fb")}

    def test_reports_and_detection_can_be_left_out(self) -> None:
        bench = SixBench(ready=False)
        other = bench.interface(bytes.fromhex("020000000011"))
        bench.stack.enable_ipv6(other, detect=0, report=False, accept_advertisements=False)
        assert bench.state("fe80::ff:fe00:11") == "preferred"
        bench.run(20)
        assert [one for one in bench.taken() if one.interface == 2] == []


class TestDuplicates:
    """RFC 4862 section 5.4.3 to 5.4.5."""

    def test_an_answer_means_that_the_address_is_taken(self) -> None:
        bench = SixBench(ready=False)
        bench.run(1)
        bench.receive(advertisement(HOST, HOST, ALL_NODES, OVERRIDE, OTHER_MAC))
        assert bench.state(HOST) == "dadfailed"
        bench.run(10)
        assert bench.state(HOST) == "dadfailed"
        assert bench.stack.ip.neighbours.conflicts == 1

    def test_somebody_who_asks_for_the_same_address_takes_it_as_well(self) -> None:
        bench = SixBench(ready=False)
        bench.run(1)
        bench.receive(solicitation(HOST, "::", options=b""))
        assert bench.state(HOST) == "dadfailed"
        assert bench.state(HOST_LINK) == "tentative"

    def test_the_own_question_that_a_link_brings_back_does_not(self) -> None:
        """RFC 7527 section 4: the nonce tells."""
        bench = SixBench(ready=False)
        bench.run(1)
        mine = [frame for frame in bench.frames() if frame[20] == ICMPV6 and frame[54] == SOLICIT]
        assert len(mine) == 2
        for frame in mine:
            bench.receive(frame)
        bench.run(2)
        assert bench.state(HOST) == bench.state(HOST_LINK) == "preferred"

    def test_a_question_with_a_name_is_no_claim(self) -> None:
        bench = SixBench(ready=False)
        bench.run(1)
        bench.frames()
        bench.receive(solicitation(HOST, PEER))
        assert bench.state(HOST) == "tentative"
        assert bench.frames() == []

    def test_an_address_in_use_stays_in_use(self) -> None:
        bench = SixBench()
        bench.receive(advertisement(HOST, HOST, ALL_NODES, OVERRIDE, OTHER_MAC))
        assert bench.state(HOST) == "preferred"
        assert bench.stack.ip.neighbours.conflicts == 1


class TestSolicitations:
    """RFC 4861 section 7.2.3 and 7.2.4."""

    def test_an_answer_by_hand(self) -> None:
        bench = SixBench()
        assert bench.receive(solicitation()) == GOOD
        (answer,) = bench.packets()
        assert (answer.dst, answer.source, answer.target, answer.hop_limit) == (PEER_MAC, HOST, PEER, 255)
        # Advertisement, S and O, the target, its station address.
        assert answer.payload[:2] == bytes([ADVERTISE, 0])
        assert answer.payload[4:] == bytes.fromhex("60000000") + packed(HOST) + bytes.fromhex("0201 020000000001")
        assert answer.checksum_right
        assert bench.neighbour(PEER) == ("02:00:00:00:00:02", "delay")

    def test_who_has_no_address_yet_is_answered_before_all_nodes(self) -> None:
        bench = SixBench()
        bench.receive(solicitation(HOST, "::", options=b""))
        (answer,) = bench.packets()
        assert (answer.dst, answer.target) == (group_mac(ALL_NODES), ALL_NODES)
        assert answer.payload[4:8] == bytes.fromhex("20000000")  # O, not S
        assert bench.neighbour("::") is None

    def test_a_router_says_that_it_is_one(self) -> None:
        bench = SixBench(forwarding=True)
        bench.receive(solicitation())
        (answer,) = bench.packets()
        assert answer.payload[4:8] == bytes.fromhex("e0000000")

    def test_a_unicast_question_without_a_station_address_is_answered_to_whom_is_known(self) -> None:
        bench = SixBench()
        bench.know(PEER)
        bench.receive(solicitation(HOST, PEER, HOST, options=b""))
        (answer,) = bench.packets()
        assert (answer.dst, answer.payload[4:8]) == (PEER_MAC, bytes.fromhex("60000000"))

    def test_a_question_for_somebody_else_is_not_answered(self) -> None:
        bench = SixBench()
        bench.receive(solicitation("2001:db8:9::77", PEER, HOST))
        assert bench.frames() == []
        assert bench.receive(solicitation("2001:db8:9::77", PEER)) == StackReason.IP_INADDRERRORS

    @pytest.mark.parametrize(
        ("frame", "expected"),
        [
            pytest.param(solicitation(hop_limit=254), StackReason.IPV6_NDISC_HOP_LIMIT, id="hop limit below 255"),
            pytest.param(solicitation(code=1), StackReason.ICMP_INVALID, id="code"),
            pytest.param(solicitation(options=b"\x01\x00" + bytes(6)), StackReason.ICMP_INVALID, id="option length 0"),
            pytest.param(solicitation(options=b"\x01\x02" + bytes(6)), StackReason.ICMP_INVALID, id="option too long"),
            pytest.param(solicitation(options=bytes(4)), StackReason.ICMP_INVALID, id="half an option"),
            pytest.param(solicitation("ff02::5", PEER, HOST), StackReason.ICMP_INVALID, id="multicast target"),
            pytest.param(solicitation(HOST, "::"), StackReason.ICMP_INVALID, id="unspecified with station address"),
            pytest.param(solicitation(HOST, "::", ALL_NODES, b""), StackReason.ICMP_INVALID, id="unspecified to all"),
            pytest.param(message(SOLICIT, bytes(12), PEER, HOST), StackReason.ICMP_INVALID, id="too short"),
        ],
    )
    def test_what_is_malformed_is_dropped(self, frame: bytes, expected: StackReason) -> None:
        """RFC 4861 section 7.1.1."""
        bench = SixBench()
        assert bench.receive(frame) == expected
        assert bench.frames() == []
        assert bench.neighbour(PEER) is None

    def test_options_that_nobody_knows_are_passed_over(self) -> None:
        bench = SixBench()
        bench.receive(solicitation(options=bytes.fromhex("fd02") + bytes(14) + link_option(1, PEER_MAC)))
        assert bench.packets()[0].dst == PEER_MAC


class TestResolution:
    """RFC 4861 section 7.2.2 and 7.3: what a host asks, and what it makes of answers."""

    def test_a_packet_waits_for_its_neighbour(self) -> None:
        bench = SixBench()
        bench.receive(ECHO)
        (question,) = bench.packets()
        assert (question.source, question.target, question.dst) == (HOST, solicited_node(PEER), group_mac("::ff00:2"))
        assert question.payload[4:] == bytes(4) + packed(PEER) + link_option(1, MAC)
        assert bench.neighbour(PEER) == (None, "incomplete")
        bench.receive(advertisement())
        (answer,) = bench.packets()
        assert (answer.dst, answer.kind, answer.payload[4:]) == (PEER_MAC, 129, b"\x00\x01\x00\x02hello")
        assert answer.checksum_right
        assert bench.neighbour(PEER) == ("02:00:00:00:00:02", "reachable")

    def test_three_questions_then_nobody_is_there(self) -> None:
        bench = SixBench()
        bench.receive(ECHO)
        bench.run(10)
        assert [one.kind for one in bench.packets()][:3] == [SOLICIT] * 3
        assert bench.neighbour(PEER) == (None, "failed")

    def test_the_questions_source_is_that_of_the_packet_that_waits(self) -> None:
        bench = SixBench()
        bench.receive(message(128, bytes(4), PEER_LINK, HOST_LINK))
        assert bench.packets()[0].source == HOST_LINK

    @pytest.mark.parametrize(
        ("flags", "mac", "expected"),
        [
            # The table of RFC 4861 section 7.2.5, from a reachable entry with PEER_MAC.
            (SOLICITED, PEER_MAC, ("02:00:00:00:00:02", "reachable")),
            (0, PEER_MAC, ("02:00:00:00:00:02", "reachable")),
            (SOLICITED, OTHER_MAC, ("02:00:00:00:00:02", "stale")),
            (0, OTHER_MAC, ("02:00:00:00:00:02", "stale")),
            (SOLICITED | OVERRIDE, OTHER_MAC, ("02:00:00:00:00:99", "reachable")),
            (OVERRIDE, OTHER_MAC, ("02:00:00:00:00:99", "stale")),
            (SOLICITED, None, ("02:00:00:00:00:02", "reachable")),
        ],
    )
    def test_flags_of_an_advertisement(self, flags: int, mac: bytes | None, expected: tuple[str, str]) -> None:
        bench = SixBench()
        bench.receive(ECHO)
        bench.receive(advertisement())
        bench.receive(advertisement(flags=flags, mac=mac))
        assert bench.neighbour(PEER) == expected

    def test_nobody_is_entered_who_was_not_asked_for(self) -> None:
        bench = SixBench()
        bench.receive(advertisement())
        assert bench.neighbour(PEER) is None

    def test_an_advertisement_without_station_address_resolves_nothing(self) -> None:
        bench = SixBench()
        bench.receive(ECHO)
        bench.receive(advertisement(mac=None))
        assert bench.neighbour(PEER) == (None, "incomplete")

    def test_solicited_and_multicast_contradict_each_other(self) -> None:
        """RFC 4861 section 7.1.2."""
        bench = SixBench()
        bench.receive(ECHO)
        assert bench.receive(advertisement(to=ALL_NODES)) == StackReason.ICMP_INVALID
        assert bench.receive(advertisement(to=ALL_NODES, flags=OVERRIDE)) == GOOD
        assert bench.neighbour(PEER) == ("02:00:00:00:00:02", "stale")

    def test_a_router_flag_is_kept(self) -> None:
        bench = SixBench()
        bench.receive(ECHO)
        bench.receive(advertisement(flags=ROUTER | SOLICITED | OVERRIDE))
        assert [entry.is_router for entry in bench.stack.ip.neighbour_list()] == [True]

    def test_a_neighbour_is_probed_directly_when_it_may_have_gone(self) -> None:
        """RFC 4861 section 7.3.3: STALE, DELAY for five seconds, then PROBE by unicast."""
        bench = SixBench()
        bench.receive(solicitation())
        bench.frames()
        bench.run(5.5)
        (probe,) = bench.packets()
        assert (probe.dst, probe.target, probe.kind) == (PEER_MAC, PEER, SOLICIT)
        bench.receive(advertisement())
        assert bench.neighbour(PEER) == ("02:00:00:00:00:02", "reachable")


def test_a_damaged_message_is_not_believed() -> None:
    bench = SixBench()
    assert bench.receive(put(solicitation(), 60, b"\x77")) == StackReason.ICMP_CSUM
    assert bench.moved()["Icmp6InCsumErrors"] == 1
