"""The same frames over a split and over a packed ring: same skbs, other bytes in guest memory.

A split ring has a descriptor table, an available and a used ring; a packed one has a single ring of descriptors of 16
bytes, in which the device overwrites what it has used.

python examples/rings.py
"""

from __future__ import annotations

from netemu import Nic

SIZES = (60, 1514, 9000)


def main() -> None:
    """Bring three frames to each kind, and look at what the device left in the ring."""
    frames = [bytes.fromhex("020000000001 0200000000fe 88b5").ljust(size, b"x") for size in SIZES]
    for kind in ("split", "packed"):
        nic = Nic(ring=kind, queue_size=16)
        print(f"{kind} ring")
        for received in nic.receive(frames):
            heads = [buffer.head for buffer in received.buffers]
            print(f"  {len(received.data):5} bytes in buffers {heads}")
        counted = nic.queue_counters()[0]
        print("  interrupts", counted["interrupts"], "polls", counted["polls"], "kicks", counted["kicks"])
    print("negotiated for the packed one:", nic.driver.features)


if __name__ == "__main__":
    main()
