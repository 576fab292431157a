"""Input and output that are at fault: one line that says where and why, and everything in front of the fault played."""

from __future__ import annotations

import gzip
import json
import os
import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.errors import CaptureError, NetemuError
from netemu.replay import Replay, ReplayOptions
from tests.capture_bytes import LITTLE, MAKERS, Maker
from tests.replay_kit import (
    assert_consistent,
    netemu,
    numbered,
    one_error_line,
    read_capture_by_hand,
    seen_in,
    write_pcap,
)
from tests.support import PCAPS

BASICS, FLOWS = PCAPS / "basics.pcap", PCAPS / "flows.pcapng"
FRAMES = [numbered(60 + number, number) for number in range(5)]

needs_permissions = pytest.mark.skipif(os.geteuid() == 0, reason="root is denied nothing")


def good_pcap(make: Maker = LITTLE) -> bytes:
    return make.pcap_header() + b"".join(make.pcap_record(frame) for frame in FRAMES)


def good_pcapng(make: Maker = LITTLE) -> bytes:
    return make.shb() + make.idb() + b"".join(make.epb(frame) for frame in FRAMES)


def absurd_pcap() -> bytes:
    return good_pcap() + struct.pack("<IIII", 0, 0, 0x7FFFFFFF, 0x7FFFFFFF) + bytes(100)


def longer_than_the_wire() -> bytes:
    return good_pcap() + struct.pack("<IIII", 0, 0, 60, 59) + bytes(60)


def absurd_block() -> bytes:
    return good_pcapng() + struct.pack("<II", 6, 0xFFFFFFF0) + bytes(100)


def other_link_type() -> bytes:
    return good_pcapng() + LITTLE.idb(link_type=113) + LITTLE.epb(FRAMES[0], interface=1)


# Content, offset of the fault, and a word of its cause; five good frames are in front of each.
DAMAGED: dict[str, tuple[bytes, int, str]] = {
    "cut in a frame": (good_pcap()[:-1], len(good_pcap()) - 64 - 16, "ends inside frame 5"),
    "cut in a header": (good_pcap() + bytes(7), len(good_pcap()), "ends inside the header of frame 6"),
    "absurd captured length": (absurd_pcap(), len(good_pcap()), "2147483647"),
    "more captured than was": (longer_than_the_wire(), len(good_pcap()), "60 captured bytes of a frame of 59"),
    "absurd block": (absurd_block(), len(good_pcapng()), "4294967280"),
    "cut in a block": (good_pcapng() + LITTLE.epb(FRAMES[0])[:-1], len(good_pcapng()), "ends inside"),
    "other link type": (other_link_type(), len(good_pcapng()) + 20, "link type"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_fault_ends_the_replay_after_the_frames_in_front_of_it(case: str, tmp_path: Path) -> None:
    data, offset, cause = DAMAGED[case]
    source = tmp_path / "in.capture"
    source.write_bytes(data)
    whole = 4 if case == "cut in a frame" else 5
    for name, options in (
        ("plain", ReplayOptions()),
        ("journey", ReplayOptions(journey=True)),
        ("ring", ReplayOptions(encap="virtio", queues=2)),
    ):
        output = tmp_path / f"{name}.pcapng"
        job = Replay(options, str(output))
        with pytest.raises(CaptureError, match=cause) as caught:
            job.play([str(source)])
        assert (caught.value.path, caught.value.offset) == (str(source), offset)
        assert_consistent(job.summary())
        assert job.summary()["frames_in"] == whole
        skip = 44 if name == "ring" else 0
        assert [packet.data[skip:] for packet in seen_in(output)] == FRAMES[:whole]


def test_a_cut_file_on_the_command_line(tmp_path: Path) -> None:
    source, output = tmp_path / "in.pcap", tmp_path / "out.pcapng"
    source.write_bytes(good_pcap()[:-1])
    run = netemu("replay", source, "-o", output, "--json")
    line = one_error_line(run)
    where = f"{source}: at byte {len(good_pcap()) - 80}"
    assert line == f"netemu: {where} the file ends inside frame 5, which claims 64 bytes; 63 are there"
    assert run.returncode == 1
    figures = json.loads(run.stdout)
    assert (figures["frames_in"], figures["frames_out"]) == (4, 4)
    assert [packet.data for packet in seen_in(output)] == FRAMES[:4]


def test_damaged_gzip(tmp_path: Path) -> None:
    packed = gzip.compress(good_pcap(), mtime=0)
    (tmp_path / "in.gz").write_bytes(packed[:-12])
    line = one_error_line(netemu("replay", tmp_path / "in.gz"))
    assert str(tmp_path / "in.gz") in line
    assert "cut off" in line


def test_a_fault_in_a_later_input_keeps_the_earlier_ones(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is no capture\n")
    run = netemu("replay", BASICS, tmp_path / "text", FLOWS, "-o", tmp_path / "out.pcapng", "--json")
    assert "is it a text file?" in one_error_line(run)
    assert json.loads(run.stdout)["frames_in"] == 24
    assert len(seen_in(tmp_path / "out.pcapng")) == 24


NO_CAPTURES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "short": (b"\xd4\xc3", "only 2 bytes"),
    "text": (b"Dear diary,\n", "is it a text file?"),
    "header cut": (good_pcap()[:20], "ends inside its pcap header"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd"),
    "other link type": (LITTLE.pcap_header(link_type=105) + LITTLE.pcap_record(FRAMES[0]), "link type IEEE802_11"),
}


@pytest.mark.parametrize("case", NO_CAPTURES)
def test_what_is_no_capture_leaves_the_output_alone(case: str, tmp_path: Path) -> None:
    data, cause = NO_CAPTURES[case]
    source, output = tmp_path / "in", tmp_path / "out.pcapng"
    source.write_bytes(data)
    output.write_bytes(b"what was here before")
    run = netemu("replay", source, "-o", output)
    line = one_error_line(run)
    assert line.startswith(f"netemu: {source}: at byte 0 ")
    assert cause in line
    assert run.stdout == b""
    assert output.read_bytes() == b"what was here before"


def test_what_is_no_capture_on_standard_input() -> None:
    run = netemu("replay", "-", stdin=b"Dear diary,\n")
    assert "standard input: at byte 0 not a pcap or pcapng file" in one_error_line(run)


@pytest.mark.parametrize(("name", "cause"), [("absent.pcap", "no such file"), (".", "is a folder, not a capture file")])
def test_inputs_that_cannot_be_opened(name: str, cause: str, tmp_path: Path) -> None:
    run = netemu("replay", name, cwd=tmp_path)
    assert one_error_line(run) == f"netemu: {name}: {cause}"
    assert run.stdout == b""


@needs_permissions
def test_no_permission(tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "in.pcap", FRAMES)
    source.chmod(0)
    assert one_error_line(netemu("replay", source)) == f"netemu: {source}: no permission to read it"
    (tmp_path / "closed").mkdir(mode=0o500)
    line = one_error_line(netemu("replay", BASICS, "-o", tmp_path / "closed" / "out.pcap"))
    assert line.endswith("no permission to write it")


def test_outputs_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.pcap").mkdir()
    (tmp_path / "full.pcap").symlink_to("/dev/full")
    for name, cause in (
        ("absent/out.pcap", "cannot be made: its folder does not exist"),
        ("folder.pcap", "cannot be written: it is a folder"),
        ("full.pcap", "cannot be written: No space left on device"),
        ("out.txt", "the name of a capture to write ends in .pcap or .pcapng (and .gz behind, if wanted)"),
    ):
        run = netemu("replay", BASICS, "-o", name, cwd=tmp_path)
        assert one_error_line(run) == f"netemu: {name}: {cause}"
        assert run.stdout == b""


def test_standard_output_that_cannot_be_written() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        for arguments in (["replay", BASICS], ["replay", BASICS, "-o", "-"], ["show", BASICS], ["--help"]):
            run = netemu(*arguments, stdout=full)
            line = run.stderr.decode().splitlines()[-1]
            assert line.startswith("netemu: standard output: ")
            assert line.endswith("No space left on device")
            assert "Traceback" not in run.stderr.decode()
            assert run.returncode == 1


def test_a_disk_that_fills_up_leaves_whole_records(tmp_path: Path) -> None:
    """A file size limit stands for the full disk; the limit lies within the second megabyte that is written."""
    import resource  # noqa: PLC0415
    import signal  # noqa: PLC0415

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    source = write_pcap(tmp_path / "in.pcap", [numbered(9000, number) for number in range(400)])
    run = netemu("replay", source, "-o", tmp_path / "out.pcapng", preexec_fn=limit)
    assert one_error_line(run).startswith(f"netemu: {tmp_path / 'out.pcapng'}: cannot be written: ")
    written = seen_in(tmp_path / "out.pcapng")
    assert 50 < len(written) < 170
    assert [packet.data for packet in written] == [numbered(9000, number) for number in range(len(written))]


def test_writing_over_an_input(tmp_path: Path) -> None:
    source = write_pcap(tmp_path / "in.pcap", FRAMES)
    before = source.read_bytes()
    (tmp_path / "link.pcap").symlink_to(source)
    (tmp_path / "hard.pcap").hardlink_to(source)
    for name in ("in.pcap", "./in.pcap", "link.pcap", "hard.pcap"):
        run = netemu("replay", BASICS, "in.pcap", "-o", name, cwd=tmp_path)
        assert one_error_line(run) == f"netemu: {name}: is an input too; writing it would destroy it"
        assert source.read_bytes() == before
    with source.open("rb") as stdin:
        run = netemu("replay", "-", "-o", source, stdin=stdin.fileno())
    assert "is an input too" in one_error_line(run)
    assert source.read_bytes() == before


def test_names_that_steer_a_terminal_are_harmless(tmp_path: Path) -> None:
    line = one_error_line(netemu("replay", "\x1b[31mred\x07\u202e.pcap", cwd=tmp_path))
    assert line == "netemu: ?[31mred??.pcap: no such file"


# Hostile captures -----------------------------------------------------------------------------------------------------


def survives(data: bytes, path: Path, options: ReplayOptions) -> None:
    """Nothing but `NetemuError` is raised, and what was counted and written fits together."""
    path.write_bytes(data)
    output = path.with_suffix(".out.pcapng")
    job = Replay(options, str(output))
    try:
        job.play([str(path)])
    except NetemuError as error:
        assert str(path) in str(error)  # noqa: PT017 - there need not be one
    figures = job.summary()
    assert_consistent(figures)
    written = seen_in(output)
    at_device = sum(count for reason, count in figures["dropped"].items() if reason in ("too_long", "no_buffer"))
    lost = at_device if options.encap == "virtio" else sum(figures["dropped"].values())
    assert len(written) == figures["frames_in"] - lost
    if options.encap == "ethernet":
        assert sum(len(packet.data) for packet in written) == figures["bytes_out"]


SOURCES = [good_pcap(make) for make in MAKERS] + [good_pcapng(make) for make in MAKERS]
SOURCES += [(PCAPS / name).read_bytes() for name in ("bad.pcap", "snapped.pcap", "big-endian.pcapng")]
SOURCES += [(PCAPS / "flows.pcapng").read_bytes()[:6000]]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A capture with a few of the usual misfortunes."""
    data = bytearray(draw(st.sampled_from(SOURCES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "cut", "insert", "delete", "word"]))
        if kind == "flip" and at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[max(at, 1) :]
        elif kind == "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=40))
        elif kind == "delete":
            del data[at : at + draw(st.integers(1, 40))]
        elif kind == "word":
            at = at // 4 * 4
            data[at : at + 4] = draw(st.sampled_from([bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\4\0"]))
    return bytes(data)


OPTIONS = [
    ReplayOptions(mode="small", queue_size=16),
    ReplayOptions(queues=4, journey=True, queue_size=64),
    ReplayOptions(mode="big", encap="virtio", queue_size=16, driver="linux-4.19"),
    ReplayOptions(encap="virtio", journey=True, wait=False, queue_size=16, driver="linux-6.1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@settings(max_examples=150, deadline=None)
@given(data=mutated(), options=st.sampled_from(OPTIONS))
def test_mutated_captures_raise_nothing_but_netemus_errors(data: bytes, options: ReplayOptions, folder: Path) -> None:
    survives(data, folder / "in.capture", options)


def test_frames_of_noise(folder: Path) -> None:
    """Ethernet frames of random bytes and of every length to 300, through all options."""
    noise = random.Random(7)
    frames = [noise.randbytes(size) for size in range(300)]
    frames += [
        bytes(12) + kind + noise.randbytes(80) for kind in (b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x08\x06")
    ] * 20
    data = LITTLE.pcap_header() + b"".join(LITTLE.pcap_record(frame) for frame in frames)
    for options in OPTIONS:
        survives(data, folder / "noise.pcap", options)
    assert [packet.data for packet in read_capture_by_hand(data)] == frames


@pytest.mark.parametrize("seed", range(8))
def test_the_command_line_survives_mutated_captures(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    data = bytearray(dice.choice(SOURCES))
    for _ in range(3):
        data[dice.randrange(4, len(data))] ^= 1 << dice.randrange(8)
    data = data[: dice.randrange(len(data) // 2, len(data))]
    (tmp_path / "in").write_bytes(data)
    command = dice.choice(["replay", "show"])
    run = netemu(command, tmp_path / "in", "--json")
    assert b"Traceback" not in run.stderr
    if run.returncode:
        assert str(tmp_path / "in") in one_error_line(run)
    else:
        assert run.stderr == b""
    if command == "replay" and run.stdout:
        figures: dict[str, Any] = json.loads(run.stdout)
        assert_consistent(figures)
    if command == "show":
        assert all(json.loads(line)["frame"] == number for number, line in enumerate(run.stdout.splitlines(), 1))
