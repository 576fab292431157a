"""Captures of a lab: files that frames go to while emulated time goes by.

A guest's capture is what tcpdump shows in it: frames as its protocols hand them down, unfinished checksums and large
segments included, and as its driver hands them up. A capture of its *ring* is what lies in the buffers of its card
(docs/ring-capture-format.md). One of a link, or of a port, is of `netemu.net.tap`.
"""

from __future__ import annotations

import os

from netemu.capture import CaptureWriter
from netemu.capture.formats import LINKTYPE_ETHERNET, LINKTYPE_USER0
from netemu.capture.sink import SINK_NONE, sink_at
from netemu.capture.writer import InterfaceInfo
from netemu.errors import ConfigError, NetemuError
from netemu.lab.guest import Guest
from netemu.net.port import Port
from netemu.net.tap import PortCapture
from netemu.net.world import World

ROOM = 16 << 20
"""Bytes for records between two looks at a capture; what is never touched costs no memory."""


class LabCapture(CaptureWriter):
    """A capture file of a lab, which has room for all that one event can bring."""

    def __init__(
        self, world: World, path: str | os.PathLike[str], name: str, link_type: int = LINKTYPE_ETHERNET
    ) -> None:
        """Make the file; ``name`` is its interface's. Raises `ConfigError` and `CaptureError` as every capture does."""
        super().__init__(path, link_type, interface=InterfaceInfo(name=name), room=ROOM)
        self.at: PortCapture | None = None
        self.place = name
        """The guest, link or port that it is of."""
        self.is_of_frames = link_type == LINKTYPE_ETHERNET
        world.add_capture(self)

    def finish(self) -> None:
        """Write what is left and close; raises `NetemuError` if frames are missing."""
        self.close()
        missed = self.sink.missed + (self.at.lost if self.at is not None else 0)
        if missed:
            raise NetemuError(f"{self.path}: {missed} frames found no room in the capture's buffer")


def _is_free(guest: Guest) -> None:
    if sink_at(guest.nic.engine.sink).kind != SINK_NONE:
        raise ConfigError(f"{guest.name} has a capture already; a second one can be taken at its link")


def capture_guest(world: World, guest: Guest, path: str | os.PathLike[str]) -> LabCapture:
    """What tcpdump in the guest would write from now on."""
    _is_free(guest)
    capture = LabCapture(world, path, guest.name)
    guest.nic.attach(capture.sink)
    return capture


def capture_ring(world: World, guest: Guest, path: str | os.PathLike[str]) -> LabCapture:
    """What lies in the rings of the guest's card from now on, both ways."""
    _is_free(guest)
    capture = LabCapture(world, path, guest.name, LINKTYPE_USER0)
    guest.nic.attach(capture.sink, at_ring=True)
    guest.nic.tap_sent(capture.sink)
    return capture


def capture_port(
    world: World, port: Port, path: str | os.PathLike[str], name: str, *, raw: bool = False, cut: bool = False
) -> LabCapture:
    """What passes a port from now on, as its node sees it; see `netemu.net.tap.PortCapture`."""
    if port.tap:
        raise ConfigError(f"{name} has a capture already; a second one can be taken at the other end of its link")
    capture = LabCapture(world, path, name)
    capture.at = PortCapture(world.timers, world.wires, port, capture.sink, raw=raw, cut=cut)
    return capture
