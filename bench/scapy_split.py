"""Cut large TCP packets of a capture into segments with scapy: a rival for ``netemu to-wire``, as a script would do it.

Usage: scapy_split.py IN OUT [MTU]
"""

from __future__ import annotations

import sys
from typing import Any


def segments(packet: Any, mtu: int) -> Any:
    """The packets that go on the wire for one that is over the MTU: scapy fills in lengths and checksums."""
    from scapy.layers.inet import IP, TCP  # noqa: PLC0415 - scapy takes a second to load

    headers = 4 * (packet[IP].ihl + packet[TCP].dataofs)
    payload = bytes(packet[TCP].payload)
    packet[TCP].remove_payload()
    mss = mtu - headers
    for index, at in enumerate(range(0, len(payload), mss)):
        piece = packet.copy()
        piece[IP].id = (packet[IP].id + index) & 0xFFFF
        piece[TCP].seq = (packet[TCP].seq + at) & 0xFFFFFFFF
        if at + mss < len(payload):
            piece[TCP].flags = packet[TCP].flags & ~0x09  # FIN and PSH stand on the last
        for layer, fields in ((IP, ("len", "chksum")), (TCP, ("chksum",))):
            for field in fields:
                delattr(piece[layer], field)
        yield piece / payload[at : at + mss]


def main() -> None:
    """Read, cut, write."""
    from scapy.layers.inet import IP, TCP  # noqa: PLC0415
    from scapy.utils import PcapReader, PcapWriter  # noqa: PLC0415

    source, output = sys.argv[1:3]
    mtu = int(sys.argv[3]) if len(sys.argv) > 3 else 1500
    with PcapReader(source) as reader, PcapWriter(output) as writer:
        for packet in reader:
            if TCP in packet and IP in packet and len(packet[IP]) > mtu:
                for piece in segments(packet, mtu):
                    piece.time = packet.time
                    writer.write(piece)
            else:
                writer.write(packet)


if __name__ == "__main__":
    main()
