"""A `HostStack` on a bench: frames go in as bytes, what it sends is kept as bytes, time moves when a test says so.

Everything runs as plain Python, where each access to memory is checked.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from netemu.jit import allocate, call2, hook
from netemu.skb import Skb
from netemu.stack.addresses import halves, parse_address
from netemu.stack.host import Interface
from netemu.stack.host_stack import HostStack, ReadyList
from netemu.stack.packet import packet_at, packet_len, start_packet
from netemu.stack.reasons import StackReason
from netemu.timers import TimerQueue
from tests.skb_kit import SkbKit

SECOND = 1_000_000_000
MAC = bytes.fromhex("020000000001")
PEER_MAC = bytes.fromhex("020000000002")


@dataclass(frozen=True)
class Sent:
    """One packet that a host gave to an interface."""

    data: bytes
    interface: int
    """Index of the interface, from 1."""
    partial: int
    """1: the checksum is left to the device, ``start`` and ``offset`` say where it is."""
    start: int
    offset: int
    gso_size: int
    gso_type: int


def packet_of(packet: int, interface: int) -> Sent:
    """A `Packet` that was given to an interface, with its bytes."""
    p = packet_at(packet)
    head = ctypes.string_at(p.data, p.transport + p.transport_len - p.data)
    tail = ctypes.string_at(p.payload, p.payload_len) if p.payload_len else b""
    tail += ctypes.string_at(p.more, p.more_len) if p.more_len else b""
    assert len(head + tail) == packet_len(packet)
    return Sent(head + tail, interface, p.partial, p.transport - p.data, p.check, p.gso_size, p.gso_type)


_BENCHES: dict[int, HostBench] = {}


def _record(device: int, packet: int) -> int:
    """The ``xmit`` of all benches' interfaces: ``device`` is a bench's number times 64, and the interface's index."""
    bench = _BENCHES[device // 64]
    if bench.full:
        return 0
    bench.sent.append(packet_of(packet, device % 64))
    return 1


class HostBench:
    """One host with one interface, eth0, and an address."""

    def __init__(
        self,
        address: str | None = "10.9.0.1/24",
        *,
        mac: bytes = MAC,
        mtu: int = 1500,
        offloads: int = 0,
        forwarding: bool = False,
        seed: int = 1,
    ) -> None:
        self.number = len(_BENCHES)
        _BENCHES[self.number] = self
        self.queue = TimerQueue(4096)
        self.ready = ReadyList(64)
        self.stack = HostStack(self.queue.struct, self.ready, seed=seed, forwarding=forwarding, plain=True)
        self.host = self.stack.host
        self.sent: list[Sent] = []
        self.full = False
        """True: the interfaces take nothing."""
        self.skbs = SkbKit()
        self.eth0 = self.interface(mac, address, mtu=mtu, offloads=offloads)

    def interface(self, mac: bytes, address: str | None = None, *, mtu: int = 1500, offloads: int = 0) -> Interface:
        """One more interface."""
        device = self.number * 64 + self.host.interface_count + 1
        interface = self.stack.add_interface(mac, hook(_record), device, mtu=mtu, offloads=offloads)
        if address is not None:
            self.stack.add_address(interface, address)
        return interface

    @property
    def now(self) -> int:
        """ns."""
        return self.queue.struct.now

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.queue.run_until(self.now + round(seconds * SECOND))

    def skb(self, frame: bytes, **layout: Any) -> Skb:
        """An skb of a frame (`SkbKit.build`), addressed as the frame says."""
        skb = self.skbs.build(frame, **layout)
        own = [interface.mac.to_bytes(6, "big") for interface in self.stack.interfaces]
        if skb.pkt_type == 0 and frame[:6] not in own:
            skb.pkt_type = 3
        return skb

    def receive(self, frame: bytes, interface: Interface | None = None, **layout: Any) -> StackReason:
        """Take a frame; the verdict."""
        return self.take(self.skb(frame, **layout), interface)

    def take(self, skb: Skb, interface: Interface | None = None) -> StackReason:
        """Take an skb; the verdict."""
        return StackReason(call2(self.stack.deliver, (interface or self.eth0).address, skb.address))

    def taken(self) -> list[Sent]:
        """What was sent since the last call."""
        sent, self.sent = self.sent, []
        return sent

    def frames(self) -> list[bytes]:
        """The bytes of what was sent since the last call."""
        return [one.data for one in self.taken()]

    def moved(self) -> dict[str, int]:
        """The counters that are not 0."""
        return {name: value for name, value in self.stack.snmp().items() if value}

    def send(
        self,
        target: str,
        payload: bytes = b"",
        *,
        protocol: int = 17,
        header: bytes = b"",
        check: int = -1,
        split: int | None = None,
        **fields: int,
    ) -> int:
        """Send a packet by `Host.send`: transport ``header``, then ``payload``, in two pieces if ``split`` says where.

        ``check`` is the offset of its checksum; ``fields`` are of `Packet`. What `Host.send` gives.
        """
        packet = self.host.packet
        at = start_packet(packet, protocol, len(header))
        ctypes.memmove(at, header, len(header))
        p = packet_at(packet)
        first = payload[:split] if split is not None else payload
        rest = payload[len(first) :]
        blocks = [allocate(len(part) or 1) for part in (first, rest)]
        for block, part in zip(blocks, (first, rest), strict=True):
            block.array[: len(part)] = bytearray(part)
        p.payload, p.payload_len = blocks[0].address, len(first)
        p.more, p.more_len = blocks[1].address, len(rest)
        p.target_hi, p.target_lo = halves(parse_address(target))
        p.check = check
        for name, value in fields.items():
            setattr(p, name, value)
        return call2(self.host.send, self.host.address, packet)

    def know(self, address: str = "10.9.0.2", mac: bytes = PEER_MAC, interface: Interface | None = None) -> None:
        """A neighbour whose station address is known for good."""
        self.stack.ip.add_neighbour(interface or self.eth0, address, mac)
