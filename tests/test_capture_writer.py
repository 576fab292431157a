"""Writing captures: every byte, what Wireshark's programs say of it, and what happens when writing fails."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.capture import (
    FLAG_INBOUND,
    FLAG_OUTBOUND,
    MAX_FRAME,
    SINK_NONE,
    CapturedFrame,
    CaptureWriter,
    InterfaceInfo,
    InterfaceStatistics,
    Sink,
    read_capture,
    read_packets,
    same_file,
    sink_at,
    sink_count,
    sink_record,
)
from netemu.errors import CaptureError, ConfigError
from netemu.jit import allocate, entry, i64, memcpy
from tests.capture_bytes import LITTLE, frame
from tests.support import needs

USERAPPL = (4, f"netemu {version('virtio-netemu')}".encode())
NANOSECONDS = (9, b"\x09")
START = LITTLE.shb([USERAPPL]) + LITTLE.idb(1, 262144, [NANOSECONDS])
"""What stands in front of the frames of a pcapng file."""


@entry
def record(sink: i64, data: i64, tstamp: i64, caplen: i64, wire_len: i64, queue: i64, frame_id: i64, flags: i64) -> i64:
    """Record a frame as a data path would; 0 if there was no room."""
    at = sink_record(sink_at(sink), tstamp, caplen, wire_len, queue, frame_id, flags)
    if at == 0:
        return 0
    memcpy(at, data, caplen)
    return 1


@entry
def count(sink: i64, caplen: i64) -> None:
    """Count a frame."""
    sink_count(sink_at(sink), caplen)


def record_frame(
    writer: CaptureWriter, data: bytes, tstamp: int, wire_len: int, queue: int = -1, frame_id: int = 0, flags: int = 0
) -> None:
    """Record ``data`` by the kernel, with the flush that a full buffer asks for."""
    memory = allocate(len(data) + 1)
    memory.array[: len(data)] = bytearray(data)
    arguments = (writer.sink.address, memory.address, tstamp, len(data), wire_len, queue, frame_id, flags)
    if not record(*arguments):
        before = writer.sink.to_dict()
        writer.flush()
        assert before | {"used": 0} == writer.sink.to_dict()
        assert record(*arguments)


def fields(path: Path, *names: str) -> list[list[str]]:
    """What tshark says of each packet's fields."""
    wanted = [argument for name in names for argument in ("-e", name)]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=|", *wanted]
    output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [line.split("|") for line in output.splitlines()]


def test_pcap_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    with CaptureWriter(path, link_type=147) as writer:
        writer.write(frame(60), 1_700_000_000_123_456_789, queue=3, frame_id=9, flags=1, comments=["unseen"], drops=2)
        record_frame(writer, frame(61), 2, 1514)
    assert path.read_bytes() == (
        LITTLE.pcap_header(0xA1B23C4D, link_type=147)
        + LITTLE.pcap_record(frame(60), 1_700_000_000, 123_456_789)
        + LITTLE.pcap_record(frame(61), 0, 2, wire_len=1514)
    )


def test_pcapng_is_written_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    interface = InterfaceInfo("rx0", "the guest's side", hardware="virtio-net", os="none", filter="ip", comments=["hi"])
    with CaptureWriter(path, interface=interface) as writer:
        record_frame(writer, frame(61), 2**33 + 5, 1514, queue=3, frame_id=2**40, flags=FLAG_INBOUND)
        writer.sink.pending_drops = 7
        record_frame(writer, frame(64), 0, 64, queue=0)
        record_frame(writer, b"", 0, 0)
        writer.write(frame(3), 1, flags=FLAG_OUTBOUND, comments=["one", "two, and longer"], drops=1)
        writer.close(InterfaceStatistics(10, 2**32, 4, 1, 3, 0, 2, ["done"]))
    assert path.read_bytes() == (
        LITTLE.shb([USERAPPL])
        + LITTLE.idb(
            1,
            262144,
            [
                (1, b"hi"),
                (2, b"rx0"),
                (3, b"the guest's side"),
                NANOSECONDS,
                (11, b"\0ip"),
                (12, b"none"),
                (15, b"virtio-net"),
            ],
        )
        + LITTLE.epb(
            frame(61), 2**33 + 5, 0, 1514, [(2, struct.pack("<I", 1)), (5, struct.pack("<Q", 2**40)), (6, b"\3\0\0\0")]
        )
        + LITTLE.epb(frame(64), options=[(4, struct.pack("<Q", 7)), (6, bytes(4))])
        + LITTLE.epb(b"")
        + LITTLE.epb(
            frame(3),
            1,
            options=[(1, b"one"), (1, b"two, and longer"), (2, b"\2\0\0\0"), (4, b"\1" + bytes(7))],
        )
        + LITTLE.block(
            5,
            struct.pack("<III", 0, 1, 0)
            + LITTLE.options(
                [(1, b"done"), (2, struct.pack("<II", 0, 10)), (3, struct.pack("<II", 1, 0))]
                + [(4 + n, struct.pack("<Q", value)) for n, value in enumerate((4, 1, 3, 0, 2))]
            ),
        )
    )


FRAMES = st.tuples(
    st.integers(0, 70) | st.sampled_from([1514, 65_550, 262_143, 262_144]),  # caplen
    st.sampled_from([0, 1, 2**31]),  # by how much the wire had more
    st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 2**32 * 10**9 - 1, 2**32 * 10**9]),  # tstamp
    st.integers(-1, 3) | st.just(65535),  # queue
    st.integers(0, 2**63 - 1),  # frame_id
    st.integers(0, 3),  # flags
    st.integers(0, 2) | st.just(2**40),  # drops
)


@settings(max_examples=40, deadline=None)
@given(frames=st.lists(FRAMES, max_size=12), suffix=st.sampled_from([".pcap", ".pcapng", ".pcapng.gz"]))
def test_kernel_and_python_write_the_same_bytes_and_they_read_back(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, ...]], suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("pair")
    one, other = folder / ("kernel" + suffix), folder / ("python" + suffix)
    data = frame(MAX_FRAME)
    with CaptureWriter(one) as kernel, CaptureWriter(other) as python:
        for size, more, tstamp, queue, frame_id, flags, drops in frames:
            kernel.sink.pending_drops += drops
            record_frame(kernel, data[:size], tstamp, size + more, queue, frame_id, flags)
            python.write(data[:size], tstamp, size + more, queue=queue, frame_id=frame_id, flags=flags, drops=drops)
        assert kernel.sink.frames == python.sink.frames == len(frames)
        assert kernel.sink.bytes == python.sink.bytes == sum(each[0] for each in frames)
    assert one.read_bytes() == other.read_bytes()
    last = 2**32 * 10**9 - 1 if suffix == ".pcap" else 2**63 - 1
    assert list(read_capture(one)) == [
        CapturedFrame(data[:size], min(last, max(0, tstamp)), size + more, 0, number)
        for number, (size, more, tstamp, *_) in enumerate(frames, 1)
    ]
    if suffix != ".pcap":
        assert [(each.queue, each.packet_id, each.flags, each.drop_count) for each in read_packets(other)] == [
            (None if queue < 0 else queue, frame_id or None, flags or None, drops or None)
            for _, _, _, queue, frame_id, flags, drops in frames
        ]


def test_a_sink_without_room_is_left_as_it_was() -> None:
    for kind, overhead in ((1, 16), (2, 32)):
        memory = allocate(overhead + 64 + 8)
        source = allocate(64)
        sink = Sink(kind=kind, buffer=memory.address, size=overhead + 63, pending_drops=0)
        before = bytes(sink), memory.array.tobytes()
        assert record(sink.address, source.address, 5, 64, 64, -1, 0, 0) == 0
        assert (bytes(sink), memory.array.tobytes()) == before
        sink.size += 1
        assert record(sink.address, source.address, 5, 64, 64, -1, 0, 0) == 1
        assert (sink.used, sink.frames, sink.bytes) == (overhead + 64, 1, 64)
        assert memory.array[sink.used :].tobytes() == bytes(8)
    sink.pending_drops = 3
    assert record(sink.address, source.address, 5, 0, 0, -1, 0, 0) == 0
    assert sink.pending_drops == 3


def test_a_sink_of_no_kind_counts() -> None:
    sink = Sink(kind=SINK_NONE)
    count(sink.address, 60)
    count(sink.address, 1514)
    assert (sink.frames, sink.bytes, sink.used) == (2, 1574, 0)


def test_frames_over_the_limit_are_snapped_and_lengths_made_to_fit(tmp_path: Path) -> None:
    for suffix in ("pcap", "pcapng"):
        path = tmp_path / f"out.{suffix}"
        with CaptureWriter(path) as writer:
            writer.write(frame(MAX_FRAME + 1), 0)
            writer.write(frame(60), 2**70 if suffix == "pcapng" else 0, wire_len=10)
        first, second = read_capture(path)
        assert (first.data, first.wire_len) == (frame(MAX_FRAME), MAX_FRAME + 1)
        assert (second.data, second.wire_len) == (frame(60), 60)


def test_long_comments_are_cut_between_characters_and_too_many_left_out(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    with CaptureWriter(path) as writer:
        writer.write(frame(MAX_FRAME), 0, comments=["ä" * 40_000] + ["y" * 65_535] * 20)
        writer.write(frame(61), 0, comments=[""])
    first, second = read_packets(path)
    assert first.comments == ["ä" * 32_767] + ["y" * 65_535] * 6
    assert second.comments == []


@needs("tshark")
def test_tshark_shows_what_was_written(tmp_path: Path) -> None:
    names = ["frame.time_epoch", "frame.len", "frame.cap_len", "frame.interface_name", "frame.interface_description"]
    names += ["frame.packet_flags_direction", "frame.packet_id", "frame.interface_queue", "frame.drop_count"]
    path = tmp_path / "out.pcapng"
    with CaptureWriter(path, interface=InterfaceInfo("rx0", "first")) as writer:
        assert writer.add_interface(InterfaceInfo("tx0", "second")) == 1
        record_frame(writer, frame(60), 1_700_000_000_123_456_789, 1514, 3, 77, FLAG_INBOUND)
        writer.sink.interface = 1
        writer.sink.pending_drops = 5
        record_frame(writer, frame(61), 1, 61, 0, 78, FLAG_OUTBOUND)
        writer.write(frame(62), 2, frame_id=79, comments=["why it was dropped", "and more"])
    assert fields(path, *names) == [
        ["1700000000.123456789", "1514", "60", "rx0", "first", "0x00000001", "77", "3", ""],
        ["0.000000001", "61", "61", "tx0", "second", "0x00000002", "78", "0", "5"],
        ["0.000000002", "62", "62", "tx0", "second", "", "79", "", ""],
    ]
    assert fields(path, "frame.comment")[2] == ["why it was dropped,and more"]


@needs("tshark")
@pytest.mark.parametrize("suffix", [".pcap", ".pcapng", ".pcap.gz", ".PCAPNG.GZ"])
def test_tshark_reads_frames_and_times_of_every_kind(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("out" + suffix)
    with CaptureWriter(path) as writer:
        for number in range(300):
            record_frame(writer, frame(number % 100 + 20, number), number * 1_000_000_007, 2000 + number, 0, number + 1)
            if number % 100 == 0:
                writer.flush()
    assert fields(path, "frame.time_epoch", "frame.cap_len", "frame.len") == [
        [f"{number}.{number * 7:09}", str(number % 100 + 20), str(2000 + number)] for number in range(300)
    ]
    assert [each.data for each in read_capture(path)] == [frame(number % 100 + 20, number) for number in range(300)]


@needs("capinfos", "tshark")
def test_capinfos_shows_interfaces_and_statistics(tmp_path: Path) -> None:
    path = tmp_path / "out.pcapng"
    interface = InterfaceInfo("rx0", "first", hardware="virtio-net", os="Linux", filter="ip")
    writer = CaptureWriter(path, interface=interface)
    writer.add_interface(InterfaceInfo("user"), link_type=147)
    writer.write(frame(60), 0)
    statistics = InterfaceStatistics(1_700_000_000_000_000_000, 1_700_000_001_000_000_000, 12, 3, 9, 1, 8)
    writer.close([statistics, InterfaceStatistics(ifrecv=44)])
    writer.close()
    shown = subprocess.run(["capinfos", path], capture_output=True, check=True, text=True).stdout
    lines = {line.strip() for line in shown.splitlines()}
    assert f"Capture application: netemu {version('virtio-netemu')}" in lines
    assert {"Name = rx0", "Description = first", "Hardware = virtio-net", "Operating system = Linux"} <= lines
    assert {"Capture length = 262144", "Time precision = nanoseconds (9)", "Number of stat entries = 1"} <= lines
    assert {"Encapsulation = Ethernet (1 - ether)", "Encapsulation = USER 0 (45 - user0)"} <= lines
    assert "Filter string = ip" in lines
    assert "Number of interfaces in file: 2" in lines
    report = subprocess.run(
        ["tshark", "-r", path, "-T", "json", "-X", "read_format:MIME Files Format"], capture_output=True, check=True
    )
    shown = report.stdout.decode()
    counters = {"dropped": 3, "accepted_by_filter": 9, "dropped_by_os": 1, "delivered_to_user": 8}
    for name, value in [*counters.items(), ("received", 12), ("received", 44)]:
        assert f'"pcapng.options.option.data.interface.{name}": "{value}"' in shown


def test_the_suffix_chooses_the_format_unless_told(tmp_path: Path) -> None:
    for name in ("out", "out.cap", "out.gz", "outpcap", "out.pcapng.xz"):
        with pytest.raises(ConfigError, match=r"\.pcap or \.pcapng"):
            CaptureWriter(tmp_path / name)
        assert not (tmp_path / name).exists()
        with CaptureWriter(tmp_path / name, kind="pcapng"):
            pass
    assert (tmp_path / "out.cap").read_bytes() == START
    assert gzip.decompress((tmp_path / "out.gz").read_bytes()) == START
    with pytest.raises(ConfigError, match="not as erf"):
        CaptureWriter(tmp_path / "x.pcap", kind="erf")


def test_pcap_has_one_interface(tmp_path: Path) -> None:
    writer = CaptureWriter(tmp_path / "out.pcap")
    with writer, pytest.raises(ConfigError, match="pcap file has one interface"):
        writer.add_interface(InterfaceInfo("second"))


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng", ".pcapng.gz"])
def test_every_flush_leaves_a_whole_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("out" + suffix)
    writer = CaptureWriter(path)
    assert list(read_capture(path)) == []
    for number in range(3):
        writer.write(frame(60, number), number)
        assert len(list(read_capture(path))) == number
        writer.flush()
        assert len(list(read_capture(path))) == number + 1
    writer.close()
    assert [each.data for each in read_capture(path)] == [frame(60, number) for number in range(3)]


FILL = """
import resource, sys
from netemu.capture import CaptureWriter
from netemu.errors import CaptureError
resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))
try:
    with CaptureWriter(sys.argv[1]) as writer:
        for number in range(100_000):
            writer.write(number.to_bytes(4, "big") * 20, number)
except CaptureError as error:
    print(error.cause)
"""


@pytest.mark.parametrize("suffix", [".pcap", ".pcapng"])
def test_a_disk_that_fills_up_leaves_a_whole_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / ("out" + suffix)
    run = subprocess.run([sys.executable, "-c", FILL, path], capture_output=True, check=True, text=True)
    assert run.stdout == "cannot be written: File too large\n"
    frames = list(read_capture(path))
    assert len(frames) > 10_000
    assert [each.data for each in frames] == [number.to_bytes(4, "big") * 20 for number in range(len(frames))]


def test_failures_are_capture_errors_in_words(tmp_path: Path) -> None:
    (tmp_path / "folder.pcap").mkdir()
    for path, words in [
        (tmp_path / "absent" / "out.pcap", "cannot be made: its folder does not exist"),
        (tmp_path / "folder.pcap", "cannot be written: it is a folder"),
    ]:
        with pytest.raises(CaptureError) as caught:
            CaptureWriter(path)
        assert (caught.value.path, caught.value.cause) == (str(path), words)
    with pytest.raises(CaptureError) as caught:
        CaptureWriter("/dev/full", kind="pcap")
    assert caught.value.cause == "cannot be written: No space left on device"
    tmp_path.chmod(0o555)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may write everywhere, nobody may not
    try:
        with pytest.raises(CaptureError, match="no permission to write it"):
            CaptureWriter(tmp_path / "out.pcap")
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)


def test_after_a_failure_nothing_more_is_written_and_the_failure_comes_again(tmp_path: Path) -> None:
    fifo = tmp_path / "out.pcap"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer = CaptureWriter(fifo)
    os.close(reader)
    writer.write(frame(60), 0)
    for _ in range(2):
        with pytest.raises(CaptureError, match="cannot be written: Broken pipe"):
            writer.flush()
        writer.write(frame(60), 0)
    writer.close()


STDOUT = """
import sys
from netemu.capture import CaptureWriter
with CaptureWriter("-", **eval(sys.argv[1])) as writer:
    for number in range(int(sys.argv[2])):
        writer.write(bytes([number % 256]) * 60, number)
"""


def test_standard_output_is_pcapng_or_what_was_asked_for() -> None:
    command = [sys.executable, "-c", STDOUT]
    pcapng = subprocess.run([*command, "{}", "2"], capture_output=True, check=True).stdout
    assert pcapng == START + LITTLE.epb(bytes(60), 0) + LITTLE.epb(b"\1" * 60, 1)
    pcap = subprocess.run([*command, "{'kind': 'pcap'}", "1"], capture_output=True, check=True).stdout
    assert pcap == LITTLE.pcap_header(0xA1B23C4D) + LITTLE.pcap_record(bytes(60))


BROKEN = """
import os, sys
from netemu.capture import CaptureWriter
try:
    with CaptureWriter("-") as writer:
        for number in range(100_000):
            writer.write(bytes(60), number)
except BrokenPipeError:
    os.write(2, b"broken pipe")
    os._exit(0)
"""


def test_a_reader_of_standard_output_that_goes_away_is_a_broken_pipe() -> None:
    run = subprocess.Popen([sys.executable, "-c", BROKEN], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.read(4) == b"\n\r\r\n"
    run.stdout.close()
    assert run.stderr.read() == b"broken pipe"
    run.stderr.close()
    assert run.wait() == 0


def test_same_file_sees_through_names(tmp_path: Path) -> None:
    one, other = tmp_path / "one.pcap", tmp_path / "other.pcap"
    one.write_bytes(b"1")
    other.write_bytes(b"1")
    (tmp_path / "link.pcap").symlink_to(one)
    (tmp_path / "hard.pcap").hardlink_to(one)
    assert same_file(one, one)
    assert same_file(one, tmp_path / "link.pcap")
    assert same_file(tmp_path / "hard.pcap", str(tmp_path / "." / "one.pcap"))
    assert not same_file(one, other)
    assert not same_file(one, tmp_path / "absent.pcap")
    assert not same_file("/dev/null", "/dev/null")
    assert not same_file("a\0b", one)
    code = "import sys; from netemu.capture import same_file; sys.stderr.write(str(same_file('-', sys.argv[1])))"
    with one.open("rb") as file:
        run = subprocess.run([sys.executable, "-c", code, one], stdin=file, capture_output=True, check=True)
    assert run.stderr == b"True"


INTERPRETED = """
import sys
from tests.test_capture_writer import frame, record_frame
from netemu.capture import CaptureWriter, InterfaceStatistics
for path in sys.argv[1:]:
    writer = CaptureWriter(path)
    for number in range(40):
        writer.sink.pending_drops += number % 3
        data, tstamp = frame(number * 1999, number), (number - 5) * 10**17
        record_frame(writer, data, tstamp, number * 2000, number % 4 - 1, number, number % 3)
    writer.close(InterfaceStatistics(ifrecv=40))
"""


def test_the_interpreted_kernels_write_the_same(tmp_path: Path) -> None:
    for folder, mode in (("compiled", "1"), ("interpreted", "0")):
        (tmp_path / folder).mkdir()
        paths = [tmp_path / folder / name for name in ("out.pcap", "out.pcapng")]
        environment = os.environ | {"NETEMU_JIT": mode}
        root = Path(__file__).resolve().parent.parent
        subprocess.run([sys.executable, "-c", INTERPRETED, *paths], check=True, env=environment, cwd=root)
    for name in ("out.pcap", "out.pcapng"):
        one, other = ((tmp_path / folder / name).read_bytes() for folder in ("compiled", "interpreted"))
        assert len(one) > 1_500_000
        assert one == other
