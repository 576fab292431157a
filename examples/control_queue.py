"""Commands through the control queue while the card runs: filters, VLANs, the number of queues, coalescing.

python examples/control_queue.py
"""

from __future__ import annotations

from netemu import Nic

OURS, OTHER = "020000000001", "020000000099"


def frame_to(station: str) -> bytes:
    """A frame of 60 bytes to a station."""
    return bytes.fromhex(station + "0200000000fe 88b5").ljust(60, b"\0")


def main() -> None:
    """Change the receive filter, the queues and the coalescing, as ip and ethtool would."""
    nic = Nic(queues=4, mac=bytes.fromhex(OURS), features="+CTRL_RX,+CTRL_VLAN,+NOTF_COAL,+CTRL_MAC_ADDR")
    frames = [frame_to(OURS), frame_to(OTHER)]
    print("promiscuous:", len(nic.receive(frames)), "of 2 came up")
    nic.control.set_promiscuous(on=False)
    print("not any more:", len(nic.receive(frames)), "of 2 came up, dropped:", nic.dropped)
    nic.control.set_mac(bytes.fromhex(OTHER))
    print("with the other's address:", [received.data[:6].hex() for received in nic.receive(frames)])
    nic.control.set_queues(2)
    nic.control.set_coalesce(rx_frames=32, rx_usecs=50)
    print("coalescing:", nic.control.coalescing()[0])


if __name__ == "__main__":
    main()
