"""The stages as Python objects: their memory, their options and their counters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from netemu.errors import ConfigError
from netemu.frame import Frame
from netemu.jit import Buffer, StructArray, allocate, array_of
from netemu.offload.batch import ARENA_BYTES, DONE, OUT_FRAMES, Batch, BatchBuffers
from netemu.offload.coalesce import FLOWS_PER_BUCKET, CoalesceJob, coalesce
from netemu.offload.dissect import Layers
from netemu.offload.finish import FinishJob, finish
from netemu.offload.flows import SLOT_BYTES, Flow
from netemu.offload.reasons import Why
from netemu.offload.segment import HEADERS_MAX, Plan
from netemu.offload.vnet import VnetHeader

MTU_MIN = 68
"""What every IPv4 link carries (RFC 791)."""
MTU_MAX = 65535
NAPI_BUDGET = 64
"""Frames of a poll in Linux."""
FLUSH_NS = 100_000
BUCKETS = 8
"""GRO_HASH_BUCKETS."""
BUCKETS_MAX = 1024
_SLOT = (SLOT_BYTES + 63) & ~63


class Stage(Protocol):
    """Frames in, frames out."""

    batch: Batch
    out: StructArray[Frame]

    def give(self, address: int, count: int, *, last: bool = False) -> None:
        """Name the next input: ``count`` `Frame` structs at host ``address``, which stay until `run` says True.

        ``last`` says that there will be no other, and nothing has to wait for it.
        """
        ...

    def run(self) -> bool:
        """Make frames, ``batch.made`` of them at ``out``; False if there are more to come from the same input.

        The frames of the call before are gone.
        """
        ...


class Finisher:
    """Does what senders left undone; ``job`` has its counters.

    Example::

        finisher = Finisher(mtu=1500)
        finisher.give(frames.address, len(frames))
        more = True
        while more:
            more = not finisher.run()
            use(finisher.out[: finisher.batch.made])
    """

    def __init__(
        self,
        *,
        mtu: int = 1500,
        accepts: int = 0,
        judging: bool = True,
        udp_size: int = 0,
        frames: int = OUT_FRAMES,
        arena_bytes: int = ARENA_BYTES,
    ) -> None:
        """Build the stage.

        ``mtu`` is the most bytes of an IP packet on the receiver's link, ``accepts`` a mask of
        `netemu.offload.accepts` (0: everything is finished, as on a wire). ``judging``: frames without a virtio-net
        header are judged by what is in them, else they are taken as complete. ``udp_size``: the size of the datagrams
        that a UDP packet over the MTU is cut into; 0: it is one datagram, and becomes fragments. ``frames`` and
        ``arena_bytes`` bound what one call makes. Raises `ConfigError`.
        """
        if not MTU_MIN <= mtu <= MTU_MAX:
            raise ConfigError(f"an MTU has {MTU_MIN} to {MTU_MAX} bytes, not {mtu}")
        if not 0 <= udp_size <= MTU_MAX:
            raise ConfigError(f"a datagram has 1 to {MTU_MAX} bytes, not {udp_size}")
        self._buffers = BatchBuffers(frames, arena_bytes)
        self.batch = self._buffers.batch
        self.out = self._buffers.out
        self._layers = Layers()
        self._header = VnetHeader()
        self._headers = allocate(HEADERS_MAX)
        self._plan = Plan(headers=self._headers.address)
        self._reasons = allocate(8 * len(Why))
        self.job = FinishJob(
            batch=self.batch.address,
            layers=self._layers.address,
            header=self._header.address,
            plan=self._plan.address,
            mtu=mtu,
            accepts=accepts,
            judging=int(judging),
            udp_size=udp_size,
            fragment_id=1,
            reasons=self._reasons.address,
        )

    def give(self, address: int, count: int, *, last: bool = False) -> None:  # noqa: ARG002 - nothing ever waits
        """See `Stage.give`."""
        self._buffers.give(address, count)

    def run(self) -> bool:
        """See `Stage.run`."""
        self._buffers.empty()
        return bool(finish(self.job.address) == DONE)

    @property
    def reasons(self) -> dict[Why, int]:
        """How many frames went on as they came, or were dropped, and why; reasons that did not occur are left out."""
        return _counted(self._reasons)


class Coalescer:
    """Merges segments of flows; ``job`` has its counters."""

    def __init__(
        self,
        *,
        budget: int = NAPI_BUDGET,
        flush_ns: int = FLUSH_NS,
        udp: bool = False,
        buckets: int = BUCKETS,
        frames: int = OUT_FRAMES,
        arena_bytes: int = ARENA_BYTES,
    ) -> None:
        """Build the stage.

        What waits goes up after ``budget`` frames or ``flush_ns`` nanoseconds. ``udp``: datagrams are merged too.
        ``buckets`` is how many times eight flows wait; 1 is what Linux does with a network card that reports no hash.
        ``frames`` and ``arena_bytes`` bound what one call makes. Raises `ConfigError`.
        """
        if budget < 1 or flush_ns < 0 or not 1 <= buckets <= BUCKETS_MAX:
            raise ConfigError("merging takes a budget of at least one frame, and a time that is not negative")
        self._buffers = BatchBuffers(frames, arena_bytes)
        self.batch = self._buffers.batch
        self.out = self._buffers.out
        self._last = False
        self._layers = array_of(Layers, 2)
        self._header = VnetHeader()
        flows = buckets * FLOWS_PER_BUCKET
        self._slots = allocate(flows * _SLOT)
        self._flows = array_of(Flow, flows)
        for n in range(flows):
            self._flows[n].bytes = self._slots.address + n * _SLOT
        self._reasons = allocate(8 * len(Why))
        self.job = CoalesceJob(
            batch=self.batch.address,
            layers=self._layers.address,
            held=self._layers.address + Layers.dtype.itemsize,
            header=self._header.address,
            flows=self._flows.address,
            buckets=buckets,
            budget=budget,
            flush_ns=flush_ns,
            udp=int(udp),
            reasons=self._reasons.address,
        )

    def give(self, address: int, count: int, *, last: bool = False) -> None:
        """See `Stage.give`."""
        self._buffers.give(address, count)
        self._last = last

    def run(self) -> bool:
        """See `Stage.run`."""
        self._buffers.empty()
        return bool(coalesce(self.job.address, int(self._last)) == DONE)

    @property
    def reasons(self) -> dict[Why, int]:
        """How many frames can never be merged, and why; reasons that did not occur are left out."""
        return _counted(self._reasons)


def _counted(counters: Buffer) -> dict[Why, int]:
    """Counters by reason, without the zeros."""
    counts = counters.array.view("<i8")
    return {why: int(counts[why]) for why in Why if counts[why]}


def pour(
    stages: Sequence[Stage], address: int, count: int, use: Callable[[int, int, int], None], *, last: bool = False
) -> None:
    """Send ``count`` frames at ``address`` through the stages in order; ``use`` gets what comes out of the last.

    It is called with the address and the number of frames, and the address of their notes (0 without any stage).
    ``last``: what waits in a stage comes out too.
    """
    if not stages:
        use(address, count, 0)
        return
    stage, rest = stages[0], stages[1:]
    stage.give(address, count, last=last)
    done = False
    while not done:
        done = stage.run()
        out = stage.out.address, stage.batch.made
        if rest:
            pour(rest, *out, use, last=last and done)
        elif stage.batch.made:
            use(*out, stage.batch.notes)
