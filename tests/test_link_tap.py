"""Captures at a port: what is written of the frames that pass it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from netemu import read_capture
from netemu.capture.writer import CaptureWriter, InterfaceInfo
from netemu.net.tap import PortCapture
from tests.net_kit import MS, Rig, S
from tests.offload_kit import NEEDS_CSUM, TCPV4, ether, finished_by_hand, header, ip4, marked, read, tcp
from tests.support import needs

SMALL = ether(ip4(tcp(b"hello")))
UNFINISHED = header(NEEDS_CSUM, start=34, offset=16)
LARGE = ether(ip4(tcp(marked(3000))))
TSO = header(NEEDS_CSUM, TCPV4, size=1000, start=34, offset=16)
DAY = 1_700_000_000 * S


def test_both_directions_are_recorded_at_their_moments(tmp_path: Path) -> None:
    rig = Rig("delay 10ms")
    with CaptureWriter(tmp_path / "a.pcapng") as writer:
        capture = PortCapture(rig.timers, rig.frames, rig.ports[0], writer.sink, epoch=DAY)
        rig.send(b"out".ljust(60, b"."), at=1 * MS)
        rig.send(b"in".ljust(60, b"."), port=1, at=2 * MS)
        rig.run()
        capture.remove()
        rig.send(b"not any more".ljust(60, b"."))
        assert (capture.frames, capture.lost) == (2, 0)
    found = [(frame.data[:3], frame.tstamp) for frame in read_capture(tmp_path / "a.pcapng")]
    assert found == [(b"out", DAY + 1 * MS), (b"in.", DAY + 12 * MS)]


@needs("tshark")
def test_wireshark_sees_the_directions_and_the_interfaces(tmp_path: Path) -> None:
    """Flags of 1 are inbound and 2 outbound, as the node at the port sees it."""
    rig = Rig("delay 10ms")
    path = tmp_path / "a.pcapng"
    with CaptureWriter(path, interface=InterfaceInfo(name="left")) as writer:
        right = writer.add_interface(InterfaceInfo(name="right"))
        captures = [
            PortCapture(rig.timers, rig.frames, port, writer.sink, interface=index)
            for port, index in zip(rig.ports, (0, right), strict=True)
        ]
        rig.send(SMALL, vnet=UNFINISHED)
        rig.run()
        assert [capture.frames for capture in captures] == [1, 1]
    fields = ["frame.interface_name", "frame.packet_flags_direction", "frame.time_relative", "tcp.checksum.status"]
    command = ["tshark", "-r", str(path), "-o", "tcp.check_checksum:TRUE", "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split("\t") for line in out.splitlines()]
    assert [(row[0], int(row[1], 0), float(row[2]), row[3]) for row in rows] == [
        ("left", 2, 0.0, "1"),
        ("right", 1, 0.01, "1"),
    ]


def recorded(tmp_path: Path, frame: bytes, vnet: bytes, *, raw: bool = False, cut: bool = False) -> list[bytes]:
    rig = Rig("delay 1ms")
    path = tmp_path / "a.pcapng"
    with CaptureWriter(path) as writer:
        capture = PortCapture(rig.timers, rig.frames, rig.ports[0], writer.sink, raw=raw, cut=cut)
        rig.send(frame, vnet=vnet)
        (arrival,) = rig.run()
        assert (arrival.data, arrival.vnet) == (frame, vnet)  # a capture changes nothing
        assert rig.buffers() == rig.free
        assert capture.lost == 0
    return [record.data for record in read_capture(path)]


def test_a_checksum_is_finished_in_the_record(tmp_path: Path) -> None:
    assert recorded(tmp_path, SMALL, UNFINISHED) == [finished_by_hand(SMALL)]


def test_raw_a_checksum_is_as_its_sender_left_it(tmp_path: Path) -> None:
    assert recorded(tmp_path, SMALL, UNFINISHED, raw=True) == [SMALL]


def test_a_large_frame_is_a_record_with_a_checksum_of_its_own(tmp_path: Path) -> None:
    assert recorded(tmp_path, LARGE, TSO) == [finished_by_hand(LARGE)]


def test_cut_each_segment_is_a_record(tmp_path: Path) -> None:
    records = recorded(tmp_path, LARGE, TSO, cut=True)
    assert [read(record).payload for record in records] == [marked(1000, at) for at in (0, 1000, 2000)]


def test_a_checksum_that_lies_outside_is_let_alone(tmp_path: Path) -> None:
    outside = header(NEEDS_CSUM, start=34, offset=len(SMALL) - 34 - 1)
    assert recorded(tmp_path, SMALL, outside) == [SMALL]


def test_a_record_without_room_is_counted_and_noted_on_the_next(tmp_path: Path) -> None:
    rig = Rig()
    path = tmp_path / "a.pcapng"
    with CaptureWriter(path, room=1 << 10) as writer:
        capture = PortCapture(rig.timers, rig.frames, rig.ports[0], writer.sink)
        for _ in range(3):
            rig.send(600)
        assert (capture.frames, capture.lost) == (1, 2)
        writer.flush()
        rig.send(60)
        assert writer.sink.pending_drops == 0
    assert [len(frame.data) for frame in read_capture(path)] == [600, 60]
