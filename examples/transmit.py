"""The guest sends: checksums and segmentation left to the device (TSO), or done before where it does not offer them.

python examples/transmit.py
"""

from __future__ import annotations

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from netemu import Nic


def main() -> None:
    """Hand 8000 bytes of TCP to a guest's stack, once with a device that segments and once without."""
    link = Ether(dst="02:00:00:00:00:02", src="02:00:00:00:00:01")
    packet = link / IP(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=80, dport=1024, flags="A") / (b"x" * 8000)
    for features in ("+CSUM,+HOST_TSO4", ""):
        nic = Nic(features=features, guest="send")
        in_ring = nic.send([packet], finished=False)
        on_wire = nic.send([packet])
        print("the device offers", features or "neither CSUM nor HOST_TSO4")
        print("  in the ring:", [len(frame.data) for frame in in_ring])
        print("  on the wire:", [len(frame.data) for frame in on_wire])
        if in_ring[0].header is not None:
            print("  virtio_net_hdr:", in_ring[0].header[:10].hex(" "))


if __name__ == "__main__":
    main()
