"""Where captures come from: files that are none, gzip of every kind, pipes, standard input."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import threading
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

from netemu.capture import open_capture, read_capture
from netemu.errors import CaptureError
from tests.capture_bytes import BIG, LITTLE, frame
from tests.support import needs
from tests.test_capture_pcap import put, read_until_fault

SIZES = [60, 0, 1514, 14, 80_000]
PCAP = LITTLE.pcap_header() + b"".join(LITTLE.pcap_record(frame(size, n), n) for n, size in enumerate(SIZES))
PCAPNG = BIG.shb() + BIG.idb() + b"".join(BIG.epb(frame(size, n), n) for n, size in enumerate(SIZES))
WANTED = [frame(size, n) for n, size in enumerate(SIZES)]

ENDS = {
    PCAP: [24 + sum(16 + size for size in SIZES[: number + 1]) for number in range(len(SIZES))],
    PCAPNG: [48 + sum(32 + (size + 3) // 4 * 4 for size in SIZES[: number + 1]) for number in range(len(SIZES))],
}
"""Where each frame's record ends."""

EITHER = pytest.mark.parametrize("capture", [PCAP, PCAPNG], ids=["pcap", "pcapng"])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the file is empty"),
        (b"\xd4\xc3\xb2", "not a capture file: it has only 3 bytes"),
        (b"\x28\xb5\x2f\xfd\x04\x00\x01\x00\x00", "starts with 28 b5 2f fd 04 00 01 00; is it compressed with zstd?"),
        (lzma.compress(PCAP), "is it compressed with xz?"),
        (bz2.compress(PCAP), "is it compressed with bzip2?"),
        (b"\x04\x22\x4d\x18\x64\x40\xa7", "starts with 04 22 4d 18 64 40 a7; is it compressed with lz4?"),
        (b"PK\x03\x04rest", "is it a zip archive?"),
        (b"snoop\0\0\0\0\0\0\x02", "is it a capture in snoop format?"),
        (gzip.compress(gzip.compress(PCAP)), "is it compressed twice?"),
        (b"12:00:01.5 IP 10.0.0.1 > 10.0.0.2\n", "starts with 31 32 3a 30 30 3a 30 31; is it a text file?"),
        (bytes(100), "starts with 00 00 00 00 00 00 00 00"),
    ],
)
def test_what_is_no_capture_is_described(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(CaptureError) as caught:
        open_capture(put(tmp_path, data))
    assert caught.value.cause.endswith(words)
    assert caught.value.offset == 0


def test_absent_files_folders_and_bad_names_are_capture_errors(tmp_path: Path) -> None:
    for path, words in [
        (tmp_path / "absent.pcap", "no such file"),
        (tmp_path, "is a folder, not a capture file"),
        (tmp_path / "capture" / "below", "cannot be read: Not a directory"),
        (Path("a\0b"), "cannot be read: embedded null byte"),
    ]:
        put(tmp_path, PCAP)
        with pytest.raises(CaptureError) as caught:
            open_capture(path)
        assert caught.value.cause == words
        assert caught.value.path == str(path)


def test_a_file_without_permission_is_a_capture_error(tmp_path: Path) -> None:
    path = put(tmp_path, PCAP)
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything, nobody may not
    try:
        with pytest.raises(CaptureError, match="no permission"):
            open_capture(path)
    finally:
        os.seteuid(user)


@EITHER
def test_gzip_is_looked_through_whatever_the_name(tmp_path: Path, capture: bytes) -> None:
    for level in (0, 1, 9):
        path = put(tmp_path, gzip.compress(capture, level))
        assert [each.data for each in read_capture(path)] == WANTED
    with open_capture(path) as reader:
        while reader.read_batch() is not None:
            pass
        assert reader.progress() == (path.stat().st_size, path.stat().st_size)


@EITHER
def test_gzip_members_follow_one_another(tmp_path: Path, capture: bytes) -> None:
    cuts = [0, 1, 24, 25, 1000, 1000, 50_000, len(capture)]
    members = [gzip.compress(capture[start:end]) for start, end in pairwise(cuts)]
    for padding in (b"", bytes(1000)):
        assert [each.data for each in read_capture(put(tmp_path, b"".join(members) + padding))] == WANTED


def test_a_large_gzip_file_fills_the_window_many_times(tmp_path: Path) -> None:
    record = LITTLE.pcap_record(frame(1000))
    path = put(tmp_path, gzip.compress(LITTLE.pcap_header() + record * 5000))
    assert sum(each.data == frame(1000) for each in read_capture(path)) == 5000


@EITHER
def test_gzip_cut_off_anywhere_gives_the_frames_in_front(tmp_path: Path, capture: bytes) -> None:
    packed = gzip.compress(capture)
    for cut in range(2, len(packed), 7):
        plain = zlib.decompressobj(31).decompress(packed[:cut])
        if len(plain) < 28:
            with pytest.raises(CaptureError, match="the gzip data is cut off"):
                open_capture(put(tmp_path, packed[:cut]))
            continue
        frames, error = read_until_fault(put(tmp_path, packed[:cut]))
        assert error.cause == "the gzip data is cut off"
        assert error.offset == len(plain)
        whole = sum(end <= len(plain) for end in ENDS[capture])
        assert [each.data for each in frames] == WANTED[:whole]


def test_damaged_gzip_gives_every_frame_in_front_of_the_damage(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(PCAP))
    packed[-5] ^= 1  # in the check sum behind the data
    frames, error = read_until_fault(put(tmp_path, bytes(packed)))
    assert [each.data for each in frames] == WANTED
    assert error.cause == "the gzip data is damaged: incorrect data check"
    assert error.offset == len(PCAP)
    stored = bytearray(gzip.compress(LITTLE.pcap_header() + LITTLE.pcap_record(frame(60_000)) * 4, 0))
    second = stored.index(b"\xff\xff\x00\x00", 20)  # length and its complement of the second stored block
    stored[second] ^= 0x10
    frames, error = read_until_fault(put(tmp_path, bytes(stored)))
    assert [each.data for each in frames] == [frame(60_000)]
    assert error.cause == "the gzip data is damaged: invalid stored block lengths"


def test_something_else_behind_gzip_is_a_fault(tmp_path: Path) -> None:
    for behind in (b"\x01", b"PK", bytes(10) + b"text"):
        frames, error = read_until_fault(put(tmp_path, gzip.compress(PCAP) + behind))
        assert [each.data for each in frames] == WANTED
        assert error.cause == "something that is not gzip follows the gzip data"
    frames, error = read_until_fault(put(tmp_path, gzip.compress(PCAP) + b"\x1f\x8b\x09" + bytes(20)))
    assert [each.data for each in frames] == WANTED
    assert error.cause.startswith("the gzip data is damaged")


@EITHER
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_a_pipe_may_give_single_bytes(tmp_path: Path, capture: bytes, packed: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    short = capture[:-79_000]
    data = gzip.compress(short) if packed else short

    def feed() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            for at in range(len(data)):
                pipe.write(data[at : at + 1])

    feeder = threading.Thread(target=feed)
    feeder.start()
    frames, error = read_until_fault(fifo)
    feeder.join()
    assert [each.data for each in frames] == WANTED[:4]
    assert "the file ends inside" in error.cause


def test_frames_of_a_live_pipe_are_not_held_back(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    goon = threading.Semaphore(1)

    def feed() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            pipe.write(LITTLE.pcap_header())
            for number in range(5):
                goon.acquire()  # the next frame is sent only when the one before was seen
                pipe.write(LITTLE.pcap_record(frame(60, number)))

    feeder = threading.Thread(target=feed)
    feeder.start()
    seen = []
    for each in read_capture(fifo):
        seen.append(each.data)
        goon.release()
    feeder.join()
    assert seen == [frame(60, number) for number in range(5)]


DUMP = """
import sys
from netemu.capture import read_capture
from netemu.errors import CaptureError
for path in sys.argv[1:]:
    try:
        for frame in read_capture(path, None):
            print(frame)
    except CaptureError as error:
        print(error.cause, error.offset)
"""


def dump(*paths: str | Path, data: bytes | None = None, **environment: str) -> str:
    """What another process reads."""
    command = [sys.executable, "-c", DUMP, *map(str, paths)]
    run = subprocess.run(command, input=data, capture_output=True, check=True, env=os.environ | environment)
    assert run.stderr == b""
    return run.stdout.decode()


@EITHER
def test_standard_input_is_read_like_a_file(tmp_path: Path, capture: bytes) -> None:
    wanted = dump(put(tmp_path, capture))
    assert wanted.count("CapturedFrame") == len(SIZES)
    assert dump("-", data=gzip.compress(capture)) == wanted


def test_errors_of_standard_input_name_it() -> None:
    code = "from netemu.capture import open_capture; open_capture('-')"
    run = subprocess.run([sys.executable, "-c", code], input=b"x", capture_output=True, check=False)
    assert b"standard input: at byte 0 not a capture file: it has only 1 bytes" in run.stderr
    run = subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "{code}" <&-'], capture_output=True, check=False)
    assert b"CaptureError: standard input: is closed" in run.stderr


@needs("tcpdump")
def test_reads_what_tcpdump_pipes(tmp_path: Path) -> None:
    path = put(tmp_path, PCAP)
    piped = subprocess.run(["tcpdump", "-r", path, "-w", "-"], capture_output=True, check=True).stdout
    assert dump("-", data=piped) == dump(path)


def test_the_interpreted_kernels_read_the_same(tmp_path: Path) -> None:
    paths: list[Path] = []
    for capture in (PCAP, PCAPNG):
        for data in (capture, capture[:-100], capture + b"\0" * 10, gzip.compress(capture)):
            path = tmp_path / str(len(paths))
            path.write_bytes(data)
            paths.append(path)
    dumped = dump(*paths)
    assert dumped.count("CapturedFrame") == 2 * (5 + 4 + 5 + 5)
    assert dump(*paths, NETEMU_JIT="0") == dumped
