"""In front of a node that does not take over what senders leave undone: it gets frames finished, large ones cut."""

from __future__ import annotations

from netemu.jit import entry, hook, i64
from netemu.net.pieces import Finishing, finished, pieces_at
from netemu.net.port import Port, hand_over, port_at
from netemu.net.wire_frame import WireFrames, wire_frame_at


@entry
def adapt_frame(port: i64, wire_frame: i64) -> i64:
    """`Port.adapt`: a frame with a header is made what the node takes, and handed over piece by piece."""
    p = pieces_at(port_at(port).adapter)
    piece = finished(p, wire_frame)
    p.lost_all += p.lost
    while piece != 0:
        following = wire_frame_at(piece).next
        hand_over(port, piece)
        piece = following
    return 0


class Adapter:
    """What makes frames that come in at a port what its node takes; lives as long as the port does."""

    def __init__(self, frames: WireFrames, port: Port, accepts: int) -> None:
        """``accepts`` is a mask of `netemu.offload.accepts`; 0: the node takes finished frames only, as from a wire."""
        self._finishing = Finishing(frames.pool.address, accepts)
        self._port = port
        port.adapter, port.adapt = self._finishing.struct.address, hook(adapt_frame)

    @property
    def accepts(self) -> int:
        """What the node takes over; may be set anew at any time."""
        return self._finishing.accepts

    @accepts.setter
    def accepts(self, mask: int) -> None:
        self._finishing.accepts = mask

    @property
    def lost(self) -> int:
        """Pieces for which there was no buffer."""
        return self._finishing.struct.lost_all

    @property
    def refused(self) -> int:
        """Frames whose header does not fit them, which are dropped."""
        return self._finishing.refused

    def remove(self) -> None:
        """Hand the node all frames as they are."""
        self._port.adapt = 0
