"""Receive-side scaling over four queues: a flow keeps its queue, and its hash reaches the skb.

python examples/rss.py
"""

from __future__ import annotations

import struct

from netemu import Nic

FLOWS = range(1000, 1016)


def datagram(port: int) -> bytes:
    """A frame to the guest's station address with an empty UDP datagram; its checksums are left out."""
    link = bytes.fromhex("020000000001 0200000000fe 0800")
    network = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, b"\x0a\0\0\1", b"\x0a\0\0\2")
    return (link + network + struct.pack(">HHHH", port, 53, 8, 0)).ljust(60, b"\0")


def main() -> None:
    """Send three datagrams of each of 16 flows; then have two queues get everything."""
    frames = [datagram(port) for port in FLOWS] * 3
    nic = Nic(queues=4, rss="on", hash_report=True)
    queue_of: dict[int, set[int]] = {}
    for received in nic.receive(frames):
        queue_of.setdefault(received.skb.hash, set()).add(received.skb.queue)
    print(len(queue_of), "hashes, each on one queue:", all(len(queues) == 1 for queues in queue_of.values()))
    print("packets by queue:", [queue["packets"] for queue in nic.queue_counters()])

    # As ethtool -X would have it: the indirection table names queues 0 and 2 alone.
    nic = Nic(queues=4, rss="table=0,2")
    nic.receive(frames)
    print("with the table 0,2:", [queue["packets"] for queue in nic.queue_counters()])


if __name__ == "__main__":
    main()
