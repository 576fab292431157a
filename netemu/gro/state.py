"""What GRO remembers between frames: the skbs it holds, per bucket in order of age."""

from __future__ import annotations

import numpy as np

from netemu.jit import Buffer, Struct, StructArray, allocate, array_of, i64, pointer, struct

GRO_HASH_BUCKETS = 8
MAX_GRO_SKBS = 8
"""Flows held per bucket."""
GRO_MAX_SIZE = 65536
"""A merged packet stays below this many bytes, counted from its network header (or VLAN tag)."""
BUCKET_SIZE = 8 * (1 + MAX_GRO_SKBS)
"""A bucket: how many it holds, and the addresses of all its `Held`, the oldest of those in use first."""


@struct
class Held(Struct):
    """An skb that may still grow. Offsets in bytes from its ``data``."""

    skb: i64
    last: i64
    """Where frags are added: the skb itself, or the last of its frag list."""
    count: i64
    """Segments in it."""
    network: i64
    transport: i64
    fixed_id: i64
    """Its segments all have the same IPv4 identification, instead of one after the other."""


@struct
class Gro(Struct):
    """One queue's GRO: the buckets, what is ready, the frame at hand, counters."""

    buckets: i64
    hop_limit_is_flow: i64
    """IPv6 packets with another hop limit are of another flow (until v5.16); else they end what is held of theirs."""
    compares_cwr: i64
    """CWR has to be equal in all segments (v6.15); else one with it starts a packet."""
    fixed_id_without_df: i64
    """The IPv4 identification may stay the same even without DF (v6.18)."""
    first: i64
    last: i64
    """Skbs that are ready to go up, linked by ``next``."""
    network: i64
    transport: i64
    payload: i64
    """Of the frame at hand: where its layers begin, in bytes from ``data``."""
    flush: i64
    """Of the frame at hand: it can neither be held nor merged."""
    merged: i64
    """Frames whose payload went into a held skb."""
    packets: i64
    """Packets of more than one segment that went up."""
    fates: i64
    """Address of the queue's `netemu.fates.FateLog`, or 0."""


gro_at = pointer(Gro)
held_at = pointer(Held)


class GroState:
    """A `Gro` together with the memory of its buckets."""

    def __init__(
        self, *, hop_limit_is_flow: bool = False, compares_cwr: bool = True, fixed_id_without_df: bool = True
    ) -> None:
        """An empty one; the facts are those in which kernels differ, see `Gro`."""
        self._held: StructArray[Held] = array_of(Held, GRO_HASH_BUCKETS * MAX_GRO_SKBS)
        self._buckets: Buffer = allocate(GRO_HASH_BUCKETS * BUCKET_SIZE)
        table = self._buckets.array.view(np.int64).reshape(GRO_HASH_BUCKETS, 1 + MAX_GRO_SKBS)
        places = np.arange(GRO_HASH_BUCKETS * MAX_GRO_SKBS) * Held.dtype.itemsize
        table[:, 1:] = self._held.address + places.reshape(GRO_HASH_BUCKETS, MAX_GRO_SKBS)
        self.struct = Gro(
            buckets=self._buckets.address,
            hop_limit_is_flow=int(hop_limit_is_flow),
            compares_cwr=int(compares_cwr),
            fixed_id_without_df=int(fixed_id_without_df),
        )
        self.address = self.struct.address
