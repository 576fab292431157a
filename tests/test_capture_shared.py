"""Captures that nobody here made, compared with what Wireshark and scapy say of them."""

from __future__ import annotations

import hashlib
import re
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from netemu.capture import open_capture, read_capture, read_packets
from tests.support import needs, needs_shared_pcaps, own_captures, shared_captures

GENERATED = [path for path in shared_captures() if "pcapng-test-generator" in path.parts]
CAPTURES = own_captures() + shared_captures()


def name(path: Path) -> str:
    return "/".join(path.parts[-3:])


FIELDS = ["frame.encap_type", "frame.len", "frame.cap_len", "frame.time_epoch", "frame.md5_hash"]
FIELDS += ["frame.comment", "frame.packet_flags", "frame.drop_count", "frame.packet_id", "frame.interface_queue"]


def tshark_lines(path: Path) -> list[list[str]]:
    """The fields of each frame but encap_type; what tshark shows for custom blocks has no such type and is left out."""
    arguments = [argument for field in FIELDS for argument in ("-e", field)]
    command = ["tshark", "-n", "-o", "frame.generate_md5_hash:TRUE", "-r", str(path)]
    command += ["-T", "fields", "-E", "occurrence=f", *arguments]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [line.split("\t")[1:] for line in output.splitlines() if not line.startswith("\t")]


@needs("tshark")
@pytest.mark.parametrize("path", CAPTURES, ids=name)
def test_frames_and_options_are_those_that_tshark_sees(path: Path) -> None:
    seen = tshark_lines(path)
    frames = list(read_capture(path, None))
    assert [each.id for each in frames] == list(range(1, len(seen) + 1))
    assert [[str(each.wire_len), str(len(each.data))] for each in frames] == [line[:2] for line in seen]
    # of a simple packet, which has no time, tshark shows none
    assert [each.tstamp for each in frames] == [int(Decimal(line[2] or 0) * 10**9) for line in seen]
    assert [hashlib.md5(each.data).hexdigest() for each in frames] == [line[3] for line in seen]
    for record, line in zip(read_packets(path, None), seen, strict=True):
        comment, flags, drops, packet_id, queue = line[4:]
        assert comment == (record.comments[0].replace("\n", "\\n") if record.comments else "")
        assert flags == ("" if record.flags is None else f"{record.flags:#010x}")
        assert [drops, packet_id, queue] == [
            "" if value is None else str(value) for value in (record.drop_count, record.packet_id, record.queue)
        ]


@pytest.mark.parametrize("path", [path for path in CAPTURES if path.suffix == ".pcap"], ids=name)
def test_frames_are_those_that_scapy_sees(path: Path) -> None:
    from scapy.utils import RawPcapReader  # noqa: PLC0415

    frames = read_capture(path, None)
    with RawPcapReader(str(path)) as reader:
        unit = 1 if reader.nano else 1000
        for each in frames:
            data, meta = reader._read_packet(size=1 << 20)
            assert each.data == data
            assert (each.wire_len, each.tstamp) == (meta.wirelen, meta.sec * 10**9 + meta.usec * unit)
        with pytest.raises(EOFError):
            reader._read_packet()


@pytest.mark.parametrize("path", CAPTURES, ids=name)
def test_both_readers_agree(path: Path) -> None:
    with open_capture(path, None) as reader:
        frames = []
        while (batch := reader.read_batch()) is not None:
            frames += list(batch.frames())
        names = [interface.name for interface in reader.interfaces]
    assert [(*each[:3], each.id, names[each.interface]) for each in frames] == [
        (each.data, each.tstamp, each.wire_len, each.id, each.interface) for each in read_packets(path, None)
    ]


@needs_shared_pcaps
@pytest.mark.parametrize("path", GENERATED, ids=name)
def test_generated_files_hold_what_their_text_says(path: Path) -> None:
    text = path.with_suffix(".txt").read_text()
    counts = {kind: int(number) for kind, number in re.findall(r"^\s+(\w+): (\d+)$", text, re.MULTILINE)}
    with open_capture(path, None) as reader:
        frames = 0
        while (batch := reader.read_batch()) is not None:
            frames += batch.count
        assert len(reader.interfaces) == counts.get("IDB", 0)
    assert frames == sum(counts.get(kind, 0) for kind in ("EPB", "SPB", "PB"))


@needs_shared_pcaps
def test_frames_of_80_kilobytes_pass() -> None:
    (path,) = [path for path in shared_captures() if path.name == "bigtcp-ipv4.pcap"]
    (each,) = read_capture(path)
    assert len(each.data) > 80_000
