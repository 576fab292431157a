"""The stages as Python objects: their memory, their options and their counters."""

from __future__ import annotations

from typing import Protocol

from netemu.errors import ConfigError
from netemu.frame import Frame
from netemu.jit import StructArray, allocate
from netemu.offload.batch import ARENA_BYTES, DONE, OUT_FRAMES, Batch, BatchBuffers
from netemu.offload.dissect import Layers
from netemu.offload.finish import FinishJob, finish
from netemu.offload.reasons import Why
from netemu.offload.segment import HEADERS_MAX, Plan
from netemu.offload.vnet import VnetHeader

MTU_MIN = 68
"""What every IPv4 link carries (RFC 791)."""
MTU_MAX = 65535


class Stage(Protocol):
    """Frames in, frames out."""

    batch: Batch
    out: StructArray[Frame]

    def give(self, address: int, count: int) -> None:
        """Name the next input: ``count`` `Frame` structs at host ``address``, which stay until `run` says True."""
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

    def give(self, address: int, count: int) -> None:
        """See `Stage.give`."""
        self._buffers.give(address, count)

    def run(self) -> bool:
        """See `Stage.run`."""
        self._buffers.empty()
        return bool(finish(self.job.address) == DONE)

    @property
    def reasons(self) -> dict[Why, int]:
        """How many frames went on as they came, or were dropped, and why; reasons that did not occur are left out."""
        counts = self._reasons.array.view("<i8")
        return {why: int(counts[why]) for why in Why if counts[why]}
