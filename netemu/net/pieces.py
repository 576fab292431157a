"""Large frames into those of a wire, and unfinished ones finished: `netemu.offload.finish` over wire frames."""

from __future__ import annotations

from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import Struct, call1, hook, i64, kernel, pointer, struct
from netemu.net.wire_frame import copied_frame, copy_vnet, put_wire_frame, wire_frame_at, wire_pool_at
from netemu.offload.batch import FULL, batch_at
from netemu.offload.finish import finish, finish_job_at
from netemu.offload.reasons import BAD_CSUM_START, BAD_TUNNEL
from netemu.offload.stages import Finisher


@struct
class Pieces(Struct):
    """What it takes to finish a frame."""

    job: i64
    """Address of a `FinishJob` whose ``accepts`` says what may stay undone."""
    finish: i64
    """Hook `netemu.offload.finish.finish`: one compilation of it serves all who need pieces."""
    pool: i64
    lost: i64
    """Pieces of the last frame for which there was no buffer."""
    lost_all: i64
    """Those of all frames, for whoever adds them up."""


pieces_at = pointer(Pieces)


@kernel
def finished(p: Pieces, wire_frame: i64) -> i64:
    """The frames that a frame becomes, as a list by ``next``: often itself; 0: none, its header is not to be believed.

    The reference to the frame is used up. Each in the list has one user.
    """
    pool = wire_pool_at(p.pool)
    batch = batch_at(finish_job_at(p.job).batch)
    wf = wire_frame_at(wire_frame)
    frame = frame_at(wf.frame)
    batch.frames = wf.frame
    batch.count = 1
    batch.next = 0
    p.lost = 0
    first = 0
    last = 0
    kept = 0
    more = 1
    while more:
        batch.made = 0
        batch.arena_used = 0
        more = 1 if call1(p.finish, p.job) == FULL else 0
        for n in range(batch.made):
            piece = batch.out + n * FRAME_SIZE
            out = frame_at(piece)
            if out.address == frame.address and wf.users == 1:
                if out.vnet == 0:
                    frame.vnet = 0
                else:
                    copy_vnet(frame.vnet, out.vnet)
                new = wire_frame
                kept = 1
            else:
                new = copied_frame(pool, piece)
            if new == 0:
                p.lost += 1
                continue
            wire_frame_at(new).next = 0
            if first == 0:
                first = new
            else:
                wire_frame_at(last).next = new
            last = new
    if kept == 0:
        put_wire_frame(wire_frame)
    return first


class Finishing:
    """A `Pieces` with its memory, for Python."""

    def __init__(self, pool: int, accepts: int = 0) -> None:
        """``pool`` is the address of the `WirePool` that copies come from, ``accepts`` a mask of ACCEPT_..."""
        self._finisher = Finisher(accepts=accepts, judging=False, frames=64, arena_bytes=1 << 18)
        self.struct = Pieces(job=self._finisher.job.address, finish=hook(finish), pool=pool)

    @property
    def refused(self) -> int:
        """Frames whose header does not fit them."""
        return sum(count for why, count in self._finisher.reasons.items() if BAD_CSUM_START <= why <= BAD_TUNNEL)

    @property
    def accepts(self) -> int:
        """What may stay undone: a mask of `netemu.offload.accepts`."""
        return self._finisher.job.accepts

    @accepts.setter
    def accepts(self, mask: int) -> None:
        self._finisher.job.accepts = mask
