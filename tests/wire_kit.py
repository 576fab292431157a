"""Hosts with message sockets on one wire, without IP and Ethernet: scapy's packets take some time to the other end.

The wire answers echo requests, and tells the sender when a datagram finds no port, as the layers below will. For tests
with `plain_entries`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6

from netemu.aio import AsyncHost, Names
from netemu.jit import call3
from netemu.stack.addresses import halves_text
from netemu.stack.host import ERROR_PORT_UNREACHABLE, SENT
from netemu.stack.host_stack import HostStack
from tests.aio_kit import TimerWorld
from tests.message_kit import MessageHost, Sent, packet_of

DELAY = 10_000_000
"""ns that a packet takes."""


class WireHost(MessageHost):
    """A host on a `Wire`."""

    def __init__(self, wire: Wire, number: int) -> None:
        super().__init__(f"10.0.0.{number}", f"2001:db8::{number}", wire.world.timers, wire.world.ready)
        self._wire = wire
        self.interface.ipv4 = (10 << 24) | number
        self.interface.ipv6_hi, self.interface.ipv6_lo = self.addresses[6]
        self.interfaces = [self.interface]

    def learned_addresses(self) -> list[tuple[int, int]]:
        """None: nobody advertises a prefix on this wire."""
        return []

    def _send(self, host: int, packet: int) -> int:
        result = super()._send(host, packet)
        if result == SENT:
            self._wire.carry(self, self.sent[-1])
        return result

    def _xmit(self, device: int, packet: int) -> int:
        result = super()._xmit(device, packet)
        self._wire.carry_frame(self, self.frames[-1])
        return result

    def take(self, packet: Any, sent: Sent | None) -> None:
        """A packet arrives."""
        if ICMP in packet and packet[ICMP].type == 8:
            answer = IP(src=packet.dst, dst=packet.src) / ICMP(type=0, id=packet[ICMP].id, seq=packet[ICMP].seq)
            self._wire.later(packet.src, answer / packet[ICMP].payload)
        elif ICMPv6EchoRequest in packet:
            request = packet[ICMPv6EchoRequest]
            reply = ICMPv6EchoReply(id=request.id, seq=request.seq, data=request.data)
            self._wire.later(packet.src, IPv6(src=packet.dst, dst=packet.src) / reply)
        elif ICMP in packet or ICMPv6EchoReply in packet:
            header = 20 if IP in packet else 40
            self.host.skb = self.kit.build(b"\0" * 14 + bytes(packet)).address
            call3(self.host.ping_input, self.host.address, 14 + header, len(bytes(packet)) - header)
        else:
            self.deliver(packet)
            if self.complaints and sent is not None:
                self.complaints.clear()
                self._wire.complain(packet.src, sent)


class Wire:
    """What joins the hosts."""

    def __init__(self, *numbers: int) -> None:
        self.world = TimerWorld()
        self.names = Names()
        self.hosts = [WireHost(self, number) for number in numbers]
        self.sockets = [
            AsyncHost(f"host{number}", cast("HostStack", host), self.names)
            for number, host in zip(numbers, self.hosts, strict=True)
        ]
        for one in self.sockets:
            self.names.add(one.name, lambda one=one: one.addresses)  # type: ignore[misc]
        self.spoil: Callable[[int, Any], list[Any]] = lambda _number, packet: [packet]
        """What becomes of a packet by its number: the packets that arrive in its place."""
        self._count = 0

    def _host_of(self, address: str) -> list[WireHost]:
        if address in ("255.255.255.255", "ff02::1"):
            return list(self.hosts)
        return [host for host in self.hosts if address in {halves_text(*each) for each in host.addresses.values()}]

    def carry(self, sender: WireHost, sent: Sent) -> None:
        """A packet goes out."""
        self._count += 1
        for packet in self.spoil(self._count, packet_of(sent)):
            self.later(packet.dst, packet, sent, sender)

    def later(self, target: str, packet: Any, sent: Sent | None = None, sender: WireHost | None = None) -> None:
        """A packet arrives at a host in a while."""
        for host in self._host_of(target):
            if host is not sender:
                self.world.at(self.world.now + DELAY, functools.partial(host.take, packet, sent))

    def carry_frame(self, sender: WireHost, frame: bytes) -> None:
        """A frame goes out to everybody."""
        for host in self.hosts:
            if host is not sender:
                self.world.at(self.world.now + DELAY, functools.partial(host.deliver_frame, frame))

    def complain(self, target: str, sent: Sent) -> None:
        """A port was unreachable: the sender learns of it in a while."""
        for host in self._host_of(target):
            self.world.at(self.world.now + DELAY, functools.partial(host.quote, sent, ERROR_PORT_UNREACHABLE))
