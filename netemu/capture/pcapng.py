"""Reading pcapng: sections of blocks, each with its own byte order and interfaces (draft-ietf-opsawg-pcapng).

Theory of operation
-------------------
The kernel handles enhanced, simple and obsolete packet blocks, and skips every kind of block it does not know. It stops
for a section header and an interface description, for a block that is wrong or larger than the window, and for the few
packets whose timestamp its 64-bit arithmetic cannot hold; `PcapngFormat.step` takes these, with Python's integers.

The section's interfaces are kept twice: as `Interface` for people, and as `InterfaceClock` for the kernel, which needs
no more than whether frames are accepted and how ticks become nanoseconds.
"""

from __future__ import annotations

import math
import struct as packing

from netemu.capture.formats import (
    BLOCK_ENHANCED_PACKET,
    BLOCK_INTERFACE,
    BLOCK_OVERHEAD,
    BLOCK_PACKET,
    BLOCK_SECTION,
    BLOCK_SIMPLE_PACKET,
    BYTE_ORDER_MAGIC,
    ENHANCED_HEADER,
    IF_DESCRIPTION,
    IF_NAME,
    IF_TSOFFSET,
    IF_TSRESOL,
    INT64_MAX,
    MAX_FRAME,
    NSEC_PER_SEC,
    SIMPLE_HEADER,
)
from netemu.capture.options import text, unpack_options
from netemu.capture.parsing import (
    PARSE_FULL,
    PARSE_MORE,
    PARSE_STEP,
    Interface,
    Packet,
    ParseState,
    check_lengths,
    check_link_type,
    fail,
    parse_state_at,
    word32,
)
from netemu.capture.window import Window
from netemu.errors import CaptureError
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import Struct, StructArray, array_of, entry, i64, load16, load16be, pointer, struct

_PACKET_BLOCKS = (BLOCK_ENHANCED_PACKET, BLOCK_SIMPLE_PACKET, BLOCK_PACKET)
_SMALLEST = {
    BLOCK_INTERFACE: 20,
    BLOCK_PACKET: ENHANCED_HEADER + 4,
    BLOCK_SIMPLE_PACKET: SIMPLE_HEADER + 4,
    BLOCK_ENHANCED_PACKET: ENHANCED_HEADER + 4,
}
_SECTION_HEADER = 28
_UNKNOWN_DROPS = 0xFFFF
_DEFAULT_TICKS = 1_000_000


@struct
class InterfaceClock(Struct):
    """What the kernel knows of an interface: ns = ticks * scale // divide, seconds apart where ``divide`` is not 1."""

    accepted: i64
    """1 if its link type is one of those asked for."""
    snaplen: i64
    ticks_per_second: i64
    scale: i64
    divide: i64
    base: i64
    """ns to add."""
    limit: i64
    """Timestamps from here on (ticks), and negative ones, are left to `PcapngFormat.step`."""


clock_at = pointer(InterfaceClock)
_CLOCK_SIZE = InterfaceClock.dtype.itemsize


@entry
def parse_pcapng(address: i64) -> i64:
    """Append the packets that lie in the window of the `ParseState` at ``address`` to its batch; say why it stopped."""
    state = parse_state_at(address)
    at = state.data
    end = state.end
    big = state.big_endian
    number = state.next_id
    out = state.frames
    count = 0
    result = PARSE_MORE
    while end - at >= BLOCK_OVERHEAD:
        kind = word32(at, big)
        size = word32(at + 4, big)
        if kind in (BLOCK_SECTION, BLOCK_INTERFACE) or size < BLOCK_OVERHEAD or size & 3 or size > state.size:
            result = PARSE_STEP
            break
        if end - at < size:
            break
        if word32(at + size - 4, big) != size:
            result = PARSE_STEP
            break
        interface = 0
        tstamp = 0
        if kind in (BLOCK_ENHANCED_PACKET, BLOCK_PACKET):
            if size < ENHANCED_HEADER + 4:
                result = PARSE_STEP
                break
            header = ENHANCED_HEADER
            caplen = word32(at + 20, big)
            wire_len = word32(at + 24, big)
            if kind == BLOCK_ENHANCED_PACKET:
                interface = word32(at + 8, big)
            else:
                interface = load16be(at + 8) if big else load16(at + 8)
        elif kind == BLOCK_SIMPLE_PACKET:
            if size < SIMPLE_HEADER + 4 or state.interface_count == 0:
                result = PARSE_STEP
                break
            header = SIMPLE_HEADER
            wire_len = word32(at + 8, big)
            caplen = wire_len
            snaplen = clock_at(state.interfaces).snaplen
            if snaplen != 0:
                caplen = min(snaplen, wire_len)
        else:
            at += size
            continue
        if interface >= state.interface_count or caplen > MAX_FRAME or caplen > wire_len or caplen > size - header - 4:
            result = PARSE_STEP
            break
        clock = clock_at(state.interfaces + interface * _CLOCK_SIZE)
        if clock.accepted == 0:
            result = PARSE_STEP
            break
        if header == ENHANCED_HEADER:
            ticks = (word32(at + 12, big) << 32) | word32(at + 16, big)
            if ticks < 0 or ticks >= clock.limit:
                result = PARSE_STEP
                break
            if clock.divide == 1:
                tstamp = ticks * clock.scale + clock.base
            else:
                seconds = ticks // clock.ticks_per_second
                rest = ticks - seconds * clock.ticks_per_second
                tstamp = seconds * NSEC_PER_SEC + rest * clock.scale // clock.divide + clock.base
        if count == state.capacity:
            result = PARSE_FULL
            break
        frame = frame_at(out)
        frame.address = at + header
        frame.len = caplen
        frame.wire_len = wire_len
        frame.tstamp = tstamp
        frame.interface = state.first_interface + interface
        frame.id = number
        frame.vnet = 0
        number += 1
        count += 1
        out += FRAME_SIZE
        at += size
    state.data = at
    state.next_id = number
    state.count = count
    return result


def nanoseconds(interface: Interface, ticks: int) -> int:
    """The time of a packet, ns since 1970, rounded down; held at the ends of int64 (the year 2262)."""
    ns = ticks * NSEC_PER_SEC // interface.ticks_per_second + interface.offset * NSEC_PER_SEC
    return max(-INT64_MAX - 1, min(INT64_MAX, ns))


def _fill_clock(clock: InterfaceClock, interface: Interface, accepted: bool) -> None:
    """Set up ``clock`` so that below its limit the kernel's arithmetic is exact and cannot overflow."""
    rate = interface.ticks_per_second
    common = math.gcd(NSEC_PER_SEC, rate)
    scale, divide = NSEC_PER_SEC // common, rate // common
    base = interface.offset * NSEC_PER_SEC
    clock.accepted = int(accepted)
    clock.snaplen = interface.snaplen
    if rate * scale > INT64_MAX or abs(base) > INT64_MAX // 2:
        return  # the limit stays 0: Python does all of this interface's timestamps
    clock.ticks_per_second = rate
    clock.scale = scale
    clock.divide = divide
    clock.base = base
    clock.limit = min(INT64_MAX, (INT64_MAX - max(base, 0)) * rate // NSEC_PER_SEC)


class PcapngFormat:
    """A pcapng file whose section header was seen at the front of ``window``."""

    def __init__(self, window: Window, link_types: frozenset[int] | None) -> None:
        """Take the first section header; raises `CaptureError` if it is damaged."""
        self.window = window
        self.kernel = parse_pcapng
        self.state = ParseState(next_id=1, size=window.size)
        self.interfaces: list[Interface] = []
        self._clocks: StructArray[InterfaceClock] = array_of(InterfaceClock, 4)
        self._link_types = link_types
        self.order = "<"
        self.step()

    def step(self) -> Packet | None:
        """Take one block, see `netemu.capture.parsing.Format`."""
        window = self.window
        if not window.need(BLOCK_OVERHEAD):
            fail(window, f"the file ends inside a block: {window.left} of at least {BLOCK_OVERHEAD} bytes are there")
        (kind,) = self._words(0, "I")
        if kind == BLOCK_SECTION:
            self._start_section()
            return None
        (size,) = self._words(4, "I")
        if size < _SMALLEST.get(kind, BLOCK_OVERHEAD) or size & 3:
            fail(window, f"a block of type {kind:#x} claims an impossible length of {size} bytes")
        if kind not in _SMALLEST:
            self._skip_block(kind, size)
            return None
        if size > window.size:
            fail(window, f"a block of type {kind:#x} claims {size} bytes, more than the {window.size} of a sane one")
        if not window.need(size):
            self._explain_end(kind, size)
        self._check_trailer(size, window.start + size - 4)
        packet = None
        if kind == BLOCK_INTERFACE:
            self._add_interface(size)
        else:
            packet = self._simple(size) if kind == BLOCK_SIMPLE_PACKET else self._enhanced(kind, size)
            self.state.next_id += 1
        window.start += size
        return packet

    def _words(self, at: int, form: str) -> tuple[int, ...]:
        """Numbers of the block that starts the window, from its byte ``at`` on."""
        return packing.unpack_from(self.order + form, self.window.memory, self.window.start + at)

    def _bytes(self, start: int, end: int) -> bytes:
        """Bytes ``start`` to ``end`` of the block that starts the window."""
        return bytes(self.window.memory[self.window.start + start : self.window.start + end])

    def _check_trailer(self, size: int, at: int) -> None:
        """Compare the length behind a block, at ``window.memory[at]``, with the one in front."""
        (behind,) = packing.unpack_from(self.order + "I", self.window.memory, at)
        if behind != size:
            fail(self.window, f"a block's two lengths differ: {size} in front, {behind} behind")

    def _explain_end(self, kind: int, size: int) -> None:
        """Raise the error for a block of ``size`` bytes that the file ends in."""
        window, number = self.window, self.state.next_id
        header = SIMPLE_HEADER if kind == BLOCK_SIMPLE_PACKET else ENHANCED_HEADER
        if kind in _PACKET_BLOCKS and window.left >= header:
            (caplen,) = self._words(header - 4 if kind == BLOCK_SIMPLE_PACKET else 20, "I")
            if caplen > window.left - header:
                there = window.left - header
                fail(window, f"the file ends inside frame {number}, which claims {caplen} bytes; {there} are there")
        what = f"the block of frame {number}" if kind in _PACKET_BLOCKS else f"a block of type {kind:#x}"
        fail(window, f"the file ends inside {what}, which claims {size} bytes; {window.left} are there")

    def _skip_block(self, kind: int, size: int) -> None:
        """Pass over a block that says nothing about frames, of any length."""
        window = self.window
        if size <= window.size:
            if not window.need(size):
                self._explain_end(kind, size)
            self._check_trailer(size, window.start + size - 4)
            window.start += size
            return
        offset = window.offset
        if not window.discard(size - 4) or not window.need(4):
            there = window.offset + window.left - offset
            cause = f"the file ends inside a block of type {kind:#x}, which claims {size} bytes; {there} are there"
            raise CaptureError(window.source.name, cause, offset)
        self._check_trailer(size, window.start)
        window.start += 4

    def _start_section(self) -> None:
        """Take a section header: a byte order of its own, and no interfaces yet."""
        window = self.window
        if not window.need(_SECTION_HEADER):
            fail(window, f"the file ends inside a section header: {window.left} of {_SECTION_HEADER} bytes are there")
        magic = self._bytes(8, 12)
        if magic == BYTE_ORDER_MAGIC.to_bytes(4, "little"):
            self.order = "<"
        elif magic == BYTE_ORDER_MAGIC.to_bytes(4, "big"):
            self.order = ">"
        else:
            fail(window, f"a section header has no byte-order magic but {magic.hex(' ')}")
        size, _, major, minor = self._words(4, "IIHH")
        if size < _SECTION_HEADER or size & 3 or size > window.size:
            fail(window, f"a section header claims an impossible length of {size} bytes")
        if major != 1:
            fail(window, f"pcapng version {major}.{minor} is not read here, only 1.x")
        if not window.need(size):
            self._explain_end(BLOCK_SECTION, size)
        self._check_trailer(size, window.start + size - 4)
        self.state.big_endian = int(self.order == ">")
        self.state.first_interface = len(self.interfaces)
        self.state.interface_count = 0
        self.state.interfaces = self._clocks.address
        window.start += size

    def _add_interface(self, size: int) -> None:
        """Take an interface description of ``size`` bytes."""
        link_type, _, snaplen = self._words(8, "HHI")
        try:
            options = unpack_options(self._bytes(16, size - 4), self.order)
        except ValueError as error:
            fail(self.window, f"an interface description is damaged: {error}")
        ticks, offset, name, description = _DEFAULT_TICKS, 0, "", ""
        for code, value in options:
            if code == IF_TSRESOL and len(value) == 1:
                base = 2 if value[0] & 0x80 else 10
                ticks = base ** (value[0] & 0x7F)
            elif code == IF_TSOFFSET and len(value) == 8:
                (offset,) = packing.unpack(self.order + "q", value)
            elif code == IF_NAME:
                name = text(value)
            elif code == IF_DESCRIPTION:
                description = text(value)
        interface = Interface(link_type, snaplen, name, description, ticks, offset)
        self.interfaces.append(interface)
        state = self.state
        if state.interface_count == len(self._clocks):
            self._clocks = array_of(InterfaceClock, 2 * state.interface_count)
            state.interfaces = self._clocks.address
            for index, known in enumerate(self.interfaces[state.first_interface : -1]):
                self._set_clock(index, known)
        self._set_clock(state.interface_count, interface)
        state.interface_count += 1

    def _set_clock(self, index: int, interface: Interface) -> None:
        accepted = self._link_types is None or interface.link_type in self._link_types
        self._clocks[index].limit = 0
        _fill_clock(self._clocks[index], interface, accepted)

    def _find_interface(self, index: int) -> Interface:
        """Interface ``index`` of this section, if it is declared and its link type accepted."""
        number, declared = self.state.next_id, self.state.interface_count
        if index >= declared:
            fail(self.window, f"frame {number} names interface {index}, but its section has declared {declared} so far")
        interface = self.interfaces[self.state.first_interface + index]
        label = f"interface {index}" + (f" ({interface.name!r})" if interface.name else "")
        check_link_type(self.window, interface.link_type, self._link_types, f"{label} of frame {number}")
        return interface

    def _check_fits(self, caplen: int, wire_len: int, room: int) -> None:
        """Check the lengths of the next frame, whose block has ``room`` bytes for it."""
        number = self.state.next_id
        check_lengths(self.window, number, caplen, wire_len)
        if caplen > room:
            fail(self.window, f"frame {number} claims {caplen} captured bytes, but its block has room for {room}")

    def _enhanced(self, kind: int, size: int) -> Packet:
        """An enhanced or an obsolete packet block of ``size`` bytes."""
        window, state = self.window, self.state
        index, high, low, caplen, wire_len = self._words(8, "IIIII")
        dropped = None
        if kind == BLOCK_PACKET:
            index, drops = self._words(8, "HH")
            dropped = None if drops == _UNKNOWN_DROPS else drops
        interface = self._find_interface(index)
        self._check_fits(caplen, wire_len, size - ENHANCED_HEADER - 4)
        return Packet(
            at=window.start + ENHANCED_HEADER,
            caplen=caplen,
            wire_len=wire_len,
            tstamp=nanoseconds(interface, high << 32 | low),
            interface=state.first_interface + index,
            id=state.next_id,
            options=self._bytes(ENHANCED_HEADER + caplen + (-caplen & 3), size - 4),
            dropped=dropped,
        )

    def _simple(self, size: int) -> Packet:
        """A simple packet block of ``size`` bytes: of interface 0, without a time, cut at that interface's snaplen."""
        window, state = self.window, self.state
        (wire_len,) = self._words(8, "I")
        interface = self._find_interface(0)
        caplen = min(interface.snaplen or wire_len, wire_len)
        self._check_fits(caplen, wire_len, size - SIMPLE_HEADER - 4)
        return Packet(window.start + SIMPLE_HEADER, caplen, wire_len, 0, state.first_interface, state.next_id)
