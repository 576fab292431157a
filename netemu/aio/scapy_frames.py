"""Frames from scapy's packets: what they leave open is said by the guest that sends them.

Scapy itself would ask this machine: its addresses, its routes, and for the receiver's MAC address even its network. In
a lab nothing of that is true, and a run would differ from machine to machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netemu.errors import ConfigError

EVERYBODY = "ff:ff:ff:ff:ff:ff"
"""The destination of a frame that names none."""


def frame_of(packet: Any, mac: bytes, addresses: Sequence[str]) -> bytes:
    """The bytes of a packet of scapy's, or of bytes, sent by who has these addresses.

    Sources that the packet leaves open are the first of them of each version, or if there is none the address that
    says so; a destination MAC address that it leaves open is everybody's. Raises `ConfigError` for what is no frame.
    """
    if isinstance(packet, bytes | bytearray | memoryview):
        return bytes(packet)
    from scapy.layers.inet import IP  # noqa: PLC0415 - takes long to load
    from scapy.layers.inet6 import IPv6  # noqa: PLC0415
    from scapy.layers.l2 import ARP, Ether  # noqa: PLC0415
    from scapy.packet import NoPayload, Packet  # noqa: PLC0415

    if not isinstance(packet, Packet):
        raise ConfigError(f"a frame is bytes or a packet of scapy's, and no {type(packet).__name__}")
    station = mac.hex(":")
    ipv4 = next((address for address in addresses if ":" not in address), "0.0.0.0")  # noqa: S104 - no address
    ipv6 = next((address for address in addresses if ":" in address), "::")
    left_open: list[tuple[Any, dict[str, str]]] = [
        (Ether, {"src": station, "dst": EVERYBODY}),
        (ARP, {"hwsrc": station, "psrc": ipv4}),
        (IP, {"src": ipv4}),
        (IPv6, {"src": ipv6}),
    ]
    whole = packet.copy()
    layer = whole
    while not isinstance(layer, NoPayload):
        for kind, values in left_open:
            if isinstance(layer, kind):
                for name, value in values.items():
                    if name not in layer.fields:
                        layer.setfieldval(name, value)
        layer = layer.payload
    return bytes(whole)
