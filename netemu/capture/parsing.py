"""What the readers of both formats share: the state a parse kernel works on, and the way of a packet through Python.

Theory of operation
-------------------
Each format has two ways to take the next record out of the `Window`:

* its *kernel* runs over all records that lie in the window as a whole, and stops at anything that is rare;
* its `step` takes one record in Python: those rare ones, and those that are wrong, which it explains in a
  `CaptureError`.

So a fault is described in one place only, and never before the frames in front of it were handed out. `step` knows
every kind of record, so that packets can be read with it alone, slowly, with all their options (see
`netemu.capture.packets`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from netemu.capture.formats import LINKTYPE_ETHERNET, MAX_FRAME, NSEC_PER_SEC, link_type_name
from netemu.capture.window import Window
from netemu.errors import CaptureError
from netemu.jit import Struct, i64, kernel, load32, load32be, pointer, struct

# What a parse kernel returns
PARSE_MORE = 0
"""The next record is not in the window as a whole."""
PARSE_FULL = 1
"""The batch is full."""
PARSE_STEP = 2
"""The next record is one for `step`."""


@struct
class ParseState(Struct):
    """Where a parse kernel reads, where it writes, and what it knows of the file."""

    data: i64
    """Host address of the next record."""
    end: i64
    """Host address behind the last byte that was read."""
    size: i64
    """Bytes of the whole window: a longer record never fits."""
    big_endian: i64
    frames: i64
    """Address of `Frame` structs, room for ``capacity``."""
    capacity: i64
    count: i64
    """Frames that the last call appended."""
    next_id: i64
    header_len: i64
    """pcap: bytes of a record header."""
    scale: i64
    """pcap: ns per unit of the second timestamp field."""
    interfaces: i64
    """pcapng: address of the section's `InterfaceClock` structs."""
    interface_count: i64
    first_interface: i64
    """pcapng: number in the file of the section's interface 0."""


parse_state_at = pointer(ParseState)


@kernel
def word32(address: i64, big_endian: i64) -> i64:
    """The 32-bit number at ``address``, in the file's byte order."""
    return load32be(address) if big_endian else load32(address)


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface as the file describes it."""

    link_type: int = LINKTYPE_ETHERNET
    snaplen: int = 0
    """Bytes at which frames were cut; 0 for no limit."""
    name: str = ""
    description: str = ""
    ticks_per_second: int = NSEC_PER_SEC
    """Unit of its timestamps (if_tsresol)."""
    offset: int = 0
    """Seconds to add to its timestamps (if_tsoffset)."""


@dataclass(slots=True)
class Packet:
    """One packet as `step` found it. Its bytes are ``window.memory[at : at + caplen]`` until the next refill."""

    at: int
    caplen: int
    wire_len: int
    tstamp: int
    interface: int
    id: int
    options: bytes = b""
    """The packed pcapng options."""
    dropped: int | None = None
    """Packets lost in front of this one, where an obsolete packet block says so."""


class Format(Protocol):
    """The reader of one format."""

    window: Window
    state: ParseState
    interfaces: list[Interface]
    order: str
    """pcapng: the section's byte order, "<" or ">"; "" for pcap."""
    kernel: Any
    """The entry kernel: takes the address of ``state``, returns one of the codes above."""

    def step(self) -> Packet | None:
        """Take one record; None if it holds no packet. Raises `CaptureError` for a fault, or if the file ends in it."""
        ...


def fail(window: Window, cause: str) -> NoReturn:
    """Raise the `CaptureError` for the record that starts the window."""
    raise CaptureError(window.source.name, cause, window.offset)


def check_lengths(window: Window, number: int, caplen: int, wire_len: int) -> None:
    """Raise `CaptureError` for lengths of frame ``number`` that neither format allows."""
    if caplen > MAX_FRAME:
        fail(window, f"frame {number} claims {caplen} captured bytes; the limit is {MAX_FRAME}: the file is damaged")
    if caplen > wire_len:
        fail(window, f"frame {number} claims {caplen} captured bytes of a frame of {wire_len}: the file is damaged")


def check_link_type(window: Window, link_type: int, accepted: frozenset[int] | None, whose: str) -> None:
    """Raise `CaptureError` if ``accepted`` (None: every one) has not ``link_type``, which is that of ``whose``."""
    if accepted is not None and link_type not in accepted:
        wanted = ", ".join(link_type_name(number) for number in sorted(accepted))
        fail(window, f"{whose} has link type {link_type_name(link_type)}; accepted: {wanted}")
