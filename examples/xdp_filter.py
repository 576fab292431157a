"""An XDP program in front of the guest's stack: it drops datagrams to one port, and counts what it saw.

Run it as it is, or give the program to a replay of your own captures:

    netemu replay CAPTURE --xdp examples/xdp_filter.py
"""

from __future__ import annotations

import struct

from netemu import Nic
from netemu.xdp import XDP_DROP, XDP_PASS, XdpBuff, XdpCounters, xdp_count, xdp_load8, xdp_load16be, xdp_program

PORT = 53
SEEN, DROPPED = 0, 1

counters = XdpCounters(2)
COUNTERS = counters.address  # a program knows numbers, not objects


@xdp_program
def no_dns(ctx: XdpBuff) -> int:
    """Drop UDP to port 53 over IPv4; the loads are ERROR, which is no port, where the frame ends before."""
    xdp_count(COUNTERS, SEEN)
    if xdp_load16be(ctx, 12) != 0x0800 or xdp_load8(ctx, 23) != 17:
        return XDP_PASS
    header = (xdp_load8(ctx, 14) & 15) * 4
    if xdp_load16be(ctx, 14 + header + 2) != PORT:
        return XDP_PASS
    xdp_count(COUNTERS, DROPPED)
    return XDP_DROP


def datagram(port: int) -> bytes:
    """A frame to the guest's station address with an empty UDP datagram; its checksums are left out."""
    link = bytes.fromhex("020000000001 0200000000fe 0800")
    network = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    return (link + network + struct.pack(">HHHH", 1000, port, 8, 0)).ljust(60, b"\0")


def main() -> None:
    """Send four datagrams, two of them to the port."""
    nic = Nic(mode="mergeable", xdp=no_dns)
    received = nic.receive([datagram(port) for port in (53, 80, 53, 443)])
    print(len(received), "frames came up,", counters.values[DROPPED], "of", counters.values[SEEN], "were dropped")
    print("ethtool -S:", {name: value for name, value in nic.ethtool.items() if "xdp" in name and value})


if __name__ == "__main__":
    main()
