"""Hosts with message sockets and without the layers below: what they send is recorded, what they get is made by scapy.

For tests with `plain_entries`.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from netemu.chance import seeded
from netemu.jit import array_of, call4, hook
from netemu.jit.memory import LEDGER
from netemu.stack import ProtocolStack
from netemu.stack.addresses import ANY, Halves, halves_of, halves_text
from netemu.stack.deliver import host_deliver
from netemu.stack.host import SENT, Host, Interface
from netemu.stack.host_stack import ReadyList
from netemu.stack.messages.ping_and_raw import PingSockets, RawSockets
from netemu.stack.packet import PacketBuffer, packet_at
from netemu.stack.udp.sockets import UdpSockets
from netemu.timers import TimerQueue
from tests.skb_kit import SkbKit

MAC = "02:00:00:00:00:01"
PEER_MAC = "02:00:00:00:00:02"


def bytes_at(address: int, size: int) -> bytes:
    """Bytes that kernels may read."""
    LEDGER.check_span(address, size)
    return ctypes.string_at(address, size)


class Sent(NamedTuple):
    """A packet as a host handed it down to IP."""

    protocol: int
    source: Halves
    target: Halves
    data: bytes
    """Transport header and payload."""
    check: int
    hop_limit: int
    traffic_class: int
    dont_fragment: int


class MessageHost:
    """A host with the tables of UDP, ping and raw sockets, whose IP is a recording."""

    def __init__(
        self,
        ip: str = "10.0.0.1",
        ip6: str = "2001:db8::1",
        timers: TimerQueue | None = None,
        ready: ReadyList | None = None,
    ) -> None:
        self.addresses = {4: halves_of(ip), 6: halves_of(ip6)}
        self.timers = timers or TimerQueue(1 << 10)
        self.ready = ready or ReadyList(64)
        self.stack = ProtocolStack(promiscuous=False, any_port=False)
        self.kit = SkbKit()
        self._packet = PacketBuffer()
        self._interfaces = array_of(Interface, 1)
        self.interface = self._interfaces[0]
        self.host = Host(
            stack=self.stack.address,
            timers=self.timers.struct.address,
            ready=self.ready.struct.address,
            packet=self._packet.address,
            random=seeded(1),
            interfaces=self._interfaces.address,
            interface_count=1,
            send=hook(self._send),
            route=hook(self._route),
        )
        self.interface.host = self.host.address
        self.interface.index, self.interface.mtu, self.interface.up = 1, 1500, 1
        self.interface.xmit = hook(self._xmit)
        self.stack.struct.host = self.host.address
        self.stack.struct.icmp_send = self.stack.struct.icmp6_send = hook(self._icmp_send)
        self.udp = UdpSockets(self.host, self.stack.struct)
        self.ping = PingSockets(self.host)
        self.raw = RawSockets(self.host)
        self.sent: list[Sent] = []
        self.frames: list[bytes] = []
        self.complaints: list[tuple[int, int, int]] = []
        self.answer = SENT
        """What sending comes to."""

    def _send(self, _host: int, packet: int) -> int:
        if self.answer != SENT:
            return self.answer
        p = packet_at(packet)
        data = bytes_at(p.transport, p.transport_len) + bytes_at(p.payload, p.payload_len)
        self._route(_host, packet)
        source, target = (p.source_hi, p.source_lo), (p.target_hi, p.target_lo)
        self.sent.append(Sent(p.protocol, source, target, data, p.check, p.hop_limit, p.traffic_class, p.dont_fragment))
        return SENT

    def _route(self, _host: int, packet: int) -> int:
        p = packet_at(packet)
        if self.answer == SENT and (p.source_hi, p.source_lo) == ANY:
            version = 4 if p.target_hi == 0 and p.target_lo >> 32 == 0xFFFF else 6
            p.source_hi, p.source_lo = self.addresses[version]
        return self.answer

    def _xmit(self, _device: int, packet: int) -> int:
        p = packet_at(packet)
        head = bytes_at(p.data, p.transport + p.transport_len - p.data)
        self.frames.append(head + bytes_at(p.payload, p.payload_len))
        return 1

    def _icmp_send(self, _host: int, kind: int, code: int, info: int) -> int:
        self.complaints.append((kind, code, info))
        return 0

    def deliver(self, packet: Any, pieces: tuple[int, ...] = (), linear: int | None = None) -> int:
        """A scapy packet from IP on comes in; the stack's verdict."""
        target = MAC
        if isinstance(packet, IP) and packet.dst.endswith(".255"):
            target = "ff:ff:ff:ff:ff:ff"
        return self.deliver_frame(bytes(Ether(src=PEER_MAC, dst=target) / packet), pieces, linear)

    def deliver_frame(self, frame: bytes, pieces: tuple[int, ...] = (), linear: int | None = None) -> int:
        """A frame comes in; the stack's verdict."""
        skb = self.kit.build(frame, linear, pieces)
        return int(host_deliver(self.interface.address, skb.address))

    def quote(self, sent: Sent, error: int, info: int = 0, protocol_hook: str = "udp_error") -> int:
        """ICMP tells of a packet that was sent: what the layer below does then."""
        skb = self.kit.build(b"\0" * 14 + sent.data[:8])
        self.host.skb = skb.address
        self.host.error_source_hi, self.host.error_source_lo = sent.source
        self.host.error_target_hi, self.host.error_target_lo = sent.target
        return call4(getattr(self.host, protocol_hook), self.host.address, 14, error, info)


def packet_of(sent: Sent) -> Any:
    """What was sent, behind an IP header, as scapy dissects it; a checksum that is left to others is made by scapy."""
    source, target = halves_text(*sent.source), halves_text(*sent.target)
    data = Raw(sent.data)
    packet: Any
    if sent.target[0] == 0 and sent.target[1] >> 32 == 0xFFFF:
        packet = IP(bytes(IP(src=source, dst=target, proto=sent.protocol, ttl=sent.hop_limit or 64) / data))
    else:
        packet = IPv6(bytes(IPv6(src=source, dst=target, nh=sent.protocol, hlim=sent.hop_limit or 64) / data))
    if sent.check >= 0:
        upper = packet.payload
        for name in ("chksum", "cksum"):
            if name in upper.fields:
                del upper.fields[name]
        upper.raw_packet_cache = None
        packet = type(packet)(bytes(packet))
    return packet
