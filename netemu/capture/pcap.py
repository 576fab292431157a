"""Reading pcap: a file header of 24 bytes, then records of a header and a frame each (draft-ietf-opsawg-pcap)."""

from __future__ import annotations

import struct

from netemu.capture.formats import (
    MAX_FRAME,
    NSEC_PER_SEC,
    PCAP_FILE_HEADER,
    PCAP_MAGIC_MODIFIED,
    PCAP_MAGIC_NSEC,
    PCAP_MAGIC_USEC,
    PCAP_MODIFIED_RECORD_HEADER,
    PCAP_RECORD_HEADER,
)
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
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import entry, i64

_LINK_TYPE_MASK = 0x03FF_FFFF
"""The upper bits of the field say how long a frame check sequence is; it is left on the frames."""

MAGICS = {
    magic.to_bytes(4, order): (magic, order)
    for magic in (PCAP_MAGIC_USEC, PCAP_MAGIC_NSEC, PCAP_MAGIC_MODIFIED)
    for order in ("little", "big")
}
"""First four bytes of a pcap file: magic number and byte order."""


@entry
def parse_pcap(address: i64) -> i64:
    """Append the records that lie in the window of the `ParseState` at ``address`` to its batch; say why it stopped."""
    state = parse_state_at(address)
    at = state.data
    end = state.end
    big = state.big_endian
    header = state.header_len
    scale = state.scale
    capacity = state.capacity
    number = state.next_id
    out = state.frames
    count = 0
    result = PARSE_MORE
    while end - at >= header:
        caplen = word32(at + 8, big)
        wire_len = word32(at + 12, big)
        if caplen > MAX_FRAME or caplen > wire_len:
            result = PARSE_STEP
            break
        if end - at < header + caplen:
            break
        if count == capacity:
            result = PARSE_FULL
            break
        frame = frame_at(out)
        frame.address = at + header
        frame.len = caplen
        frame.wire_len = wire_len
        frame.tstamp = word32(at, big) * NSEC_PER_SEC + word32(at + 4, big) * scale
        frame.interface = 0
        frame.id = number
        frame.vnet = 0
        number += 1
        count += 1
        out += FRAME_SIZE
        at += header + caplen
    state.data = at
    state.next_id = number
    state.count = count
    return result


class PcapFormat:
    """A pcap file whose magic was seen at the front of ``window``."""

    def __init__(self, window: Window, link_types: frozenset[int] | None) -> None:
        """Take the file header; raises `CaptureError` if it is cut off or says what is not read here."""
        self.window = window
        self.kernel = parse_pcap
        magic, order = MAGICS[bytes(window.memory[window.start : window.start + 4])]
        if not window.need(PCAP_FILE_HEADER):
            fail(window, f"the file ends inside its pcap header of {PCAP_FILE_HEADER} bytes; {window.left} are there")
        self.order = ""
        self._order = "<" if order == "little" else ">"
        fields = struct.unpack_from(self._order + "4xHH8xII", window.memory, window.start)
        major, minor, snaplen, network = fields
        if (major, minor) < (2, 3) or major != 2:
            fail(window, f"pcap version {major}.{minor} is not read here, only 2.3 and 2.4")
        link_type = network & _LINK_TYPE_MASK
        check_link_type(window, link_type, link_types, "the file")
        ticks = NSEC_PER_SEC if magic == PCAP_MAGIC_NSEC else 1_000_000
        self.interfaces = [Interface(link_type, snaplen, ticks_per_second=ticks)]
        self.state = ParseState(
            next_id=1,
            size=window.size,
            big_endian=int(order == "big"),
            header_len=PCAP_MODIFIED_RECORD_HEADER if magic == PCAP_MAGIC_MODIFIED else PCAP_RECORD_HEADER,
            scale=NSEC_PER_SEC // ticks,
        )
        window.start += PCAP_FILE_HEADER

    def step(self) -> Packet:
        """Take one record, see `netemu.capture.parsing.Format`."""
        window, state = self.window, self.state
        number, header = state.next_id, state.header_len
        if not window.need(header):
            fail(window, f"the file ends inside the header of frame {number}: {window.left} of {header} bytes there")
        seconds, fraction, caplen, wire_len = struct.unpack_from(self._order + "IIII", window.memory, window.start)
        check_lengths(window, number, caplen, wire_len)
        if not window.need(header + caplen):
            there = window.left - header
            fail(window, f"the file ends inside frame {number}, which claims {caplen} bytes; {there} are there")
        packet = Packet(
            at=window.start + header,
            caplen=caplen,
            wire_len=wire_len,
            tstamp=seconds * NSEC_PER_SEC + fraction * state.scale,
            interface=0,
            id=number,
        )
        window.start += header + caplen
        state.next_id += 1
        return packet
