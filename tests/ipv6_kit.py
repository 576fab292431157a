"""Frames of ICMPv6 and neighbour discovery made with the standard library alone, and a host with IPv6 that is ready."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

from tests import wire
from tests.host_kit import MAC, PEER_MAC, HostBench
from tests.wire import ICMPV6, internet_checksum, pseudo

HOST, PEER = "2001:db8:9::1", "2001:db8:9::2"
HOST_LINK = "fe80::ff:fe00:1"
"""Of MAC 02:00:00:00:00:01: the universal bit turned, ff fe in the middle (RFC 4291 appendix A)."""
PEER_LINK = "fe80::ff:fe00:2"
ALL_NODES, ALL_ROUTERS, MLD_ROUTERS = "ff02::1", "ff02::2", "ff02::16"

SOLICIT, ADVERTISE = 135, 136
ROUTER, SOLICITED, OVERRIDE = 0x80000000, 0x40000000, 0x20000000


def packed(address: str) -> bytes:
    return ipaddress.IPv6Address(address).packed


def group_mac(address: str) -> bytes:
    """RFC 2464 section 7."""
    return b"\x33\x33" + packed(address)[12:]


def solicited_node(address: str) -> str:
    """RFC 4291 section 2.7.1; HOST and HOST_LINK have the same."""
    return str(ipaddress.IPv6Address(packed("ff02::1:ff00:0")[:13] + packed(address)[13:]))


def link_option(kind: int, mac: bytes) -> bytes:
    return bytes([kind, 1]) + mac


def message(
    kind: int, body: bytes, source: str, target: str, *, code: int = 0, hop_limit: int = 255, dst: bytes | None = None
) -> bytes:
    """A frame with an ICMPv6 message; ``body`` is what follows the checksum."""
    addresses = packed(source) + packed(target)
    data = bytes([kind, code, 0, 0]) + body
    total = internet_checksum(pseudo(addresses, ICMPV6, len(data)) + data)
    data = data[:2] + struct.pack(">H", total) + data[4:]
    if dst is None:
        dst = group_mac(target) if packed(target)[0] == 0xFF else MAC
    return wire.ipv6(data, ICMPV6, addresses=addresses, hop_limit=hop_limit, dst=dst)


def solicitation(
    target: str = HOST,
    source: str = PEER,
    to: str | None = None,
    options: bytes | None = None,
    *,
    code: int = 0,
    hop_limit: int = 255,
) -> bytes:
    """A neighbour solicitation, to the solicited-node group unless told otherwise."""
    options = link_option(1, PEER_MAC) if options is None else options
    body = bytes(4) + packed(target) + options
    return message(SOLICIT, body, source, to or solicited_node(target), code=code, hop_limit=hop_limit)


def advertisement(
    target: str = PEER,
    source: str = PEER,
    to: str = HOST,
    flags: int = SOLICITED | OVERRIDE,
    mac: bytes | None = PEER_MAC,
) -> bytes:
    """A neighbour advertisement."""
    options = b"" if mac is None else link_option(2, mac)
    return message(ADVERTISE, struct.pack(">I", flags) + packed(target) + options, source, to)


def prefix_option(prefix: str, *, valid: int = 3600, preferred: int = 1800, flags: int = 0xC0) -> bytes:
    network = ipaddress.IPv6Network(prefix)
    return struct.pack(">BBBBIII", 3, 4, network.prefixlen, flags, valid, preferred, 0) + network.network_address.packed


def router_advertisement(
    options: bytes = b"", *, lifetime: int = 1800, hop_limit: int = 64, source: str = PEER_LINK, limit: int = 255
) -> bytes:
    body = struct.pack(">BBHII", hop_limit, 0, lifetime, 0, 0) + options
    return message(134, body, source, ALL_NODES, hop_limit=limit)


@dataclass(frozen=True)
class Seen:
    """An IPv6 frame taken apart by struct alone."""

    dst: bytes
    src: bytes
    hop_limit: int
    next_header: int
    source: str
    target: str
    payload: bytes
    label: int
    traffic_class: int

    @property
    def kind(self) -> int:
        """Of an ICMPv6 message."""
        assert self.next_header == ICMPV6
        return self.payload[0]

    @property
    def checksum_right(self) -> bool:
        """Whether the ICMPv6, UDP or TCP checksum is the one that RFC 8200 section 8.1 wants."""
        addresses = packed(self.source) + packed(self.target)
        return internet_checksum(pseudo(addresses, self.next_header, len(self.payload)) + self.payload) == 0


def seen(frame: bytes) -> Seen:
    assert frame[12:14] == b"\x86\xdd"
    first, length, following, hop_limit = struct.unpack(">IHBB", frame[14:22])
    assert first >> 28 == 6
    assert length == len(frame) - 54
    return Seen(
        frame[:6],
        frame[6:12],
        hop_limit,
        following,
        str(ipaddress.IPv6Address(frame[22:38])),
        str(ipaddress.IPv6Address(frame[38:54])),
        frame[54:],
        first & 0xFFFFF,
        first >> 20 & 0xFF,
    )


class SixBench(HostBench):
    """A host with the address HOST, whose duplicate address detection and search for routers are over."""

    def __init__(self, *, ready: bool = True, forwarding: bool = False, offloads: int = 0, mtu: int = 1500) -> None:
        super().__init__(None, forwarding=forwarding, offloads=offloads, mtu=mtu)
        self.stack.enable_ipv6(self.eth0)
        self.stack.add_address(self.eth0, f"{HOST}/64")
        if ready:
            self.run(15)
            self.frames()

    def packets(self) -> list[Seen]:
        """What was sent since the last call."""
        return [seen(frame) for frame in self.frames()]

    def state(self, address: str) -> str | None:
        """The state of one of the host's addresses; None: it has no such."""
        for entry in self.stack.ip6.addresses():
            if entry.address.ip == ipaddress.IPv6Address(address):
                return entry.state
        return None

    def neighbour(self, address: str) -> tuple[str | None, str] | None:
        """Station address and state of a neighbour; None: the host has no entry."""
        for entry in self.stack.ip.neighbour_list():
            if entry.address == ipaddress.IPv6Address(address):
                return entry.mac, entry.state
        return None
