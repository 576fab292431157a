"""ICMP of a host that talks (RFC 792, RFC 1122 section 3.2.2): what it answers, complains of, and hears."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.jit import hook, load8
from netemu.skb import skb_at
from netemu.stack.host import (
    ERROR_HOST_UNREACHABLE,
    ERROR_NET_UNREACHABLE,
    ERROR_PARAMETER,
    ERROR_PORT_UNREACHABLE,
    ERROR_PROHIBITED,
    ERROR_PROTOCOL_UNREACHABLE,
    ERROR_TIME_EXCEEDED,
    ERROR_TOO_BIG,
    SEND_TOO_BIG,
    SENT,
)
from netemu.stack.reasons import StackReason
from tests import wire
from tests.host_kit import SECOND, HostBench
from tests.wire import put

ICMP, UDP = 1, 17
BACK = wire.pack_addresses("10.9.0.1", "10.9.0.2")


def bench() -> HostBench:
    made = HostBench()
    made.know()
    return made


def echo(payload: bytes = b"", **how: Any) -> bytes:
    return wire.ipv4(wire.icmp(8, b"\x12\x34\x00\x07" + payload), ICMP, **how)


# Answers.


@pytest.mark.parametrize("size", [0, 1, 56, 57, 1472])
def test_an_echo_comes_back_with_its_own_bytes(size: int) -> None:
    host = bench()
    payload = bytes(range(256)) * 6
    assert host.receive(echo(payload[:size])) == 0
    (frame,) = host.frames()
    assert frame[:14] == bytes.fromhex("020000000002 020000000001 0800")
    assert frame[14 + 20 :] == wire.icmp(0, b"\x12\x34\x00\x07" + payload[:size])
    assert frame[22:24] == b"\x40\x01"  # TTL 64, ICMP
    assert frame[26:34] == BACK
    assert wire.internet_checksum(frame[14:34]) == 0
    moved = host.moved()
    assert moved["IcmpOutEchoReps"] == moved["IcmpOutMsgs"] == moved["IpOutRequests"] == moved["IcmpMsgOutType0"] == 1


@pytest.mark.parametrize("last", [b"\xff\xff\xff\xff", bytes([10, 9, 0, 255]), bytes([224, 0, 0, 1])])
def test_an_echo_to_everybody_is_not_answered(last: bytes) -> None:
    """RFC 1122 section 3.2.2.6 leaves it free; Linux's icmp_echo_ignore_broadcasts is 1."""
    host = bench()
    host.receive(echo(addresses=wire.A4[:4] + last))
    assert host.frames() == []


def test_a_timestamp_is_answered_with_the_time_of_day_of_the_emulated_world() -> None:
    """RFC 792: ms since midnight, received and sent; identifier, sequence number and originate timestamp come back."""
    host = bench()
    host.run(86_400 + 3)
    host.receive(wire.ipv4(wire.icmp(13, bytes.fromhex("00010002 00000063 00000000 00000000")), ICMP))
    (frame,) = host.frames()
    assert frame[34:] == wire.icmp(14, bytes.fromhex("00010002 00000063") + (3000).to_bytes(4, "big") * 2)


# Complaints.


def test_an_unknown_protocol_is_reported_with_the_packet() -> None:
    """RFC 1122 section 3.2.2.1: code 2."""
    host = bench()
    frame = wire.ipv4(b"abc", 99, tos=0x13)
    assert host.receive(frame) == StackReason.IP_NOPROTO
    (sent,) = host.frames()
    assert sent[34:] == wire.icmp(3, bytes(4) + frame[14:], code=2)
    assert sent[15] == 0xC0 | 0x12  # as a real Linux has it: its RT_TOS takes four bits along
    assert sent[26:34] == BACK


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(wire.ipv4(b"abc", 99, dst=wire.EVERYONE), id="frame to everybody"),
        pytest.param(wire.ipv4(b"abc", 99, addresses=wire.pack_addresses("10.9.0.2", "255.255.255.255")), id="packet"),
        pytest.param(wire.ipv4(b"abc", 99, addresses=wire.pack_addresses("10.9.0.2", "10.9.0.255")), id="subnet"),
        pytest.param(wire.ipv4(b"abc", 99, addresses=wire.pack_addresses("10.9.0.2", "224.0.0.1")), id="group"),
        pytest.param(wire.ipv4(b"abc", 99, addresses=wire.pack_addresses("0.0.0.0", "255.255.255.255")), id="nobody"),
    ],
)
def test_nobody_is_told_of_a_packet_to_many_or_from_nobody(frame: bytes) -> None:
    """RFC 1122 section 3.2.2."""
    host = bench()
    assert host.receive(frame) == StackReason.IP_NOPROTO
    assert host.frames() == []


@pytest.mark.parametrize("kind", [3, 4, 5, 11, 12, 40])
def test_nobody_is_told_of_an_icmp_error(kind: int) -> None:
    """A router that lets its time run out; RFC 1122 section 3.2.2."""
    router = HostBench(forwarding=True)
    router.know()
    there = wire.pack_addresses("10.9.0.2", "192.0.2.1")
    assert router.receive(wire.ipv4(wire.icmp(kind, bytes(32)), ICMP, addresses=there)) == StackReason.IP_INNOROUTES
    assert router.frames() == []
    router.receive(wire.ipv4(wire.icmp(8, bytes(32)), ICMP, addresses=there))
    assert len(router.frames()) == 1


def test_nobody_is_told_of_a_fragment_but_the_first() -> None:
    router = HostBench(forwarding=True)
    router.know()
    there = wire.pack_addresses("10.9.0.2", "192.0.2.1")
    router.receive(wire.ipv4(bytes(32), 17, addresses=there, fragment=0x0004))
    assert router.frames() == []
    router.receive(wire.ipv4(bytes(32), 17, addresses=there, fragment=0x2000))
    assert len(router.frames()) == 1


def complaints(host: HostBench, count: int, source: int = 2) -> int:
    addresses = bytes([10, 9, 0, source, 10, 9, 0, 1])
    for _ in range(count):
        host.receive(wire.ipv4(b"abc", 99, addresses=addresses))
    return len(host.frames())


def test_one_sender_hears_of_six_at_once_and_then_of_one_a_second() -> None:
    """Linux's icmp_ratelimit of 1000 ms with a burst of six (XRLIM_BURST_FACTOR)."""
    host = bench()
    assert complaints(host, 10) == 6
    assert host.moved()["IcmpOutRateLimitHost"] == 4
    host.run(0.9)
    assert complaints(host, 1) == 0
    host.run(0.2)
    assert complaints(host, 10) == 1
    host.run(100)
    assert complaints(host, 10) == 6


def test_all_senders_together_hear_of_fifty_at_once() -> None:
    """Linux's icmp_msgs_burst, and icmp_msgs_per_sec 1000."""
    host = bench()
    for source in range(2, 102):
        host.know(f"10.9.0.{source}")
    assert sum(complaints(host, 1, source) for source in range(2, 102)) == 50
    assert host.moved()["IcmpOutRateLimitGlobal"] == 50
    host.run(0.01)
    assert sum(complaints(host, 1, source) for source in range(2, 102)) == 10


def test_an_answer_is_not_limited() -> None:
    host = bench()
    for _ in range(100):
        host.receive(echo())
    assert len(host.frames()) == 100


# What the host hears.


class Listener:
    """Hooks for errors by protocol, which note what they are told."""

    def __init__(self, host: HostBench, found: int = 1) -> None:
        self.told: list[tuple[str, int, int, bytes]] = []
        for name in ("tcp_error", "udp_error", "ping_error"):
            setattr(host.host, name, hook(self._noting(name, host, found)))

    def _noting(self, name: str, host: HostBench, found: int) -> Any:
        def note(_host: int, offset: int, error: int, info: int) -> int:
            skb = skb_at(host.host.skb)
            self.told.append((name, error, info, bytes(load8(skb.data + offset + n) for n in range(8))))
            return found

        return note


def error(
    kind: int, code: int, *, info: int = 0, protocol: int = 17, addresses: bytes = BACK, options: bytes = b""
) -> bytes:
    quoted = wire.ipv4(b"\x0f\xa0\x00\x09\x00\x10\xab\xcd", protocol, addresses=addresses, options=options)[14:]
    return wire.ipv4(wire.icmp(kind, info.to_bytes(4, "big") + quoted, code=code), ICMP)


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        (3, 0, ERROR_NET_UNREACHABLE),
        (3, 1, ERROR_HOST_UNREACHABLE),
        (3, 2, ERROR_PROTOCOL_UNREACHABLE),
        (3, 3, ERROR_PORT_UNREACHABLE),
        (3, 5, ERROR_HOST_UNREACHABLE),
        (3, 6, ERROR_NET_UNREACHABLE),
        (3, 9, ERROR_PROHIBITED),
        (3, 10, ERROR_PROHIBITED),
        (3, 11, ERROR_NET_UNREACHABLE),
        (3, 13, ERROR_PROHIBITED),
        (11, 0, ERROR_TIME_EXCEEDED),
        (12, 0, ERROR_PARAMETER),
    ],
)
@pytest.mark.parametrize(("protocol", "name"), [(6, "tcp_error"), (17, "udp_error"), (1, "ping_error")])
def test_an_error_reaches_the_protocol_that_sent_the_packet(
    kind: int, code: int, expected: int, protocol: int, name: str
) -> None:
    host = bench()
    listener = Listener(host)
    options = bytes(8) if kind == 11 else b""
    assert host.receive(error(kind, code, protocol=protocol, options=options)) == 0
    assert listener.told == [(name, expected, 0, b"\x0f\xa0\x00\x09\x00\x10\xab\xcd")]
    assert (host.host.error_source_lo, host.host.error_target_lo) == (0xFFFF0A090001, 0xFFFF0A090002)
    assert host.frames() == []


def test_an_error_that_nobody_caused_counts_as_one() -> None:
    """Linux's tcp_v4_err and __udp4_lib_err: IcmpInErrors."""
    host = bench()
    Listener(host, found=0)
    assert host.receive(error(3, 3)) == StackReason.ICMP_INVALID
    assert host.receive(error(3, 3, protocol=47)) == StackReason.ICMP_INVALID
    assert host.moved()["IcmpInErrors"] == host.moved()["IcmpInDestUnreachs"] == 2


def test_a_link_further_on_that_takes_less_limits_the_path_for_ten_minutes() -> None:
    """RFC 1191 section 6.3."""
    host = bench()
    listener = Listener(host)
    host.receive(error(3, 4, info=1400))
    assert listener.told[0][:3] == ("udp_error", ERROR_TOO_BIG, 1400)
    assert host.send("10.9.0.2", bytes(1381), dont_fragment=1) == SEND_TOO_BIG
    assert host.send("10.9.0.2", bytes(1380), dont_fragment=1) == SENT
    assert host.send("10.9.0.3", bytes(1480), dont_fragment=1) == SENT
    host.taken()
    assert host.send("10.9.0.2", bytes(1480)) == SENT
    assert [len(frame) - 14 for frame in host.frames()] == [1396, 124]
    host.run(599)
    assert host.send("10.9.0.2", bytes(1480), dont_fragment=1) == SEND_TOO_BIG
    host.run(2)
    assert host.send("10.9.0.2", bytes(1480), dont_fragment=1) == SENT


def test_a_path_is_not_widened_by_what_comes_later() -> None:
    host = bench()
    listener = Listener(host)
    for mtu in (1400, 1450, 1300):
        host.receive(error(3, 4, info=mtu))
    assert [info for _, _, info, _ in listener.told] == [1400, 1400, 1300]


@pytest.mark.parametrize("mtu", [0, 68, 551])
def test_a_path_that_takes_very_little_gets_packets_of_552_bytes_without_df(mtu: int) -> None:
    """Linux's ip_rt_min_pmtu: who forges such errors cannot make a host send tiny packets."""
    host = bench()
    Listener(host)
    host.receive(error(3, 4, info=mtu))
    assert host.send("10.9.0.2", bytes(600), dont_fragment=1) == SENT
    frames = host.frames()
    assert [len(frame) - 14 for frame in frames] == [548, 92]
    assert frames[0][20] & 0x40 == 0


def test_a_limit_is_believed_only_for_packets_of_this_host() -> None:
    host = bench()
    Listener(host)
    foreign = wire.pack_addresses("10.9.0.7", "10.9.0.2")
    assert host.receive(error(3, 4, info=600, addresses=foreign)) == StackReason.ICMP_INVALID
    assert host.send("10.9.0.2", bytes(1480), dont_fragment=1) == SENT


def redirect(gateway: str, target: str, teller: str = "10.9.0.2") -> bytes:
    quoted = wire.ipv4(bytes(8), UDP, addresses=wire.pack_addresses("10.9.0.1", target))[14:]
    words = wire.pack_addresses(gateway, target)[:4]
    return wire.ipv4(wire.icmp(5, words + quoted, code=1), ICMP, addresses=wire.pack_addresses(teller, "10.9.0.1"))


def next_hop(host: HostBench, target: str) -> int:
    """Last byte of the station address that a packet goes to."""
    host.send(target)
    (frame,) = host.frames()
    return frame[5]


def routed(*, forwarding: bool = False) -> HostBench:
    """A host with a default route by 10.9.0.2, which knows 10.9.0.3 as well."""
    host = HostBench(forwarding=forwarding)
    for last in (2, 3, 4):
        host.know(f"10.9.0.{last}", bytes([2, 0, 0, 0, 0, last]))
    host.stack.add_route("default", via="10.9.0.2")
    return host


def test_a_redirect_from_the_next_hop_is_heeded_for_its_target_for_five_minutes() -> None:
    """RFC 1122 section 3.2.2.2; Linux forgets after gc_timeout."""
    host = routed()
    assert next_hop(host, "192.0.2.1") == 2
    assert host.receive(redirect("10.9.0.3", "192.0.2.1")) == 0
    assert next_hop(host, "192.0.2.1") == 3
    assert next_hop(host, "192.0.2.2") == 2
    host.receive(redirect("10.9.0.4", "192.0.2.1"))  # the next hop is another one by now
    assert next_hop(host, "192.0.2.1") == 3
    host.receive(redirect("10.9.0.4", "192.0.2.1", teller="10.9.0.3"))
    assert next_hop(host, "192.0.2.1") == 4
    host.run(301)
    assert next_hop(host, "192.0.2.1") == 2


def test_a_redirect_is_forgotten_when_routes_change() -> None:
    host = routed()
    host.receive(redirect("10.9.0.3", "192.0.2.1"))
    host.stack.add_route("192.0.2.0/24", via="10.9.0.4")
    assert next_hop(host, "192.0.2.1") == 4


@pytest.mark.parametrize(
    ("gateway", "target", "teller", "forwarding"),
    [
        pytest.param("10.9.0.3", "192.0.2.1", "10.9.0.4", False, id="from somebody else"),
        pytest.param("10.7.0.3", "192.0.2.1", "10.9.0.2", False, id="to another link"),
        pytest.param("10.9.0.1", "192.0.2.1", "10.9.0.2", False, id="to this host"),
        pytest.param("10.9.0.255", "192.0.2.1", "10.9.0.2", False, id="to everybody"),
        pytest.param("10.9.0.2", "192.0.2.1", "10.9.0.2", False, id="to itself"),
        pytest.param("10.9.0.3", "192.0.2.1", "10.9.0.2", True, id="by a router"),
    ],
)
def test_other_redirects_are_not_heeded(gateway: str, target: str, teller: str, forwarding: bool) -> None:
    host = routed(forwarding=forwarding)
    host.receive(redirect(gateway, target, teller))
    assert next_hop(host, "192.0.2.1") == 2


def test_the_answer_to_a_ping_goes_to_whoever_pings() -> None:
    host = bench()
    heard: list[tuple[int, int]] = []

    def note(_host: int, offset: int, size: int) -> int:
        heard.append((offset, size))
        return 0

    host.host.ping_input = hook(note)
    host.receive(wire.ipv4(wire.icmp(0, b"\x12\x34\x00\x07abc"), ICMP) + bytes(15))
    assert heard == [(34, 11)]


@given(
    kind=st.sampled_from([0, 3, 4, 5, 8, 11, 12, 13, 17, 42, 99]),
    code=st.integers(0, 16),
    body=st.binary(max_size=80),
    quoted=st.booleans(),
    at=st.integers(0, 27),
    byte=st.integers(0, 255),
)
@settings(max_examples=150, deadline=None)
def test_any_message_at_all_is_taken(kind: int, code: int, body: bytes, quoted: bool, at: int, byte: int) -> None:
    host = bench()
    if quoted:
        body = bytes(4) + put(wire.ipv4(body, 17, addresses=BACK)[14:], at, bytes([byte]))
    verdict = host.receive(wire.ipv4(wire.icmp(kind, body, code=code), ICMP))
    assert host.stack.reasons()[verdict.key] == 1
    assert len(host.frames()) <= 1
    assert host.now < SECOND
