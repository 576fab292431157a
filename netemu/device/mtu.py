"""Which frames are too long for a driver that was told an MTU (NETC-D-05)."""

from __future__ import annotations

from netemu.jit import i64, kernel, load8, load16be
from netemu.virtio.net import GSO_ECN, HDR_GSO_TYPE

_ETH_HLEN = 14
_VLAN_HLEN = 4


@kernel
def over_mtu(frame: i64, length: i64, vnet: i64, mtu: i64) -> i64:
    """1 for a frame whose packet, without link header and VLAN tags, exceeds ``mtu`` bytes.

    ``vnet`` is the address of its virtio header, or 0: GSO frames are longer than the MTU by nature, and pass.
    """
    if length <= mtu + _ETH_HLEN:
        return 0
    if vnet != 0 and load8(vnet + HDR_GSO_TYPE) & ~GSO_ECN != 0:
        return 0
    at = _ETH_HLEN - 2
    while at + _VLAN_HLEN + 2 <= length and load16be(frame + at) in (0x8100, 0x88A8):
        at += _VLAN_HLEN
    return 1 if length - at - 2 > mtu else 0
