"""Feature bits, sets of them, and what requires what (VIRTIO 1.4, sections "Feature Bits" and 5.1.3)."""

from __future__ import annotations

import difflib
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

LEGACY_ONLY = (GSO, NOTIFY_ON_EMPTY, ANY_LAYOUT)
"""Bits that mean something between a device and a driver without VERSION_1 alone."""
PCI_ONLY = (SR_IOV, ADMIN_VQ)
"""Bits that need what only PCI has. Bits 41 and 42 were a vendor's receive offloads once and are so no more (E12)."""

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

ADVICE: dict[int, tuple[tuple[int, ...], ...]] = {
    HASH_REPORT: ((CTRL_VQ,),),  # NETC-D-13, NETC-V-13
    CTRL_RX_EXTRA: ((CTRL_VQ,),),  # NETC-D-14, NETC-V-14
    CTRL_GUEST_OFFLOADS: ((CTRL_VQ,),),  # of no use without
    DEVICE_STATS: ((CTRL_VQ,),),  # of no use without
    IPSEC: ((OUT_NET_HEADER,),),  # NETF-D-01
    RSC_EXT: ((GUEST_TSO4, GUEST_TSO6),),  # what the specification's prose says, where its list says HOST (E4)
}
"""What a bit should not be without, in the form of `REQUIRES`: nobody may refuse a set for it (NETF-B-27)."""


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
        return cls.of(*map(_bit_called, names))

    def changed(self, delta: str) -> FeatureSet:
        """The set after a change like "+MQ,-GUEST_UFO" (comma or blank between names; no sign is a plus).

        What is added brings along what it requires, and what is taken away takes along what requires it, so that a set
        that keeps the dependency rules goes on keeping them. Raises `ConfigError` for a name that is not known, and
        for a feature that is both added and taken away.
        """
        plus, minus = _signed(delta)
        more = (self | plus).completed() if plus else self
        changed = (more - minus).closed() if minus else more
        if lost := plus - changed:
            raise ConfigError(f"{lost} cannot be added while {minus} is taken away")
        return changed

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
        return [f"{NAMES[bit]} requires {group_in_words(group)}" for bit, group in self._missing(REQUIRES)]

    def unadvised(self) -> list[str]:
        """What is allowed and yet should not be, a sentence each."""
        missing = [f"{NAMES[bit]} should come with {group_in_words(group)}" for bit, group in self._missing(ADVICE)]
        if VERSION_1 in self:
            missing += [f"{NAMES[bit]} is of legacy devices" for bit in LEGACY_ONLY if bit in self]
        return missing

    def _missing(self, rules: dict[int, tuple[tuple[int, ...], ...]]) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Each bit with a group of which it has none."""
        return ((bit, group) for bit in self for group in rules.get(bit, ()) if not self.has_any(*group))

    def undescribed(self) -> FeatureSet:
        """The bits that the specification does not describe for a network device, or reserves: nobody may take them."""
        return self - FeatureSet.of(*NAMES)

    def closed(self) -> FeatureSet:
        """The largest subset that keeps the dependency rules: a bit goes when what it requires is not there."""
        kept = self
        while faulty := [bit for bit, _ in kept._missing(REQUIRES)]:
            kept -= FeatureSet.of(*faulty)
        return kept

    def completed(self) -> FeatureSet:
        """The set with all that it requires; of a choice the first, unless another one is there."""
        whole = self
        while wanted := [group[0] for _, group in whole._missing(REQUIRES)]:
            whole |= FeatureSet.of(*wanted)
        return whole

    def __str__(self) -> str:
        """The names, lowest bit first, separated by commas."""
        return ", ".join(NAMES.get(bit, f"bit {bit}") for bit in self) or "none"


def group_in_words(group: tuple[int, ...]) -> str:
    """The names of a group of `REQUIRES` of which one is enough."""
    return " or ".join(NAMES[bit] for bit in group)


def _signed(delta: str) -> tuple[FeatureSet, FeatureSet]:
    """The features with a plus (or no sign) in front, and those with a minus."""
    words = delta.replace(",", " ").split()
    plus = FeatureSet.parse(word.removeprefix("+") for word in words if not word.startswith("-"))
    return plus, FeatureSet.parse(word.removeprefix("-") for word in words if word.startswith("-"))


def _bit_called(name: str) -> int:
    """The bit of a name as people write it; raises `ConfigError` with the nearest names for one there is not."""
    key = name.strip().upper().removeprefix("VIRTIO_NET_F_").removeprefix("VIRTIO_F_").removeprefix("VIRTIO_RING_F_")
    if key in BITS:
        return BITS[key]
    if key.isascii() and key.isdecimal() and len(key) <= 3 and int(key) < RESERVED_FROM:
        return int(key)
    near = difflib.get_close_matches(key, BITS, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(f"no feature is called {name!r}{hint}")
