"""DHCP messages (RFC 2131, RFC 2132), put together and taken apart by scapy."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from typing import Any

SERVER_PORT = 67
CLIENT_PORT = 68
BROADCAST = "255.255.255.255"
NOWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound to it

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
"""Message types (RFC 2132 section 9.6)."""
NAMES = ("", "discover", "offer", "request", "decline", "ack", "nak", "release", "inform")

_BOOTREQUEST, _BOOTREPLY = 1, 2
_BROADCAST_FLAG = 0x8000
_MAC_SIZE = 6
_SHORTEST = 240
"""Bytes of the fixed fields and the magic cookie."""
_ADDRESSES = {"subnet_mask", "router", "name_server", "requested_addr", "server_id"}


@dataclass
class DhcpMessage:
    """What a message says. Addresses are as they are written; times are in seconds."""

    kind: int
    xid: int
    mac: bytes
    """The client's station address."""
    ciaddr: str = NOWHERE
    """The address that the client has, and answers at."""
    yiaddr: str = NOWHERE
    """The address that is offered, or given."""
    broadcast: bool = False
    """The client takes answers to everybody only."""
    options: dict[str, Any] = field(default_factory=dict)
    """By scapy's names: ``router``, ``name_server``, ``lease_time`` ... A list where there are several addresses."""

    def pack(self) -> bytes:
        """The bytes of a UDP datagram."""
        from scapy.layers.dhcp import BOOTP, DHCP  # noqa: PLC0415 - takes long to load

        request = self.kind in (DISCOVER, REQUEST, DECLINE, RELEASE, INFORM)
        header = BOOTP(
            op=_BOOTREQUEST if request else _BOOTREPLY,
            xid=self.xid,
            flags=_BROADCAST_FLAG if self.broadcast else 0,
            ciaddr=self.ciaddr,
            yiaddr=self.yiaddr,
            chaddr=self.mac + bytes(16 - _MAC_SIZE),
        )
        options = [(name, *value) if isinstance(value, list) else (name, value) for name, value in self.options.items()]
        return bytes(header / DHCP(options=[("message-type", self.kind), *options, "end"]))

    def address(self, name: str) -> str | None:
        """An option that is an address, or the first of several; None without it."""
        value = self.options.get(name)
        if isinstance(value, list):
            value = value[0] if value else None
        return value if isinstance(value, str) else None

    def seconds(self, name: str) -> int | None:
        """An option that is a time."""
        value = self.options.get(name)
        return value if isinstance(value, int) else None


def parse(data: bytes) -> DhcpMessage | None:
    """The message in a datagram; None if there is none."""
    from scapy.error import Scapy_Exception  # noqa: PLC0415 - takes long to load
    from scapy.layers.dhcp import BOOTP, DHCP  # noqa: PLC0415

    if len(data) < _SHORTEST:
        return None
    try:
        packet = BOOTP(data)
        if DHCP not in packet or packet.hlen != _MAC_SIZE:
            return None
        options = _options(packet[DHCP].options)
    except (Scapy_Exception, struct.error, ValueError, IndexError, TypeError, KeyError, OSError):
        return None  # scapy raises what it comes across
    kind = options.pop("message-type", None)
    if not isinstance(kind, int) or not DISCOVER <= kind <= INFORM:
        return None
    return DhcpMessage(
        kind=kind,
        xid=packet.xid,
        mac=bytes(packet.chaddr)[:_MAC_SIZE],
        ciaddr=packet.ciaddr,
        yiaddr=packet.yiaddr,
        broadcast=bool(int(packet.flags) & _BROADCAST_FLAG),
        options=options,
    )


def _options(found: list[Any]) -> dict[str, Any]:
    """The options that are well formed, by name; addresses as text."""
    options: dict[str, Any] = {}
    for option in found:
        if not isinstance(option, tuple) or len(option) < 2 or not isinstance(option[0], str):
            continue
        name, values = option[0], list(option[1:])
        if name in _ADDRESSES:
            values = [value for value in values if isinstance(value, str) and _is_ipv4(value)]
        if values:
            options[name] = values if len(values) > 1 else values[0]
    return options


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
