"""Which frames the device lets in: receive modes, MAC table, VLAN table (VIRTIO 1.4, sections 5.1.6.5.1 to .3).

Theory of operation
-------------------
A `Filter` holds what control commands set; `ReceiveFilter` is the Python around it, `filter_accepts` the judgement on a
frame, which the loop asks for through a hook and only where a driver negotiated a feature that filters.

The MAC table has room for `TABLE_MAX` addresses of a kind. A driver that sets more of them gets all frames of that
kind: filtering is best effort, and nothing wanted is lost (RXF-D-18).
"""

from __future__ import annotations

from collections.abc import Sequence

from netemu.jit import Struct, allocate, entry, i64, kernel, load8, load16be, load32be, load64, pointer, store64, struct
from netemu.virtio import features as f
from netemu.virtio.control import VLAN_IDS
from netemu.virtio.features import FeatureSet

TABLE_MAX = 64
_BROADCAST = 0xFFFF_FFFF_FFFF
_GROUP_BIT = 1 << 40
_ETH_HLEN = 14
_ETH_P_8021Q = 0x8100


@struct
class Filter(Struct):
    """Receive modes and tables; 0 is off. MAC addresses are 48-bit numbers, first byte on top."""

    by_address: i64
    """Addresses are looked at: CTRL_RX or CTRL_RX_EXTRA was negotiated."""
    by_vlan: i64
    """VLAN tags are looked at: CTRL_VLAN was negotiated."""
    mac: i64
    promisc: i64
    allmulti: i64
    alluni: i64
    nomulti: i64
    nouni: i64
    nobcast: i64
    unicast_overflow: i64
    multicast_overflow: i64
    """The driver set more addresses than there is room for: all frames of the kind are let in."""
    unicast_count: i64
    multicast_count: i64
    unicast: i64
    multicast: i64
    """Host addresses of TABLE_MAX 64-bit numbers each."""
    vlans: i64
    """Host address of a bit for each VLAN id."""


filter_at = pointer(Filter)


@kernel
def _holds(table: i64, count: i64, mac: i64) -> i64:
    for n in range(count):
        if load64(table + 8 * n) == mac:
            return 1
    return 0


@kernel
def filter_accepts(flt: Filter, frame: i64, length: i64) -> i64:
    """1 if the frame is let in; one too short for an Ethernet header is left to the driver to judge."""
    if flt.promisc != 0 or length < _ETH_HLEN:
        return 1  # RXF-D-02, RXF-D-03
    if flt.by_vlan != 0 and load16be(frame + 12) == _ETH_P_8021Q and length >= _ETH_HLEN + 2:
        vid = load16be(frame + 14) & (VLAN_IDS - 1)
        if (load8(flt.vlans + (vid >> 3)) >> (vid & 7)) & 1 == 0:
            return 0  # VLAN-D-03
    if flt.by_address == 0:
        return 1
    mac = (load16be(frame) << 32) | load32be(frame + 2)
    if mac == _BROADCAST:
        return 1 if flt.nobcast == 0 else 0  # RXF-D-11, RXF-D-16, RXF-D-17
    if mac & _GROUP_BIT:
        if flt.nomulti != 0:
            return 0  # RXF-D-09, RXF-D-10
        if flt.allmulti != 0 or flt.multicast_overflow != 0:
            return 1  # RXF-D-05
        return _holds(flt.multicast, flt.multicast_count, mac)
    if flt.nouni != 0:
        return 0  # RXF-D-13, RXF-D-14
    if flt.alluni != 0 or flt.unicast_overflow != 0 or mac == flt.mac:
        return 1  # RXF-D-07, MAC-D-04
    return _holds(flt.unicast, flt.unicast_count, mac)


@entry
def filter_frame(flt: i64, frame: i64, length: i64) -> i64:
    """`filter_accepts` as a hook: the filter's address, the frame's, and its bytes."""
    return filter_accepts(filter_at(flt), frame, length)


class ReceiveFilter:
    """The filter as control commands see it; ``struct`` is what the kernel looks at."""

    def __init__(self) -> None:
        """Make a filter that lets everything in until `start`."""
        self._table = allocate(2 * 8 * TABLE_MAX)
        self._vlans = allocate(VLAN_IDS // 8)
        self.struct = Filter(
            unicast=self._table.address, multicast=self._table.address + 8 * TABLE_MAX, vlans=self._vlans.address
        )

    def start(self, features: FeatureSet, mac: bytes) -> None:
        """Take up the state after negotiation: all modes off, both tables empty (MAC-D-01, VLAN-D-04).

        Without CTRL_RX a driver could not fill the table, so no frame is refused for its address alone.
        """
        flt = self.struct
        flt.promisc = flt.nomulti = flt.nouni = flt.nobcast = 0
        flt.by_address = int(features.has_any(f.CTRL_RX, f.CTRL_RX_EXTRA))
        flt.by_vlan = int(f.CTRL_VLAN in features)
        flt.alluni = flt.allmulti = int(f.CTRL_RX not in features)
        self.set_table([], [])
        self._vlans.array[:] = 0
        self.set_mac(mac)

    def set_mode(self, name: str, *, on: bool) -> None:
        """Switch a receive mode (a field of `Filter`)."""
        setattr(self.struct, name, int(on))

    def set_mac(self, mac: bytes) -> None:
        """The station's own address."""
        self.struct.mac = int.from_bytes(mac, "big")

    def set_table(self, unicast: Sequence[bytes], multicast: Sequence[bytes]) -> None:
        """Replace the MAC table."""
        flt = self.struct
        flt.unicast_count = _fill(flt.unicast, unicast)
        flt.multicast_count = _fill(flt.multicast, multicast)
        flt.unicast_overflow = int(len(unicast) > TABLE_MAX)
        flt.multicast_overflow = int(len(multicast) > TABLE_MAX)

    def set_vlan(self, vid: int, *, member: bool) -> None:
        """Put a VLAN id (0 to 4095) into the table, or take it out."""
        bit = 1 << (vid & 7)
        if member:
            self._vlans.array[vid >> 3] |= bit
        else:
            self._vlans.array[vid >> 3] &= ~bit & 0xFF


def _fill(table: int, addresses: Sequence[bytes]) -> int:
    """Write as many addresses as there is room for; how many."""
    kept = addresses[:TABLE_MAX]
    for n, mac in enumerate(kept):
        store64(table + 8 * n, int.from_bytes(mac, "big"))
    return len(kept)
