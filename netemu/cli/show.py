"""``netemu show``: the frames of a capture, and the way each took."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from netemu.capture.packets import PacketRecord

_RING_PREFIX = struct.Struct("<BBBBHHQQQ")
_NSEC = 1_000_000_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@click.command(epilog="\b\nExamples:\n  netemu show out.pcapng\n  netemu show ring.pcapng --journey --frames 5")
@click.argument("file", metavar="FILE")
@click.option("--frames", metavar="N", type=click.IntRange(1), help="Stop after N frames.")
@click.option(
    "--journey/--no-journey", default=True, show_default=True, help="The way of each frame, where it is noted."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def show(file: str, frames: int | None, journey: bool, as_json: bool) -> None:
    """Print the frames of a capture, with the way each took.

    FILE is any Ethernet capture, or a ring capture (`netemu replay --encap virtio`), whose virtio headers are printed
    too. What netemu wrote with `--journey` carries the way of each frame: queue, buffers, skb, the stack's verdict.
    """
    for row in _rows(file, frames):
        if as_json:
            click.echo(json.dumps(row))
        else:
            _print(row, journey=journey)


def _rows(file: str, frames: int | None) -> Iterator[dict[str, Any]]:
    """One row a frame, as plain values."""
    from netemu.capture.formats import LINKTYPE_ETHERNET, LINKTYPE_USER0  # noqa: PLC0415 - loads NumPy and Numba
    from netemu.capture.packets import read_packets  # noqa: PLC0415

    first: int | None = None
    for record in read_packets(file, frozenset({LINKTYPE_ETHERNET, LINKTYPE_USER0})):
        if frames is not None and record.id > frames:
            return
        first = record.tstamp if first is None else first
        yield _row(record, first, is_ring=record.link_type == LINKTYPE_USER0)


def _row(record: PacketRecord, first: int, *, is_ring: bool) -> dict[str, Any]:
    from netemu.journey import PREFIX  # noqa: PLC0415

    data = record.data
    header = None
    if is_ring:
        header, data = _open_ring_frame(data)
    hidden = record.wire_len - len(record.data)
    return {
        "frame": record.id,
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
    from netemu.virtio.net import flags_in_words, gso_in_words  # noqa: PLC0415

    if len(data) < _RING_PREFIX.size:
        return "ring prefix cut short", b""
    version, prefix_len, flags, hdr_len, queue, buffers, _frame_id, _low, _high = _RING_PREFIX.unpack_from(data)
    if version != 1 or prefix_len < _RING_PREFIX.size:
        return f"ring prefix of an unknown version ({version})", b""
    header = data[prefix_len : prefix_len + hdr_len]
    if len(header) < hdr_len or hdr_len < 10:
        return "virtio header cut short", b""
    order = ">" if flags & 2 else "<"
    hdr_flags, gso_type, gso_hdr_len, gso_size, csum_start, csum_offset = struct.unpack_from(order + "BBHHHH", header)
    parts = [f"queue {queue}, {buffers} buffer{'s' if buffers != 1 else ''}", f"header {hdr_len} B"]
    if hdr_len >= 12:
        parts.append(f"num_buffers {struct.unpack_from(order + 'H', header, 10)[0]}")
    parts += [f"flags {flags_in_words(hdr_flags)}", f"gso {gso_in_words(gso_type)}"]
    if gso_type:
        parts.append(f"hdr_len {gso_hdr_len}, gso_size {gso_size}")
    if hdr_flags & 1:
        parts.append(f"checksum from {csum_start} to {csum_start}+{csum_offset}")
    return ", ".join(parts), data[prefix_len + hdr_len :]


def _summary(data: bytes) -> str:
    """Scapy's line on a frame, on one line and free of control characters, whatever the frame holds."""
    from scapy.error import Scapy_Exception  # noqa: PLC0415 - takes a second to load
    from scapy.layers import dhcp, dns, inet6, l2  # noqa: F401, PLC0415 - loaded so that scapy knows them

    if not data:
        return "(no bytes)"
    try:
        text = l2.Ether(data).summary()
    except (
        Scapy_Exception,
        ArithmeticError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        struct.error,
    ) as error:
        return f"(scapy cannot dissect it: {type(error).__name__})"
    return _CONTROL.sub("?", text)


def _print(row: dict[str, Any], *, journey: bool) -> None:
    """One frame: a line, and its journey below it."""
    snapped = f" of {row['length']}" if row["captured"] < row["length"] else ""
    queue = "-" if row["queue"] is None else row["queue"]
    if row["drops_before"]:
        click.echo(f"{'':>6} ({row['drops_before']} dropped here)")
    click.echo(f"{row['frame']:>6} {row['time']:>13.6f} q{queue:<3} {row['captured']:>6}{snapped} {row['summary']}")
    if row["virtio"]:
        click.echo(f"{'':>6}   virtio: {row['virtio']}")
    if journey:
        for text in row["journey"]:
            for part in text.split("; "):
                click.echo(f"{'':>6}   {_CONTROL.sub('?', part)}")
    for text in row["comments"]:
        click.echo(f"{'':>6}   comment: {_CONTROL.sub('?', text)}")
