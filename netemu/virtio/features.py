"""Feature bits, sets of them, and what requires what (VIRTIO 1.4, sections "Feature Bits" and 5.1.3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netemu.errors import ConfigError

# Network device.
CSUM = 0
GUEST_CSUM = 1
CTRL_GUEST_OFFLOADS = 2
MTU = 3
MAC = 5
GSO = 6
GUEST_TSO4 = 7
GUEST_TSO6 = 8
GUEST_ECN = 9
GUEST_UFO = 10
HOST_TSO4 = 11
HOST_TSO6 = 12
HOST_ECN = 13
HOST_UFO = 14
MRG_RXBUF = 15
STATUS = 16
CTRL_VQ = 17
CTRL_RX = 18
CTRL_VLAN = 19
CTRL_RX_EXTRA = 20
GUEST_ANNOUNCE = 21
MQ = 22
CTRL_MAC_ADDR = 23
DEVICE_STATS = 50
HASH_TUNNEL = 51
VQ_NOTF_COAL = 52
NOTF_COAL = 53
GUEST_USO4 = 54
GUEST_USO6 = 55
HOST_USO = 56
HASH_REPORT = 57
GUEST_HDRLEN = 59
RSS = 60
RSC_EXT = 61
STANDBY = 62
SPEED_DUPLEX = 63
RSS_CONTEXT = 64
GUEST_UDP_TUNNEL_GSO = 65
GUEST_UDP_TUNNEL_GSO_CSUM = 66
HOST_UDP_TUNNEL_GSO = 67
HOST_UDP_TUNNEL_GSO_CSUM = 68
OUT_NET_HEADER = 69
IPSEC = 70

# Every device.
NOTIFY_ON_EMPTY = 24
ANY_LAYOUT = 27
INDIRECT_DESC = 28
EVENT_IDX = 29
VERSION_1 = 32
ACCESS_PLATFORM = 33
RING_PACKED = 34
IN_ORDER = 35
ORDER_PLATFORM = 36
SR_IOV = 37
NOTIFICATION_DATA = 38
NOTIF_CONFIG_DATA = 39
RING_RESET = 40
ADMIN_VQ = 41
SUSPEND = 43

NAMES: dict[int, str] = {bit: name for name, bit in list(globals().items()) if name.isupper() and isinstance(bit, int)}
"""Bit to name, as the specification spells it without its prefix."""
BITS: dict[str, int] = {name: bit for bit, name in NAMES.items()}

RESERVED_FROM = 128
"""The first of the bits that are reserved without end."""

REQUIRES: dict[int, tuple[tuple[int, ...], ...]] = {
    GUEST_TSO4: ((GUEST_CSUM,),),  # NETF-B-01
    GUEST_TSO6: ((GUEST_CSUM,),),  # NETF-B-02
    GUEST_ECN: ((GUEST_TSO4, GUEST_TSO6),),  # NETF-B-03
    GUEST_UFO: ((GUEST_CSUM,),),  # NETF-B-04
    GUEST_USO4: ((GUEST_CSUM,),),  # NETF-B-05
    GUEST_USO6: ((GUEST_CSUM,),),  # NETF-B-06
    GUEST_UDP_TUNNEL_GSO: ((GUEST_TSO4,), (GUEST_TSO6,), (GUEST_USO4,), (GUEST_USO6,)),  # NETF-B-07
    GUEST_UDP_TUNNEL_GSO_CSUM: ((GUEST_UDP_TUNNEL_GSO,),),  # NETF-B-08
    HOST_TSO4: ((CSUM,),),  # NETF-B-09
    HOST_TSO6: ((CSUM,),),  # NETF-B-10
    HOST_ECN: ((HOST_TSO4, HOST_TSO6),),  # NETF-B-11
    HOST_UFO: ((CSUM,),),  # NETF-B-12
    HOST_USO: ((CSUM,),),  # NETF-B-13
    HOST_UDP_TUNNEL_GSO: ((HOST_TSO4,), (HOST_TSO6,), (HOST_USO,)),  # NETF-B-14
    HOST_UDP_TUNNEL_GSO_CSUM: ((HOST_UDP_TUNNEL_GSO,),),  # NETF-B-15
    CTRL_RX: ((CTRL_VQ,),),  # NETF-B-16
    CTRL_VLAN: ((CTRL_VQ,),),  # NETF-B-17
    GUEST_ANNOUNCE: ((CTRL_VQ,),),  # NETF-B-18
    MQ: ((CTRL_VQ,),),  # NETF-B-19
    CTRL_MAC_ADDR: ((CTRL_VQ,),),  # NETF-B-20
    NOTF_COAL: ((CTRL_VQ,),),  # NETF-B-21
    RSC_EXT: ((HOST_TSO4, HOST_TSO6),),  # NETF-B-22
    RSS: ((CTRL_VQ,),),  # NETF-B-23
    VQ_NOTF_COAL: ((CTRL_VQ,),),  # NETF-B-24
    HASH_TUNNEL: ((CTRL_VQ,), (RSS, HASH_REPORT)),  # NETF-B-25
    RSS_CONTEXT: ((CTRL_VQ,), (RSS,)),  # NETF-B-26
}
"""For each bit the groups it requires; of every group at least one bit has to be there."""


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """A set of feature bits: a value, without a width (VIRTIO 1.4 has bits above 63). Prints as names."""

    mask: int = 0

    @classmethod
    def of(cls, *bits: int) -> FeatureSet:
        """The set of these bits."""
        return cls(sum(1 << bit for bit in set(bits)))

    @classmethod
    def parse(cls, names: Iterable[str]) -> FeatureSet:
        """The set of these names (or decimal bit numbers); raises `ConfigError` for one that is not known."""
        bits = []
        for name in names:
            key = name.strip().upper().removeprefix("VIRTIO_NET_F_").removeprefix("VIRTIO_F_")
            if key in BITS:
                bits.append(BITS[key])
            elif key.isdecimal() and int(key) < RESERVED_FROM:
                bits.append(int(key))
            else:
                raise ConfigError(f"no feature is called {name!r}")
        return cls.of(*bits)

    def __contains__(self, bit: int) -> bool:
        """Whether the bit is in the set."""
        return bool(self.mask >> bit & 1)

    def __iter__(self) -> Iterator[int]:
        """The bits, in ascending order."""
        return (bit for bit in range(self.mask.bit_length()) if bit in self)

    def __or__(self, other: FeatureSet) -> FeatureSet:
        """The bits of either."""
        return FeatureSet(self.mask | other.mask)

    def __and__(self, other: FeatureSet) -> FeatureSet:
        """The bits of both."""
        return FeatureSet(self.mask & other.mask)

    def __sub__(self, other: FeatureSet) -> FeatureSet:
        """The bits of this one that are not in the other."""
        return FeatureSet(self.mask & ~other.mask)

    def __bool__(self) -> bool:
        """Whether there is any bit."""
        return self.mask != 0

    def has_any(self, *bits: int) -> bool:
        """Whether at least one of the bits is in the set."""
        return any(bit in self for bit in bits)

    def unmet(self) -> list[str]:
        """What the dependency rules miss, a sentence each; empty for a set that keeps them (FEAT-V-02, FEAT-D-01)."""
        faults = []
        for bit in self:
            for group in REQUIRES.get(bit, ()):
                if not self.has_any(*group):
                    wanted = " or ".join(NAMES[needed] for needed in group)
                    faults.append(f"{NAMES[bit]} requires {wanted}")
        return faults

    def closed(self) -> FeatureSet:
        """The largest subset that keeps the dependency rules: a bit goes when what it requires is not there."""
        kept = self
        while faulty := [bit for bit in kept if any(not kept.has_any(*group) for group in REQUIRES.get(bit, ()))]:
            kept -= FeatureSet.of(*faulty)
        return kept

    def __str__(self) -> str:
        """The names, lowest bit first, separated by commas."""
        return ", ".join(NAMES.get(bit, f"bit {bit}") for bit in self) or "none"
