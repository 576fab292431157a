"""A packet on its way down: each layer puts its header in front of what the layer above gave it.

Theory of operation
-------------------
Headers are put together in a small buffer from back to front: the transport protocol writes its own at ``transport``,
IP in front of it, Ethernet in front of that, each moving ``data`` down. The payload stays where it lies, in up to two
pieces (a socket's buffer is a ring), until the interface copies it into guest memory.

The transport's checksum field is the business of the layer below: it holds the pseudo-header's sum, for a device that
does the rest, or is finished in software (`netemu.stack.ipv4.output`).
"""

from __future__ import annotations

from netemu.jit import Buffer, Struct, allocate, i64, kernel, memcpy, pointer, store16be, store32be, struct

ETH_HLEN = 14
HEADROOM = 192
"""Bytes in front of the transport header: Ethernet with tags, IP with options or extension headers."""
HEADER_ROOM = HEADROOM + 128
"""Bytes of the buffer: the longest TCP header has 60, ICMP errors quote up to 128 from elsewhere."""


@struct
class Packet(Struct):
    """A packet in the making. Addresses are host addresses, lengths bytes."""

    headers: i64
    """HEADER_ROOM bytes."""
    data: i64
    """First header byte there is."""
    transport: i64
    """Where the transport header begins: always ``headers + HEADROOM``."""
    transport_len: i64
    """Bytes of the transport header."""
    payload: i64
    payload_len: i64
    more: i64
    more_len: i64
    """The payload goes on there: where a ring begins anew."""
    protocol: i64
    """IPPROTO_..., of the transport."""
    kind: i64
    """EtherType; set by IP."""
    source_hi: i64
    source_lo: i64
    """Both 0: the address of the interface it leaves by."""
    target_hi: i64
    target_lo: i64
    check: i64
    """Offset in the transport header of a checksum over pseudo-header, header and payload; -1: none is to be made."""
    partial: i64
    """1: the checksum is left to the device (set below)."""
    gso_size: i64
    """Payload bytes of each segment that the device is to cut; 0: it is one packet."""
    gso_type: i64
    """virtio numbering, as in an skb; set below."""
    hop_limit: i64
    """TTL; 0: the default."""
    traffic_class: i64
    """TOS with ECN."""
    dont_fragment: i64
    """1: a packet over the path's MTU is refused (SEND_TOO_BIG), DF is set; 0: it is sent in fragments."""
    interface: i64
    """Address of the `Interface` it leaves by; 0: by the route."""
    next_hop_hi: i64
    next_hop_lo: i64
    """Set by routing: the neighbour it is sent to."""
    path_mtu: i64
    """Set by routing: bytes of the longest IP packet on this path as far as known."""
    routed: i64
    """1: routing has set interface, source, next hop and path MTU; `Host.send` does not ask again."""
    cast: i64
    """Set by routing: UNICAST, MULTICAST or BROADCAST (`netemu.stack.state`)."""
    confirm: i64
    """1: the peer was heard of lately (TCP made progress), so the next hop is alive (RFC 4861 section 7.3.1)."""


packet_at = pointer(Packet)


@kernel
def start_packet(packet: i64, protocol: i64, transport_len: i64) -> i64:
    """Begin a packet without payload and addresses; host address of its transport header, whose bytes are undefined."""
    p = packet_at(packet)
    p.data = p.transport
    p.transport_len = transport_len
    p.payload_len = 0
    p.more_len = 0
    p.protocol = protocol
    p.source_hi = 0
    p.source_lo = 0
    p.check = -1
    p.partial = 0
    p.gso_size = 0
    p.gso_type = 0
    p.hop_limit = 0
    p.traffic_class = 0
    p.dont_fragment = 0
    p.interface = 0
    p.routed = 0
    p.confirm = 0
    return p.transport


@kernel
def take_way(part: Packet, whole: Packet) -> None:
    """Send a part of a packet the way that routing found for the whole."""
    part.interface = whole.interface
    part.cast = whole.cast
    part.confirm = whole.confirm
    part.target_hi = whole.target_hi
    part.target_lo = whole.target_lo
    part.next_hop_hi = whole.next_hop_hi
    part.next_hop_lo = whole.next_hop_lo


@kernel
def packet_len(packet: i64) -> i64:
    """Bytes from the first header there is to the end of the payload."""
    p = packet_at(packet)
    return p.transport + p.transport_len - p.data + p.payload_len + p.more_len


@kernel
def copy_packet(p: Packet, target: i64) -> None:
    """Copy a packet, all `packet_len` bytes of it, to host ``target``: headers, and the payload in its two pieces."""
    head = p.transport + p.transport_len - p.data
    memcpy(target, p.data, head)
    memcpy(target + head, p.payload, p.payload_len)
    if p.more_len > 0:
        memcpy(target + head + p.payload_len, p.more, p.more_len)


@kernel
def push_ethernet(p: Packet, target: i64, source: i64) -> None:
    """Put an Ethernet header in front: both station addresses as numbers, ``p.kind`` as EtherType."""
    p.data -= ETH_HLEN
    store16be(p.data, target >> 32)
    store32be(p.data + 2, target)
    store16be(p.data + 6, source >> 32)
    store32be(p.data + 8, source)
    store16be(p.data + 12, p.kind)


class PacketBuffer:
    """A `Packet` together with the memory of its headers."""

    def __init__(self) -> None:
        self._headers: Buffer = allocate(HEADER_ROOM)
        self.struct = Packet(headers=self._headers.address, transport=self._headers.address + HEADROOM)

    @property
    def address(self) -> int:
        """For a kernel."""
        return self.struct.address
