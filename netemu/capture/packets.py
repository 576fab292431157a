"""Reading a capture file for people: every packet with all that pcapng notes about it, at Python's speed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from netemu.capture.formats import (
    EPB_DROPCOUNT,
    EPB_FLAGS,
    EPB_HASH,
    EPB_PACKETID,
    EPB_QUEUE,
    EPB_VERDICT,
    OPT_COMMENT,
)
from netemu.capture.options import text, unpack_options
from netemu.capture.parsing import Format, Packet
from netemu.capture.reader import ETHERNET_ONLY, find_format
from netemu.capture.source import open_source
from netemu.capture.window import Window
from netemu.errors import CaptureError


@dataclass(slots=True)
class PacketRecord:
    """A packet and what its options say; pcap files have none. Lengths in bytes, ``tstamp`` in ns since 1970."""

    data: bytes
    tstamp: int
    wire_len: int
    id: int
    """Its number in the file, from 1."""
    interface: str
    """The interface's name, "" where it has none."""
    link_type: int
    """The interface's LINKTYPE number."""
    comments: list[str] = field(default_factory=list)
    flags: int | None = None
    """epb_flags: bits 0 and 1 say 1 for inbound, 2 for outbound."""
    packet_id: int | None = None
    queue: int | None = None
    drop_count: int | None = None
    """Packets lost between the previous packet of the interface and this one."""
    hashes: list[tuple[int, bytes]] = field(default_factory=list)
    """Algorithm (5: Toeplitz) and value."""
    verdicts: list[tuple[int, bytes]] = field(default_factory=list)
    """Kind (2: XDP) and value."""
    others: list[tuple[int, bytes]] = field(default_factory=list)
    """Code and value of every option not named here, or not of the length it should have."""

    def add_option(self, code: int, value: bytes, order: str) -> None:
        """Note one option; ``order`` is "little" or "big"."""
        number = int.from_bytes(value, order)  # type: ignore[arg-type]
        if code == OPT_COMMENT:
            self.comments.append(text(value))
        elif code == EPB_FLAGS and len(value) == 4:
            self.flags = number
        elif code == EPB_DROPCOUNT and len(value) == 8:
            self.drop_count = number
        elif code == EPB_PACKETID and len(value) == 8:
            self.packet_id = number
        elif code == EPB_QUEUE and len(value) == 4:
            self.queue = number
        elif code == EPB_HASH and value:
            self.hashes.append((value[0], value[1:]))
        elif code == EPB_VERDICT and value:
            self.verdicts.append((value[0], value[1:]))
        else:
            self.others.append((code, value))


def _record(form: Format, packet: Packet) -> PacketRecord:
    """Make a `PacketRecord` of what `step` returned last; raises ValueError for damaged options."""
    record = PacketRecord(
        data=bytes(form.window.memory[packet.at : packet.at + packet.caplen]),
        tstamp=packet.tstamp,
        wire_len=packet.wire_len,
        id=packet.id,
        interface=form.interfaces[packet.interface].name,
        link_type=form.interfaces[packet.interface].link_type,
        drop_count=packet.dropped,
    )
    mark, order = (">", "big") if form.state.big_endian else ("<", "little")
    for code, value in unpack_options(packet.options, mark):
        record.add_option(code, value, order)
    return record


def read_packets(
    path: str | os.PathLike[str], link_types: frozenset[int] | None = ETHERNET_ONLY
) -> Iterator[PacketRecord]:
    """The packets of a capture file with their options, read as they are asked for.

    Arguments and errors are those of `netemu.capture.open_capture`; damaged options of a packet are an error as well.
    """
    source = open_source(os.fspath(path))
    try:
        window = Window(source)
        form = find_format(window, link_types)
        while window.need(1):
            offset = window.offset
            packet = form.step()
            if packet is None:
                continue
            try:
                record = _record(form, packet)
            except ValueError as error:
                raise CaptureError(source.name, f"frame {packet.id}: {error}", offset) from error
            yield record
    finally:
        source.close()
