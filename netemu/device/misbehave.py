"""Receive queues that break rules on purpose."""

from __future__ import annotations

from collections.abc import Iterable

from netemu.device.chain import DeviceQueue
from netemu.device.quirk_header import spoil
from netemu.device.quirk_used import publish_badly
from netemu.device.quirks import QUIRKS, TAG_MAX, DeviceQuirks, UsedEntry
from netemu.jit import Buffer, StructArray, allocate, array_of, hook
from netemu.quirks import QuirkSet
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.net import GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, header_length

_UNASKED = ((GSO_UDP_L4, f.GUEST_USO4), (GSO_UDP, f.GUEST_UFO), (GSO_TCPV4, f.GUEST_TSO4), (GSO_TCPV6, f.GUEST_TSO6))
"""What a driver may not have asked for, and the feature by which it does."""


class MisbehavingQueue:
    """The `DeviceQuirks` of one queue together with its rules and memory."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Read the rules (`netemu.quirks.parse_quirk`); raises `ConfigError` for a quirk that is not a device's."""
        self.rules = QuirkSet(texts, QUIRKS)
        self.struct = DeviceQuirks(rules=self.rules.struct.address, spoil=hook(spoil), publish=hook(publish_badly))
        self._owned: tuple[object, ...] = ()

    def attach(self, dq: DeviceQueue, num: int, features: FeatureSet) -> None:
        """Have a queue of ``num`` entries that was just set up misbehave under these features."""
        entries: StructArray[UsedEntry] = array_of(UsedEntry, 2 * num + 2)
        kept: StructArray[UsedEntry] = array_of(UsedEntry, num + 1)
        spare: Buffer = allocate((num + 1) * TAG_MAX)
        for n, one in enumerate(kept):
            one.tag = spare.address + n * TAG_MAX
        self._owned = entries, kept, spare
        q = self.struct
        q.queue, q.hdr_len = dq.address, header_length(features)
        q.entries, q.kept = entries.address, kept.address
        q.kept_count = q.kept_after = q.decided = q.repair = 0
        q.unasked = next((kind for kind, bit in _UNASKED if bit not in features), 0)
        dq.quirks = q.address
