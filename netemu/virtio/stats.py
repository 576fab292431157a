"""Device statistics: types, the counters of each, requests and replies (VIRTIO 1.4, section 5.1.6.5.10).

STATS_QUERY is answered with a mask of types. STATS_GET carries one request per queue, each with a mask of types, and is
answered with a block per queue and type: a header that names both and its own size, then 64-bit counters.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from netemu.virtio import features as f

RX_BASIC = 0
RX_CSUM = 1
RX_GSO = 2
RX_SPEED = 3
TX_BASIC = 16
TX_CSUM = 17
TX_GSO = 18
TX_SPEED = 19
CVQ = 32

RX_TYPES = (RX_BASIC, RX_CSUM, RX_GSO, RX_SPEED)
TX_TYPES = (TX_BASIC, TX_CSUM, TX_GSO, TX_SPEED)

COUNTERS: dict[int, tuple[str, ...]] = {
    CVQ: ("command_num", "ok_num"),
    RX_BASIC: (
        "rx_notifications", "rx_packets", "rx_bytes", "rx_interrupts", "rx_drops", "rx_drop_overruns",
    ),
    RX_CSUM: ("rx_csum_valid", "rx_needs_csum", "rx_csum_none", "rx_csum_bad"),
    RX_GSO: ("rx_gso_packets", "rx_gso_bytes", "rx_gso_packets_coalesced", "rx_gso_bytes_coalesced"),
    RX_SPEED: ("rx_packets_allowance_exceeded", "rx_bytes_allowance_exceeded"),
    TX_BASIC: (
        "tx_notifications", "tx_packets", "tx_bytes", "tx_interrupts", "tx_drops", "tx_drop_malformed",
    ),
    TX_CSUM: ("tx_csum_none", "tx_needs_csum"),
    TX_GSO: (
        "tx_gso_packets", "tx_gso_bytes", "tx_gso_segments", "tx_gso_segments_bytes",
        "tx_gso_packets_noseg", "tx_gso_bytes_noseg",
    ),
    TX_SPEED: ("tx_packets_allowance_exceeded", "tx_bytes_allowance_exceeded"),
}  # fmt: skip
"""Type to the names of its counters, in order."""

NEEDS_ANY: dict[int, tuple[int, ...]] = {
    RX_CSUM: (f.GUEST_CSUM,),
    RX_GSO: (f.GUEST_TSO4, f.GUEST_TSO6),
    TX_CSUM: (f.CSUM,),
    TX_GSO: (f.HOST_TSO4, f.HOST_TSO6, f.HOST_USO),
}
"""Type to the features of which one has to be negotiated (DST-D-11); types that are missing here need none."""

REQUEST = struct.Struct("<H6xQ")
"""Queue and mask of types."""
REPLY_HEADER = struct.Struct("<BxHxxH")
"""Type, queue, and bytes of the block with this header (DST-D-07, DST-D-08)."""
_COUNTER_MASK = (1 << 64) - 1


def types_in(mask: int) -> Iterator[int]:
    """The types of a mask, ascending."""
    return (bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def block_size(kind: int) -> int:
    """Bytes of a reply block of this type, header included."""
    return REPLY_HEADER.size + 8 * len(COUNTERS[kind])


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a reply: type, queue, and the counters by name."""

    kind: int
    vq_index: int
    counters: dict[str, int]

    def pack(self) -> bytes:
        """The block's bytes; counters wrap to zero (DST-D-10)."""
        names = COUNTERS[self.kind]
        header = REPLY_HEADER.pack(self.kind, self.vq_index, block_size(self.kind))
        return header + struct.pack(f"<{len(names)}Q", *(self.counters[name] & _COUNTER_MASK for name in names))


def unpack_blocks(data: bytes) -> list[Block]:
    """The blocks of a reply up to the first that is not whole; types that are not known are skipped."""
    blocks = []
    while len(data) >= REPLY_HEADER.size:
        kind, vq_index, size = REPLY_HEADER.unpack_from(data)
        if not REPLY_HEADER.size <= size <= len(data):
            break
        values = [value for (value,) in struct.iter_unpack("<Q", data[REPLY_HEADER.size : size - size % 8])]
        if kind in COUNTERS:
            blocks.append(Block(kind, vq_index, dict(zip(COUNTERS[kind], values, strict=False))))
        data = data[size:]
    return blocks


def pack_requests(requests: Iterable[tuple[int, int]]) -> bytes:
    """STATS_GET's data from (queue, mask of types)."""
    return b"".join(REQUEST.pack(vq_index, mask) for vq_index, mask in requests)
