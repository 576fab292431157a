"""A device that breaks the specification on purpose, and what the driver makes of it.

`netemu quirks` lists what can go wrong; each rule says how often, and a run can be repeated.

python examples/hostile_device.py
"""

from __future__ import annotations

from netemu import Nic

FRAME = bytes.fromhex("020000000001 0200000000fe 88b5").ljust(1514, b"x")


def main() -> None:
    """Ten frames each: a used entry that names no buffer, and a header that promises a buffer too many."""
    for rule in ("used-id-out-of-range:at=5,count=1", "num-buffers-more:at=5,count=1"):
        nic = Nic(quirks=[rule])
        received = nic.receive([FRAME] * 10)
        print(rule)
        print(f"  {len(received)} of 10 came up, dropped: {nic.dropped or 'none'}, fired: {nic.quirks_fired}")
        print("  broken queues:", nic.device.broken + nic.driver.broken or "none")


if __name__ == "__main__":
    main()
