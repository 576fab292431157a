"""Build the captures of this folder that hold made-up traffic, with scapy.

Every frame, address and timestamp is fixed, so that two runs write the same bytes: ``build.py`` writes the files
beside itself, ``build.py --check`` builds them in memory and says which of them on disk differ. README.md tells what
each file is for.

scapy builds the frames only. The files around them are written here with ``struct``: scapy's writers cannot set the
time resolution of an interface, and netemu's own are what these files are tried on.

Sources: RFC 768, 791, 792, 826, 2675, 4443, 4861, 8200, 9293; IEEE 802.1Q and 802.3; the Internet drafts
draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import argparse
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scapy.layers.dns import DNS, DNSQR, DNSRR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    Jumbo,
    in6_chksum,
)
from scapy.layers.l2 import ARP, LLC, SNAP, STP, Dot1AD, Dot1Q, Dot3, Ether

HERE = Path(__file__).resolve().parent

MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"  # locally administered
IP_A, IP_B = "192.0.2.1", "192.0.2.2"  # documentation: RFC 5737
IP6_A, IP6_B = "2001:db8::1", "2001:db8::2"  # documentation: RFC 3849
BROADCAST = "ff:ff:ff:ff:ff:ff"
LOCAL_EXPERIMENT = 0x88B5  # IEEE 802: EtherType for local experiments, so no dissector looks into the rest

START_NS = 1_700_000_000 * 10**9  # 2023-11-14 22:13:20 UTC
STEP_NS = 1_000_000

LINKTYPE_ETHERNET = 1


# The files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """A frame as a capture file holds it: ``data`` may be a part of the ``length`` bytes that were on the wire."""

    data: bytes
    time_ns: int
    length: int
    interface: int = 0


@dataclass(frozen=True)
class Interface:
    """An interface of a pcapng file; ``tsresol`` and ``tsoffset`` are left out of the file when None.

    ``tsresol`` is the option's byte: n stands for 10**-n seconds, 0x80 + n for 2**-n; without it, microseconds count.
    ``tsoffset`` is in seconds, and a reader adds it to every timestamp of the interface.
    """

    name: str
    tsresol: int | None = None
    tsoffset: int | None = None
    snaplen: int = 0

    def ticks(self, time_ns: int) -> int:
        """``time_ns`` in the units of this interface, rounded down."""
        code = 6 if self.tsresol is None else self.tsresol
        units: int = 2 ** (code & 0x7F) if code & 0x80 else 10**code
        return (time_ns - (self.tsoffset or 0) * 10**9) * units // 10**9


def timed(frames: Iterable[bytes], step_ns: int = STEP_NS) -> list[Frame]:
    """Whole frames, ``step_ns`` nanoseconds apart."""
    return [Frame(data, START_NS + i * step_ns, len(data)) for i, data in enumerate(frames)]


def pcap(frames: Iterable[Frame], *, order: str = "<", nanoseconds: bool = False, snaplen: int = 262144) -> bytes:
    """A classic pcap file; ``order`` is the struct prefix of its byte order."""
    magic, unit = (0xA1B23C4D, 1) if nanoseconds else (0xA1B2C3D4, 1000)
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, LINKTYPE_ETHERNET)]
    for frame in frames:
        seconds, rest = divmod(frame.time_ns, 10**9)
        out += [struct.pack(order + "IIII", seconds, rest // unit, len(frame.data), frame.length), frame.data]
    return b"".join(out)


def pcapng(frames: Iterable[Frame], interfaces: list[Interface], *, order: str = "<") -> bytes:
    """A pcapng file of one section; the section header has no options, so it names no machine and no program."""

    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    def block(kind: int, body: bytes) -> bytes:
        total = struct.pack(order + "I", 12 + len(body))
        return struct.pack(order + "I", kind) + total + body + total

    def option(code: int, value: bytes) -> bytes:
        return struct.pack(order + "HH", code, len(value)) + padded(value)

    out = [block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))]
    for interface in interfaces:
        options = option(2, interface.name.encode())
        if interface.tsresol is not None:
            options += option(9, bytes([interface.tsresol]))
        if interface.tsoffset is not None:
            options += option(14, struct.pack(order + "q", interface.tsoffset))
        body = struct.pack(order + "HHI", LINKTYPE_ETHERNET, 0, interface.snaplen)
        out.append(block(1, body + options + option(0, b"")))
    for frame in frames:
        high, low = divmod(interfaces[frame.interface].ticks(frame.time_ns), 2**32)
        header = struct.pack(order + "IIIII", frame.interface, high, low, len(frame.data), frame.length)
        out.append(block(6, header + padded(frame.data)))
    return b"".join(out)


# Parts of frames -----------------------------------------------------------------------------------------------------


def marked(size: int) -> bytes:
    """``size`` payload bytes that tell their own place: each 4 bytes hold their offset, big-endian."""
    words = b"".join(struct.pack(">I", offset) for offset in range(0, size, 4))
    return words[:size]


def ether(there: bool = True, **fields: Any) -> Any:
    """An Ethernet header from host A to host B, or back."""
    src, dst = (MAC_A, MAC_B) if there else (MAC_B, MAC_A)
    return Ether(**{"src": src, "dst": dst, **fields})


def ipv4(there: bool = True, **fields: Any) -> Any:
    """An IPv4 header from host A to host B, or back."""
    src, dst = (IP_A, IP_B) if there else (IP_B, IP_A)
    return IP(**{"src": src, "dst": dst, "id": 1, **fields})


def ipv6(there: bool = True, **fields: Any) -> Any:
    """An IPv6 header from host A to host B, or back."""
    src, dst = (IP6_A, IP6_B) if there else (IP6_B, IP6_A)
    return IPv6(**{"src": src, "dst": dst, **fields})


def udp(**fields: Any) -> Any:
    """A UDP header, port 40000 to 9 (discard)."""
    return UDP(**{"sport": 40000, "dport": 9, **fields})


def tcp(sport: int = 40080, dport: int = 80, **fields: Any) -> Any:
    """A TCP header, from a client's port to 80 unless told otherwise."""
    return TCP(**{"sport": sport, "dport": dport, "flags": "PA", "seq": 1, "ack": 1, "window": 64240, **fields})


def pseudo_header_sum(protocol: int, length: int) -> bytes:
    """What Linux leaves in the checksum field for a network card to finish: the IPv4 pseudo-header's folded sum."""
    words = struct.unpack(">4H", socket.inet_aton(IP_A) + socket.inet_aton(IP_B))
    total = sum(words) + protocol + length
    return struct.pack(">H", total % 65536 + total // 65536)


def patched(frame: bytes, offset: int, value: bytes) -> bytes:
    """``frame`` with the bytes at ``offset`` replaced, and nothing else: how a fault is put into a right frame."""
    return frame[:offset] + value + frame[offset + len(value) :]


def flipped(frame: bytes, offset: int) -> bytes:
    """``frame`` with the 16-bit word at ``offset`` inverted: a checksum that is wrong for certain."""
    return patched(frame, offset, bytes(byte ^ 0xFF for byte in frame[offset : offset + 2]))


# The captures --------------------------------------------------------------------------------------------------------


def basics() -> bytes:
    """One exchange each of ARP, ICMP, UDP, TCP, NDP, ICMPv6, UDP over IPv6 and DNS, without a fault."""
    answer_a = DNSRR(rrname="host.example", type="A", ttl=300, rdata=IP_B)
    answer_aaaa = DNSRR(rrname="host.example", type="AAAA", ttl=300, rdata=IP6_B)
    ask_a, ask_aaaa = (DNSQR(qname="host.example", qtype=qtype) for qtype in ("A", "AAAA"))
    query, reply = UDP(sport=40053, dport=53), UDP(sport=53, dport=40053)
    told_a = DNS(id=1, qr=1, aa=1, rd=1, qd=ask_a, an=answer_a)
    told_aaaa = DNS(id=2, qr=1, aa=1, rd=1, qd=ask_aaaa, an=answer_aaaa)
    client, server = 1000, 5000

    def segment(there: bool, flags: str, seq: int, ack: int, **fields: Any) -> Any:
        ports = (40080, 80) if there else (80, 40080)
        return ether(there) / ipv4(there, flags="DF") / tcp(*ports, flags=flags, seq=seq, ack=ack, **fields)

    syn_options = [("MSS", 1460), ("NOP", None), ("WScale", 7), ("NOP", None), ("NOP", None), ("SAckOK", b"")]
    request, response = b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n"
    asked, told = client + 1 + len(request), server + 1 + len(response)
    frames = [
        # ARP: the question as its sender sees it, the answer as it comes from a wire, padded to 60 bytes
        ether(dst=BROADCAST) / ARP(op="who-has", hwsrc=MAC_A, psrc=IP_A, pdst=IP_B),
        bytes(ether(False) / ARP(op="is-at", hwsrc=MAC_B, psrc=IP_B, hwdst=MAC_A, pdst=IP_A)).ljust(60, b"\0"),
        ether() / ipv4() / ICMP(type="echo-request", id=1, seq=1) / marked(56),
        ether(False) / ipv4(False) / ICMP(type="echo-reply", id=1, seq=1) / marked(56),
        ether() / ipv4() / UDP(sport=40007, dport=7) / marked(32),
        ether(False) / ipv4(False) / UDP(sport=7, dport=40007) / marked(32),
        ether() / ipv4() / UDP(sport=40007, dport=7, chksum=0) / marked(31),  # no checksum: legal over IPv4
        segment(True, "S", client, 0, options=syn_options),
        segment(False, "SA", server, client + 1, options=syn_options),
        segment(True, "A", client + 1, server + 1),
        segment(True, "PA", client + 1, server + 1) / request,
        segment(False, "PA", server + 1, asked) / response,
        segment(True, "FA", asked, told),
        segment(False, "FA", told, asked + 1),
        segment(True, "A", asked + 1, told + 1),
        ether(dst="33:33:ff:00:00:02")
        / ipv6(dst="ff02::1:ff00:2", hlim=255)
        / ICMPv6ND_NS(tgt=IP6_B)
        / ICMPv6NDOptSrcLLAddr(lladdr=MAC_A),
        ether(False)
        / ipv6(False, hlim=255)
        / ICMPv6ND_NA(tgt=IP6_B, R=0, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=MAC_B),
        ether() / ipv6() / ICMPv6EchoRequest(id=1, seq=1, data=marked(56)),
        ether(False) / ipv6(False) / ICMPv6EchoReply(id=1, seq=1, data=marked(56)),
        ether() / ipv6() / UDP(sport=40007, dport=7) / marked(33),
        ether() / ipv4() / query / DNS(id=1, rd=1, qd=ask_a),
        ether(False) / ipv4(False) / reply / told_a,
        ether() / ipv6() / query / DNS(id=2, rd=1, qd=ask_aaaa),
        ether(False) / ipv6(False) / reply / told_aaaa,
    ]
    return pcap(timed(map(bytes, frames)))


def vlan() -> bytes:
    """VLAN tags: one, two, of both EtherTypes, with priority, and the ids that mean something else than a VLAN."""
    datagram = ipv4() / udp() / marked(40)
    frames = [
        ether() / datagram,
        ether() / Dot1Q(vlan=10) / datagram,
        ether() / Dot1Q(vlan=10, prio=5) / datagram,
        ether() / Dot1Q(vlan=10, prio=5, dei=1) / datagram,
        ether() / Dot1Q(vlan=0, prio=7) / datagram,  # priority-tagged: no VLAN, only a priority
        ether() / Dot1Q(vlan=4094) / datagram,
        ether() / Dot1Q(vlan=4095) / datagram,  # reserved
        ether() / Dot1AD(vlan=100) / Dot1Q(vlan=10) / datagram,  # 802.1ad: service tag outside, customer tag inside
        ether() / Dot1Q(vlan=100) / Dot1Q(vlan=10) / datagram,  # two customer tags, as older switches stack them
        ether() / Dot1AD(vlan=100) / datagram,
        ether(dst=BROADCAST) / Dot1Q(vlan=10) / ARP(op="who-has", hwsrc=MAC_A, psrc=IP_A, pdst=IP_B),
        ether() / Dot1Q(vlan=10) / ipv6() / udp() / marked(40),
        ether() / Dot1Q(vlan=10) / ipv4() / udp() / marked(1472),  # 1518 bytes: MTU 1500 and a tag
        ether() / Dot1AD(vlan=100) / Dot1Q(vlan=10) / ipv4() / udp() / marked(1472),  # 1522 bytes
    ]
    return pcap(timed(map(bytes, frames)))


SIZES = (
    *(14, 15, 42, 60, 64, 127, 128, 129, 142),
    *(1204, 1205, 1514, 1515, 1518, 1519, 1536),
    *(4096, 9014, 16384, 65549, 80000),
)
"""Frame lengths at which virtio-net or a receiver of it changes its way; README.md has the reasons."""


def sized(size: int) -> bytes:
    """A frame of ``size`` bytes whose headers are right.

    UDP over IPv4 from 42 bytes (its headers alone) to 65,549 (the most an IPv4 total length can say). Below, only an
    Ethernet header with an experimental EtherType fits. Above, an IPv6 jumbogram, whose UDP length is 0 and whose
    checksum covers the true length (RFC 2675, sections 2 to 4).
    """
    if size < 42:
        return bytes(ether(type=LOCAL_EXPERIMENT)) + marked(size - 14)
    if size <= 14 + 65535:
        return bytes(ether() / ipv4() / udp() / marked(size - 42))
    payload = marked(size - 14 - 40 - 8 - 8)
    header = ipv6(plen=0, nh=0)
    datagram = bytes(udp(len=0, chksum=0)) + payload
    checksum = in6_chksum(17, header, datagram)  # type: ignore[no-untyped-call]
    datagram = patched(datagram, 6, struct.pack(">H", checksum))
    hop_by_hop = IPv6ExtHdrHopByHop(nh=17, options=[Jumbo(jumboplen=8 + len(datagram))])
    return bytes(ether() / header / hop_by_hop) + datagram


def sizes() -> bytes:
    """One frame of each length in SIZES, in this order."""
    return pcap(timed(sized(size) for size in SIZES))


def bad() -> bytes:
    """Frames with one fault each, after one without; runts of 1 to 13 bytes at the end."""
    eth, ip, ip6 = 14, 34, 54  # where the next header begins: after Ethernet, then IPv4, then IPv6
    datagram = bytes(ether() / ipv4() / udp() / marked(40))
    segment = bytes(ether() / ipv4() / tcp() / marked(40))
    ping = bytes(ether() / ipv4() / ICMP(id=1, seq=1) / marked(40))
    datagram6 = bytes(ether() / ipv6() / udp() / marked(40))
    ping6 = bytes(ether() / ipv6() / ICMPv6EchoRequest(id=1, seq=1, data=marked(40)))
    llc = LLC(dsap=0x42, ssap=0x42, ctrl=3)  # spanning tree
    bpdu = STP(bridgeid=0x8000, bridgemac=MAC_A, rootid=0x8000, rootmac=MAC_A, portid=0x8001)
    frames = [
        datagram,
        flipped(datagram, eth + 10),  # IPv4 header checksum
        flipped(datagram, ip + 6),  # UDP checksum
        flipped(segment, ip + 16),  # TCP checksum
        flipped(ping, ip + 2),  # ICMP checksum
        flipped(ping6, ip6 + 2),  # ICMPv6 checksum
        flipped(datagram6, ip6 + 6),  # UDP checksum over IPv6
        patched(datagram6, ip6 + 6, b"\0\0"),  # UDP without checksum over IPv6: not allowed (RFC 8200, 8.1)
        patched(segment, ip + 16, pseudo_header_sum(6, 20 + 40)),  # TCP checksum left to a network card
        datagram[: eth + 12],  # cut within the IPv4 header
        datagram[:62],  # cut within the payload: total length says more than there is
        bytes(ether() / ipv4(len=10) / udp() / marked(40)),  # total length below the header's
        bytes(ether() / ipv4(ihl=4) / udp() / marked(40)),  # header length 16, below the least
        bytes(ether() / ipv4(ihl=15) / udp() / marked(22)),  # header length 60, beyond the end
        bytes(ether() / ipv4(version=5) / udp() / marked(40)),
        bytes(ether() / ipv4(ttl=0) / udp() / marked(40)),
        bytes(ether() / ipv4(proto=17) / datagram[ip : ip + 4]),  # half a UDP header, as the total length says
        patched(datagram, ip + 4, struct.pack(">H", 200)),  # UDP length beyond the packet
        patched(datagram, ip + 4, struct.pack(">H", 7)),  # UDP length below its header
        bytes(ether() / ipv4() / tcp(dataofs=4) / marked(40)),  # TCP header length 16, below the least
        bytes(ether() / ipv4() / tcp(dataofs=15) / marked(10)),  # TCP header length 60, beyond the end
        bytes(ether() / ipv4(proto=1) / ping[ip : ip + 4]),  # half an ICMP header, as the total length says
        datagram6[: eth + 20],  # cut within the IPv6 header
        patched(datagram6, eth + 4, struct.pack(">H", 500)),  # IPv6 payload length beyond the end
        patched(datagram6, eth, b"\x40"),  # IPv6 by EtherType, version 4 within
        bytes(ether(src="03:00:00:00:00:0a") / ipv4() / udp() / marked(40)),  # group bit in the source address
        bytes(ether(type=0x88B6)) + marked(46),  # EtherType that nobody knows here
        bytes(ether(type=0x05FF)) + marked(46),  # 1535: neither a length nor an EtherType
        bytes(Dot3(src=MAC_A, dst="01:80:c2:00:00:00") / llc / bpdu).ljust(60, b"\0"),
        bytes(Dot3(src=MAC_A, dst=MAC_B) / LLC() / SNAP(OUI=0, code=0x0800) / ipv4() / udp() / marked(40)),
        bytes(Dot3(src=MAC_A, dst=MAC_B, len=1000) / llc).ljust(60, b"\0"),  # 802.3 length beyond the end
        bytes(ether(type=0x8100)) + b"\x00\x0a",  # cut within the VLAN tag
        *(datagram[:size] for size in range(1, 14)),
    ]
    return pcap(timed(frames))


def pieces(identification: int, *cuts: tuple[int, int], total: int = 3008, change: int = -1) -> list[bytes]:
    """Fragments of one UDP datagram over IPv4, by offset and size in bytes, in the order given.

    The fragment that reaches ``total`` is the last one. ``change`` numbers one whose bytes are not the datagram's.
    """
    datagram = bytes(ipv4() / udp() / marked(total - 8))[20:]
    frames = []
    for number, (offset, size) in enumerate(cuts):
        part = datagram[offset : offset + size]
        if number == change:
            part = bytes(byte ^ 0xFF for byte in part)
        more = "MF" if offset + size < total else 0
        frames.append(bytes(ether() / ipv4(id=identification, flags=more, frag=offset // 8, proto=17) / part))
    return frames


def pieces6(identification: int, *cuts: tuple[int, int], total: int = 3008) -> list[bytes]:
    """The same over IPv6."""
    datagram = bytes(ipv6() / udp() / marked(total - 8))[40:]
    frames = []
    for offset, size in cuts:
        header = IPv6ExtHdrFragment(nh=17, id=identification, offset=offset // 8, m=int(offset + size < total))
        frames.append(bytes(ether() / ipv6(nh=44) / header / datagram[offset : offset + size]))
    return frames


def fragments() -> bytes:
    """Fragments of IPv4 and IPv6: in order, out of order, twice, overlapping, missing, past the end."""
    first, second, third = (0, 1480), (1480, 1480), (2960, 48)
    first6, second6, third6 = (0, 1448), (1448, 1448), (2896, 112)
    past_the_end = ether() / ipv4(id=0x16, frag=65528 // 8, proto=17) / marked(100)
    frames = [
        *pieces(0x10, first, second, third),
        *pieces(0x11, third, second, first),
        *pieces(0x12, first, second, second, third),
        *pieces(0x13, first, (1400, 1480), (2880, 128)),  # 80 bytes twice, the same
        *pieces(0x14, first, (1400, 1480), (2880, 128), change=1),  # 80 bytes twice, and not the same
        *pieces(0x15, first, third),  # the second never comes
        bytes(past_the_end),  # bytes beyond 65,535: 65,528 + 100
        *pieces6(0x20, first6, second6, third6),
        *pieces6(0x21, second6, third6, first6),
        *pieces6(0x22, first6, (1400, 1448), (2848, 160)),  # overlap: the whole datagram is to be dropped (RFC 5722)
        *pieces6(0x23, (0, 108), total=108),  # a fragment header on a whole datagram (RFC 6946)
        *pieces6(0x24, first6, third6),  # the second never comes
    ]
    return pcap(timed(frames))


def snapped() -> bytes:
    """Frames of which 96 bytes were kept, and two that are short enough to be whole."""
    whole = [sized(size) for size in (60, 96, 97, 142, 1514, 9014, 65549, 80000)]
    return pcap(
        [Frame(data[:96], START_NS + i * STEP_NS, len(data)) for i, data in enumerate(whole)],
        snaplen=96,
    )


def variant_frames() -> list[Frame]:
    """Four frames, 1,000,001 ns apart, for the files that differ in their format only."""
    return timed((sized(size) for size in (60, 142, 1204, 1514)), step_ns=STEP_NS + 1)


def nanosecond() -> bytes:
    """Classic pcap with nanoseconds."""
    return pcap(variant_frames(), nanoseconds=True)


def big_endian() -> bytes:
    """Classic pcap in the other byte order."""
    return pcap(variant_frames(), order=">")


def big_endian_ng() -> bytes:
    """A pcapng file in the other byte order, with nanoseconds."""
    return pcapng(variant_frames(), [Interface("eth0", tsresol=9)], order=">")


FLOW_INTERFACES = [
    Interface("eth0"),  # microseconds, as nothing else is said
    Interface("eth1", tsresol=9),
    Interface("eth2", tsresol=3),
    Interface("eth3", tsresol=0x80 + 20, tsoffset=1_600_000_000),
]


def flow_frame(number: int, turn: int) -> bytes:
    """The frame of flow ``number`` in this turn: four flows of UDP, then four of TCP, every fourth over IPv6."""
    scattered = number * 2654435761 % 2**32  # multiplicative hashing: neighbours differ in address and port
    host, sport = 1 + scattered % 200, 1024 + (scattered >> 8) % 60000
    network = ipv6(src=f"2001:db8::1:{host:x}") if number % 4 == 3 else ipv4(src=f"198.51.100.{host}", id=turn)
    is_udp = number // 4 % 2 == 0
    transport = udp(sport=sport) if is_udp else tcp(sport, 9, flags="A", seq=1 + turn * 64)
    return bytes(ether() / network / transport / marked(64))


def flows() -> bytes:
    """64 flows by turns, four frames each; every eight flows share an interface, and each counts time its way.

    Frames are 5/4 ms apart: the milliseconds of eth2 lose some of it, the others nothing.
    """
    frames, count = [], 64
    for i in range(count * 4):
        turn, number = divmod(i, count)
        data = flow_frame(number, turn)
        frames.append(Frame(data, START_NS + i * 1_250_000, len(data), interface=number // 8 % 4))
    return pcapng(frames, FLOW_INTERFACES)


CAPTURES: dict[str, Callable[[], bytes]] = {
    "basics.pcap": basics,
    "vlan.pcap": vlan,
    "sizes.pcap": sizes,
    "bad.pcap": bad,
    "fragments.pcap": fragments,
    "snapped.pcap": snapped,
    "nanosecond.pcap": nanosecond,
    "big-endian.pcap": big_endian,
    "big-endian.pcapng": big_endian_ng,
    "flows.pcapng": flows,
}


def main() -> int:
    """Write the files, or say which differ; the exit status is 1 when one does."""
    parser = argparse.ArgumentParser(description="Build the captures of made-up traffic, the same bytes every time.")
    parser.add_argument("--check", action="store_true", help="write nothing; say which files differ from these bytes")
    check = parser.parse_args().check
    differing = 0
    for name, build in CAPTURES.items():
        path, data = HERE / name, build()
        if not check:
            path.write_bytes(data)
            print(f"{name}: {len(data)} bytes")
        elif not path.is_file() or path.read_bytes() != data:
            differing += 1
            print(f"{name}: differs from what build.py makes", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
