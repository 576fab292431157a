"""ICMP of a host that talks (RFC 792, RFC 1122 section 3.2.2): what it answers, and what it complains of."""

from __future__ import annotations

import pytest

from tests import wire
from tests.host_kit import HostBench

ICMP = 1
BACK = wire.pack_addresses("10.9.0.1", "10.9.0.2")


def echo(payload: bytes) -> bytes:
    return wire.ipv4(wire.icmp(8, b"\x12\x34\x00\x07" + payload), ICMP)


@pytest.mark.parametrize("size", [0, 1, 56, 57, 1472])
def test_an_echo_comes_back_with_its_own_bytes(size: int) -> None:
    bench = HostBench()
    bench.know()
    payload = bytes(range(256)) * 6
    assert bench.receive(echo(payload[:size])) == 0
    (frame,) = bench.frames()
    assert frame[:14] == bytes.fromhex("020000000002 020000000001 0800")
    assert frame[14 + 20 :] == wire.icmp(0, b"\x12\x34\x00\x07" + payload[:size])
    assert frame[22:24] == b"\x40\x01"  # TTL 64, ICMP
    assert frame[26:34] == BACK
    assert wire.internet_checksum(frame[14:34]) == 0
    assert bench.moved()["IcmpOutEchoReps"] == bench.moved()["IcmpOutMsgs"] == bench.moved()["IpOutRequests"] == 1
