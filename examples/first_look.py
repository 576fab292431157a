"""A first look: a handful of frames from scapy, each a different way through a virtio-net receive path.

    python first_look.py                                write first_look.pcap
    netemu replay first_look.pcap -o seen.pcapng        and send it through the emulated device and driver

In the result, compare how many receive buffers each frame took and what its virtio-net header says. The file is an
ordinary capture: Wireshark opens it too and, told to look at TCP checksums, finds that of the fifth frame wrong.
"""

from __future__ import annotations

import argparse
import socket
import struct

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet
from scapy.utils import wrpcap

MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
IP_A, IP_B = "192.0.2.1", "192.0.2.2"


def numbered(size: int) -> bytes:
    """``size`` bytes of payload, each 4 bytes of which hold their own offset."""
    return b"".join(struct.pack(">I", offset) for offset in range(0, size, 4))[:size]


def unfinished(segment: Packet) -> Packet:
    """The segment as Linux hands it to a device that offers checksums: only the pseudo-header is summed up."""
    addresses = struct.unpack(">4H", socket.inet_aton(IP_A) + socket.inet_aton(IP_B))
    total = sum(addresses) + 6 + len(segment[TCP])  # the protocol's number, and the length of header and payload
    segment[TCP].chksum = (total & 0xFFFF) + (total >> 16)
    return segment


def frames() -> list[Packet]:
    """The frames, smallest first."""
    ether = Ether(src=MAC_A, dst=MAC_B)
    ip = IP(src=IP_A, dst=IP_B)
    return [
        # 42 bytes: below the least length on a wire, but a guest sees such frames every day
        Ether(src=MAC_A, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=MAC_A, psrc=IP_A, pdst=IP_B),
        # 98 bytes: up to 128 the driver copies the whole frame, and the page it came in is free again
        ether / ip / ICMP(id=1, seq=1) / numbered(56),
        # 146 bytes: no longer copied whole; the VLAN tag is part of the frame
        ether / Dot1Q(vlan=10) / ip / UDP(sport=40000, dport=9) / numbered(100),
        # 1,514 bytes: all that an MTU of 1,500 allows
        ether / ip / UDP(sport=40000, dport=9) / numbered(1472),
        # 14,534 bytes, ten segments in one: what a sender with segmentation offload leaves to the device
        unfinished(ether / ip / TCP(sport=40080, dport=80, flags="PA", seq=1, ack=1) / numbered(14480)),
    ]


def main() -> None:
    """Write the frames, a millisecond apart."""
    parser = argparse.ArgumentParser(description="Write a few frames for a first look at netemu.")
    parser.add_argument("output", nargs="?", default="first_look.pcap", help="the capture to write")
    output = parser.parse_args().output
    made = frames()
    for number, frame in enumerate(made):
        frame.time = 1_700_000_000 + number / 1000
    wrpcap(output, made)
    for number, frame in enumerate(made, start=1):
        print(f"{number}  {len(frame):6,} bytes  {frame.summary()}")
    print(f"written to {output}")


if __name__ == "__main__":
    main()
