"""``netemu show``: listings of all kinds of captures; hostile ones neither steer a terminal nor end in a traceback."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.cli.show import _lines, _open_ring_frame, _rows, _summary
from netemu.replay import Replay, ReplayOptions
from tests.capture_bytes import LITTLE
from tests.replay_kit import environment, netemu, numbered, one_error_line, seen_in
from tests.support import PCAPS, own_captures, shared_captures
from tests.wireshark_records import CASES, DAMAGED

BASICS, FLOWS, SIZES, WEB = (PCAPS / name for name in ("basics.pcap", "flows.pcapng", "sizes.pcap", "web.pcapng"))
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
HEADING = "  frame          time queue   bytes  summary"


def show(*arguments: str | Path) -> str:
    run = netemu("show", *arguments)
    assert (run.returncode, run.stderr) == (0, b"")
    return run.stdout.decode()


def rows_of(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in show("--json", *arguments).splitlines()]


def replayed(path: Path, output: Path, options: ReplayOptions) -> Path:
    Replay(options, str(output)).play([str(path)])
    return output


def test_a_plain_capture() -> None:
    lines = show(BASICS).splitlines()
    assert lines[0] == HEADING
    # as pcaps/README.md has it: 1 and 2 are ARP, a millisecond apart, the second padded to 60 bytes; DNS begins with 21
    assert lines[1] == "      1      0.000000     -      42  Ether / ARP who has 192.0.2.2 says 192.0.2.1"
    assert lines[2].startswith(
        "      2      0.001000     -      60  Ether / ARP is at 02:00:00:00:00:0b says 192.0.2.2"
    )
    assert "DNS" in lines[21]
    assert len(lines) == 25


def test_rows_as_json() -> None:
    rows = rows_of(FLOWS)
    sent = seen_in(FLOWS)
    assert len(rows) == len(sent)
    for number, (row, frame) in enumerate(zip(rows, sent, strict=True), 1):
        assert row["frame"] == number
        assert row["tstamp"] == frame.tstamp
        assert row["time"] == pytest.approx((frame.tstamp - sent[0].tstamp) / 1e9)
        assert (row["length"], row["captured"]) == (frame.wire_len, len(frame.data))
        assert row["interface"] == f"eth{(number - 1) % 64 // 8 % 4}"
        assert row["queue"] is row["packet_id"] is row["virtio"] is None
        assert row["journey"] == row["comments"] == []


def test_snapped_frames_say_how_much_is_there() -> None:
    lines = show(PCAPS / "snapped.pcap").splitlines()
    assert lines[2].split()[3:5] == ["96", "Ether"]
    assert lines[8].split()[3:6] == ["80000", "(96", "captured)"]


def test_columns_line_up(tmp_path: Path) -> None:
    """Over ten thousand frames, of 14 to 80,000 bytes, over more than a day."""
    frames = [LITTLE.pcap_record(numbered(60, at), at * 10) for at in range(10_000)]
    frames.append(LITTLE.pcap_record(numbered(80_000, 0), 999_999))
    (tmp_path / "in.pcap").write_bytes(LITTLE.pcap_header() + b"".join(frames))
    (tmp_path / "out.pcapng").write_bytes(b"")
    path = replayed(tmp_path / "in.pcap", tmp_path / "out.pcapng", ReplayOptions(queues=64))
    lines = [line for row in [*_rows(str(path), None)][::500] for line in _lines(row, None, journey=True)]
    assert len(lines) == 21
    ends = {tuple(word.end() for word in re.finditer(r"\S+", line))[:4] for line in [HEADING, *lines]}
    assert ends == {(7, 21, 27, 35)}


def test_a_journey(tmp_path: Path) -> None:
    path = replayed(WEB, tmp_path / "way.pcapng", ReplayOptions(journey=True, queues=2, limit=10))
    rows = rows_of(path)
    written = seen_in(path)
    assert [row["packet_id"] for row in rows] == list(range(1, 11))
    for row, packet in zip(rows, written, strict=True):
        assert [f"netemu: {text}" for text in row["journey"]] == [packet.comment]
        assert row["comments"] == []
        assert row["interface"] == "netemu0"
    text = show(path)
    for packet in written:
        for part in packet.comment.removeprefix("netemu: ").split("; "):
            assert f"\n          {part}\n" in text
    assert "used slot" not in show(path, "--no-journey")
    assert show(path, "--frames", "3") == text[: text.index("\n      4 ") + 1]


def test_drops_are_told_where_they_were(tmp_path: Path) -> None:
    """sizes.pcap has 14 frames up to 1518 bytes (pcaps/README.md); the other seven do not fit small buffers."""
    output = tmp_path / "out.pcapng"
    Replay(ReplayOptions(mode="small"), str(output)).play([str(SIZES), str(BASICS)])
    lines = show(output).splitlines()
    assert lines[15] == "          (7 dropped here)"
    assert lines[16].startswith("     15 ")
    assert [row["frame"] for row in rows_of(output) if row["drops_before"]] == [15]


def test_a_ring_capture(tmp_path: Path) -> None:
    path = replayed(WEB, tmp_path / "ring.pcapng", ReplayOptions(encap="virtio"))
    rows = rows_of(path)
    for row, record in zip(rows, seen_in(path), strict=True):
        buffers = int.from_bytes(record.data[6:8], "little")
        plural = "" if buffers == 1 else "s"
        assert row["virtio"] == (
            f"queue 0, {buffers} buffer{plural}, header 12 B, num_buffers {buffers}, flags none, gso NONE"
        )
        assert row["length"] == row["captured"] == len(record.data) - 44
        assert row["summary"].startswith("Ether / ")
    assert "          virtio: queue 0, 1 buffer, header 12 B" in show(path)


@pytest.mark.parametrize("case", [*CASES], ids=lambda case: str(case.name))
def test_ring_records_of_every_kind(case: Any) -> None:
    """What the plug-in is tested with: headers of all lengths, both byte orders, broken ones."""
    words, _ = _open_ring_frame(case.record)
    assert words
    assert CONTROL.search(words) is None


def test_damaged_ring_records() -> None:
    for _, data, _ in DAMAGED:
        for cut in range(len(data) + 1):
            words, frame = _open_ring_frame(data[:cut])
            assert words
            assert len(frame) <= cut


def test_a_ring_record_in_words() -> None:
    """The worked example of docs/ring-capture-format.md."""
    page = (PCAPS.parent / "docs" / "ring-capture-format.md").read_text()
    data = bytes.fromhex(page.partition("```hex\n")[2].partition("```")[0])
    words, frame = _open_ring_frame(data)
    assert words == (
        "queue 1, 1 buffer, header 12 B, num_buffers 1, flags NEEDS_CSUM, gso NONE, checksum from 34 to 34+16"
    )
    assert frame[:6] == bytes.fromhex("020000000001")
    assert len(frame) == 56


def test_standard_input() -> None:
    run = netemu("show", "-", stdin=BASICS.read_bytes())
    assert run.stdout.decode() == show(BASICS)


# Hostile bytes --------------------------------------------------------------------------------------------------------


def hostile_capture() -> bytes:
    """Frames, names and comments with escapes for terminals, and text that runs backwards."""
    evil = "\x1b]0;pwned\x07\x1b[2J\r\nfake line\t\u202etxt.exe\x9b31m\x7f".encode()
    query = b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"\x09\x1b[31mevil\0" + b"\0\1\0\1"
    udp = b"\x30\x39\0\x35" + (8 + len(query)).to_bytes(2, "big") + bytes(2) + query
    ip = b"\x45\0" + (20 + len(udp)).to_bytes(2, "big") + bytes(4) + b"\x40\x11\0\0\xc0\0\2\1\xc0\0\2\2" + udp
    ether = bytes(12) + b"\x08\0" + ip
    file = LITTLE.shb([(1, evil), (4, evil)]) + LITTLE.idb(options=[(2, evil), (3, evil)])
    return file + b"".join(
        LITTLE.epb(frame, options=[(1, evil), (1, b"netemu: " + evil + b"; " + evil), (1, b"\xff\xfe\x80")])
        for frame in (ether, evil * 3, ether + evil)
    )


def test_bytes_that_steer_a_terminal_are_made_harmless(tmp_path: Path) -> None:
    (tmp_path / "evil.pcapng").write_bytes(hostile_capture())
    text = show(tmp_path / "evil.pcapng")
    assert CONTROL.search(text) is None
    assert "fake line" in text
    assert not any(line.startswith("fake line") for line in text.splitlines())
    assert "txt.exe" in text
    assert r"\xff\xfe\x80" in text
    raw = netemu("show", "--json", tmp_path / "evil.pcapng").stdout
    assert all(byte == 10 or 32 <= byte < 128 for byte in raw)
    rows = [json.loads(line) for line in raw.splitlines()]
    assert "\x1b[2J" in rows[0]["comments"][0]  # for programs it is what it is


def test_a_fault_names_harmlessly_too(tmp_path: Path) -> None:
    evil = b"\x1b[31m\n\x07"
    file = LITTLE.shb() + LITTLE.idb(link_type=113, options=[(2, evil)]) + LITTLE.epb(numbered(60, 1))
    (tmp_path / "evil.pcapng").write_bytes(file)
    for command in ("show", "replay"):
        line = one_error_line(netemu(command, tmp_path / "evil.pcapng"))
        assert "link type" in line
        assert CONTROL.search(line) is None


def test_a_narrow_character_set(tmp_path: Path) -> None:
    file = LITTLE.shb() + LITTLE.idb() + LITTLE.epb(numbered(60, 1), options=[(1, "文 too".encode())])
    (tmp_path / "in.pcapng").write_bytes(file)
    run = netemu("show", tmp_path / "in.pcapng", env=environment(PYTHONIOENCODING="latin-1", PYTHONUTF8="0"))
    assert (run.returncode, run.stderr) == (0, b"")
    assert b"comment: \\u6587 too" in run.stdout


def test_faults_end_the_listing_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.pcap").write_bytes(BASICS.read_bytes()[:-3])
    run = netemu("show", tmp_path / "cut.pcap")
    assert "ends inside frame 24" in one_error_line(run)
    assert len(run.stdout.splitlines()) == 24
    for name, cause in (("absent", "no such file"), (".", "is a folder, not a capture file")):
        assert one_error_line(netemu("show", name, cwd=tmp_path)) == f"netemu: {name}: {cause}"


@pytest.mark.parametrize("path", own_captures() + shared_captures(), ids=lambda path: "/".join(path.parts[-2:]))
def test_every_capture_can_be_shown(path: Path) -> None:
    from netemu.errors import CaptureError  # noqa: PLC0415

    rows = _rows(str(path), 300)
    try:
        for row in rows:
            json.dumps(row)
            for line in _lines(row, None, journey=True):
                assert CONTROL.search(line) is None
                assert "\n" not in line
            assert max(len(line) for line in _lines(row, 60, journey=True)) <= 60
    except CaptureError as error:
        assert "link type" in str(error)  # noqa: PT017 - all that these captures have of faults


SEEDS = [
    packet.data for name in ("bad.pcap", "basics.pcap", "vlan.pcap", "dns.pcap") for packet in seen_in(PCAPS / name)
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_frames_are_summed_up_or_refused_in_words(data: st.DataObject) -> None:
    frame = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(0, 6))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    text = _summary(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
    assert text
    assert CONTROL.search(text) is None


def test_noise_is_summed_up() -> None:
    dice = random.Random(3)
    for size in range(200):
        assert _summary(dice.randbytes(size))
    for kind in (b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8", b"\x08\x06", b"\x88\xcc", b"\x00\x10", b"\x88\x63"):
        for size in range(0, 120, 3):
            assert _summary(bytes(12) + kind + dice.randbytes(size))
