"""What a receiver of frames takes over from their sender: a mask, made from negotiated features."""

from __future__ import annotations

from netemu.virtio import features as f
from netemu.virtio.control import offload_features
from netemu.virtio.features import FeatureSet

ACCEPT_CSUM = 1
"""Unfinished checksums, and the remark that a checksum was verified."""
ACCEPT_TSO4 = 2
ACCEPT_TSO6 = 4
ACCEPT_ECN = 8
"""Large TCP segments with CWR set."""
ACCEPT_UFO = 16
ACCEPT_USO4 = 32
ACCEPT_USO6 = 64
ACCEPT_TUNNEL = 128
"""Large segments inside UDP tunnels."""
ACCEPT_TUNNEL_CSUM = 256
"""The same with an unfinished checksum of the outer UDP header."""

_GUEST = {
    f.GUEST_CSUM: ACCEPT_CSUM,
    f.GUEST_TSO4: ACCEPT_TSO4,
    f.GUEST_TSO6: ACCEPT_TSO6,
    f.GUEST_ECN: ACCEPT_ECN,
    f.GUEST_UFO: ACCEPT_UFO,
    f.GUEST_USO4: ACCEPT_USO4,
    f.GUEST_USO6: ACCEPT_USO6,
    f.GUEST_UDP_TUNNEL_GSO: ACCEPT_TUNNEL,
    f.GUEST_UDP_TUNNEL_GSO_CSUM: ACCEPT_TUNNEL_CSUM,
}


def accepts_from_features(features: FeatureSet, guest_offloads: int | None = None) -> int:
    """What a guest that negotiated ``features`` takes.

    ``guest_offloads`` is the mask of the last CTRL_GUEST_OFFLOADS_SET; without one all that was negotiated is on
    (OFFL-D-01), and a bit that was not negotiated never counts (OFFL-V-01).
    """
    if guest_offloads is not None:
        features &= offload_features(guest_offloads)
    return sum(accept for bit, accept in _GUEST.items() if bit in features)
