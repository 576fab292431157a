"""A few frames through the receive path, as a library: what the driver made of each, and what was counted.

python examples/receive_path.py
"""

from __future__ import annotations

from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from netemu import Nic


def main() -> None:
    """Send frames of growing size through mergeable and through small buffers."""
    header = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / IP(src="192.0.2.1", dst="192.0.2.2") / UDP()
    frames = [header / (b"x" * size) for size in (18, 1000, 1472, 8000, 40000)]
    for mode in ("mergeable", "small"):
        nic = Nic(mode=mode, queue_size=64, driver="linux-6.1")
        print(f"{mode} buffers")
        for received in nic.receive(frames):
            skb = received.skb
            linear = skb.len - skb.data_len
            print(f"  {skb.len:6} bytes in {len(received.buffers):2} buffers: {linear} linear, {skb.nr_frags} frags")
        print(f"  dropped: {nic.dropped or 'none'}")


if __name__ == "__main__":
    main()
