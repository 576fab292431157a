"""What a guest sends, into a capture: as it leaves the device for the wire, or as it lay in the ring.

Frames that come and frames that go stand in the file in the order in which they did, which for those that leave is only
known each time the loop has stopped: `SentCapture.take` writes them then. At the ring the loop writes by itself.
"""

from __future__ import annotations

import ctypes
from typing import Literal, get_args

from netemu.capture import CaptureWriter
from netemu.capture.formats import FLAG_OUTBOUND
from netemu.capture.frames_out import write_frames
from netemu.errors import ConfigError
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import load_together
from netemu.nic import Nic
from netemu.nic.sending import Role
from netemu.replay.journey import sent_in_words
from netemu.trace import SentEvent, TraceBuffers

Tap = Literal["rx", "tx", "both"]
"""What a capture holds: what the guest receives, what it sends, or both, told apart by their direction."""
TAPS: tuple[Tap, ...] = get_args(Tap)


def which_tap(guest: Role, tap: Tap | None, kind: str | None, *, xdp: bool = False) -> Tap:
    """The tap that is meant: what a guest that sends has sent, else what it received; ``kind`` is the file's.

    A guest with an ``xdp`` program may send by XDP_TX, whatever it is else.
    Raises `ConfigError` for one that cannot be.
    """
    chosen = tap or ("tx" if guest == "send" else "rx")
    if chosen not in TAPS:
        raise ConfigError(f"no tap is called {chosen!r}; there are {', '.join(TAPS)}")
    if chosen != "rx" and guest == "sink" and not xdp:
        raise ConfigError(f"a guest that is a sink sends nothing, so tap {chosen} finds none: let it reflect or send")
    if chosen != "tx" and guest == "send":
        raise ConfigError(f"nothing arrives at a guest that sends, so tap {chosen} finds none: leave it, or say tx")
    if chosen == "both" and kind == "pcap":
        raise ConfigError("a pcap file cannot say which way a frame went: write .pcapng for both")
    return chosen


class SentCapture:
    """Takes what has left a card's device, and writes it."""

    def __init__(
        self, nic: Nic, writer: CaptureWriter | None, *, comments: bool = False, in_order: bool = False
    ) -> None:
        """Write to ``writer`` (None: nowhere), with ``comments`` on each frame's way.

        ``in_order``: among frames that were received, so the loop has to stop more often.
        """
        self._nic = nic
        self._writer = writer
        self._comments = comments
        self._events: dict[int, SentEvent] = {}
        nic.engine.drain_each = int(in_order and writer is not None)
        if writer is not None and not comments:
            load_together(write_frames)

    def note(self, trace: TraceBuffers) -> None:
        """Remember what a trace tells of frames that were sent, for their comments."""
        for event in trace.sent[: trace.struct.sent_count]:
            self._events[event.frame_id] = SentEvent.from_buffer_copy(event)

    def take(self) -> None:
        """Write what has left the device since the last call."""
        self._nic.sending.leave(self._write)
        self._events.clear()

    def comments_of(self, frame_id: int) -> list[str]:
        """What is said of a frame, in a list of one; empty if nothing is known of it."""
        event = self._events.get(frame_id)
        return [] if event is None else [sent_in_words(event)]

    def _write(self, address: int, count: int, _notes: int) -> None:
        writer = self._writer
        if writer is None:
            return
        if not self._comments:
            done = write_frames(writer.sink.address, address, 0, count)
            while done < count:
                writer.flush()
                done = write_frames(writer.sink.address, address, done, count)
            return
        for n in range(count):
            frame = frame_at(address + n * FRAME_SIZE)
            writer.write(
                ctypes.string_at(frame.address, frame.len),
                frame.tstamp,
                frame.wire_len,
                queue=frame.interface,
                frame_id=frame.id,
                flags=FLAG_OUTBOUND,
                comments=self.comments_of(frame.id),
            )
