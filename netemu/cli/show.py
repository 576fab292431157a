"""``netemu show``: the frames of a capture, and the way each took."""

from __future__ import annotations

import json
import logging
import shutil
import struct
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from netemu.cli import harmless, is_terminal
from netemu.errors import ConfigError

if TYPE_CHECKING:
    from netemu.capture.packets import PacketRecord

_NSEC = 1_000_000_000
_INDENT = " " * 10
_HEADING = f"{'frame':>7} {'time':>13} {'queue':>5} {'bytes':>7}  summary"


@click.command(epilog="\b\nExamples:\n  netemu show out.pcapng\n  netemu show ring.pcapng --frames 5")
@click.argument("file", metavar="FILE")
@click.option("--frames", metavar="N", type=click.IntRange(1), help="Stop after N frames.")
@click.option(
    "--journey/--no-journey", default=True, show_default=True, help="The way of each frame, where it is noted."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def show(file: str, frames: int | None, journey: bool, as_json: bool) -> None:
    """Print the frames of a capture, with the way each took.

    FILE is any Ethernet capture, or a ring capture (`netemu replay --encap virtio`), whose virtio headers are printed
    too; - stands for standard input. What netemu wrote with `--journey` carries the way of each frame: queue, buffers,
    the skb, the verdict of the stack. Times are seconds after the first frame, bytes are those on the wire.
    """
    if file == "-" and is_terminal(sys.stdin):
        raise ConfigError("standard input is a terminal, and no capture comes from there: name a file, or use a pipe")
    width = shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None
    for row in _rows(file, frames):
        if as_json:
            click.echo(json.dumps(row))
            continue
        if row["frame"] == 1:
            click.echo(_HEADING[:width])
        for line in _lines(row, width, journey=journey):
            click.echo(line)


def _rows(file: str, frames: int | None) -> Iterator[dict[str, Any]]:
    """One row a frame, as plain values."""
    from netemu.capture.formats import LINKTYPE_ETHERNET, LINKTYPE_USER0  # noqa: PLC0415 - loads NumPy
    from netemu.capture.packets import read_packets  # noqa: PLC0415

    first: int | None = None
    for record in read_packets(file, frozenset({LINKTYPE_ETHERNET, LINKTYPE_USER0})):
        if frames is not None and record.id > frames:
            return
        first = record.tstamp if first is None else first
        yield _row(record, first, is_ring=record.link_type == LINKTYPE_USER0)


def _row(record: PacketRecord, first: int, *, is_ring: bool) -> dict[str, Any]:
    from netemu.replay.journey import PREFIX  # noqa: PLC0415

    data = record.data
    header = None
    if is_ring:
        header, data = _open_ring_frame(data)
    hidden = record.wire_len - len(record.data)
    return {
        "frame": record.id,
        "tstamp": record.tstamp,
        "time": (record.tstamp - first) / _NSEC,
        "length": len(data) + hidden,
        "captured": len(data),
        "interface": record.interface,
        "queue": record.queue,
        "packet_id": record.packet_id,
        "drops_before": record.drop_count or 0,
        "virtio": header,
        "summary": _summary(data),
        "journey": [text.removeprefix(PREFIX) for text in record.comments if text.startswith(PREFIX)],
        "comments": [text for text in record.comments if not text.startswith(PREFIX)],
    }


def _open_ring_frame(data: bytes) -> tuple[str, bytes]:
    """The virtio header in words, and the frame behind it; what cannot be read is said in words too."""
    from netemu.capture.ring import RING_BIG_ENDIAN, RingPrefix  # noqa: PLC0415
    from netemu.virtio.net import flags_in_words, gso_in_words  # noqa: PLC0415

    try:
        prefix = RingPrefix.unpack(data)
    except ValueError as error:
        return str(error), b""
    hdr_len = prefix.hdr_len
    header = data[prefix.prefix_len : prefix.prefix_len + hdr_len]
    if len(header) < hdr_len or hdr_len < 10:
        return "virtio header cut short", b""
    order = ">" if prefix.flags & RING_BIG_ENDIAN else "<"
    hdr_flags, gso_type, gso_hdr_len, gso_size, csum_start, csum_offset = struct.unpack_from(order + "BBHHHH", header)
    parts = [
        f"queue {prefix.queue}, {prefix.buffers} buffer{'s' if prefix.buffers != 1 else ''}",
        f"header {hdr_len} B",
    ]
    if hdr_len >= 12:
        parts.append(f"num_buffers {struct.unpack_from(order + 'H', header, 10)[0]}")
    parts += [f"flags {flags_in_words(hdr_flags)}", f"gso {gso_in_words(gso_type)}"]
    if gso_type:
        parts.append(f"hdr_len {gso_hdr_len}, gso_size {gso_size}")
    if hdr_flags & 1:
        parts.append(f"checksum from {csum_start} to {csum_start}+{csum_offset}")
    return ", ".join(parts), data[prefix.prefix_len + hdr_len :]


def _summary(data: bytes) -> str:
    """The line that scapy has for a frame, free of control characters, whatever the frame holds."""
    logging.getLogger("scapy").setLevel(logging.CRITICAL)  # what it finds odd in a frame is no matter of ours
    from scapy.layers import dhcp, dns, inet6, l2  # noqa: F401, PLC0415 - loaded so that scapy knows them; takes a second

    if not data:
        return "(no bytes)"
    try:
        text = l2.Ether(data).summary()
    except Exception as error:  # noqa: BLE001 - there is no telling what its dissectors raise on damaged frames
        return f"(scapy cannot dissect it: {type(error).__name__})"
    return harmless(text)


def _lines(row: dict[str, Any], width: int | None, *, journey: bool) -> Iterator[str]:
    """One frame in lines of ``width`` columns (None: as long as they are): what it is, and its journey below."""
    if row["drops_before"]:
        yield f"{_INDENT}({row['drops_before']} dropped here)"
    queue = "-" if row["queue"] is None else row["queue"]
    snapped = f"({row['captured']} captured) " if row["captured"] < row["length"] else ""
    yield f"{row['frame']:>7} {row['time']:>13.6f} {queue:>5} {row['length']:>7}  {snapped}{row['summary']}"[:width]
    details = [f"virtio: {row['virtio']}"] if row["virtio"] else []
    if journey:
        details += [part for text in row["journey"] for part in text.split("; ")]
    details += [f"comment: {text}" for text in row["comments"]]
    for text in details:
        yield from _folded(harmless(text), width)


def _folded(text: str, width: int | None) -> list[str]:
    """The text, indented, on as many lines as it takes."""
    if width is None:
        return [_INDENT + text]
    wide = max(width, len(_INDENT) + 20)
    return textwrap.wrap(text, wide, initial_indent=_INDENT, subsequent_indent=_INDENT + "  ")
