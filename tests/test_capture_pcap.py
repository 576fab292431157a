"""Reading pcap: every magic, every length, every cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from netemu.capture import CapturedFrame, open_capture, read_capture, read_packets
from netemu.errors import CaptureError
from tests.capture_bytes import BIG, LITTLE, MAKERS, Maker, frame


def put(folder: Path, data: bytes) -> Path:
    path = folder / "capture"
    path.write_bytes(data)
    return path


def read_until_fault(path: Path) -> tuple[list[CapturedFrame], CaptureError]:
    """The frames in front of a fault, and the fault."""
    frames: list[CapturedFrame] = []
    with pytest.raises(CaptureError) as caught:
        frames.extend(read_capture(path))  # extend keeps what came before an error
    return frames, caught.value


@pytest.mark.parametrize("maker", MAKERS, ids=["little", "big"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_reads_both_resolutions_in_either_byte_order(tmp_path: Path, maker: Maker, magic: int, unit: int) -> None:
    path = put(
        tmp_path,
        maker.pcap_header(magic)
        + maker.pcap_record(frame(60), 1, 2)
        + maker.pcap_record(frame(61, 1), 0xFFFFFFFF, 999_999, wire_len=1514)
        + maker.pcap_record(b""),
    )
    assert list(read_capture(path)) == [
        CapturedFrame(frame(60), 1_000_000_000 + 2 * unit, 60, 0, 1),
        CapturedFrame(frame(61, 1), 4_294_967_295_000_000_000 + 999_999 * unit, 1514, 0, 2),
        CapturedFrame(b"", 0, 0, 0, 3),
    ]


@pytest.mark.parametrize("maker", MAKERS, ids=["little", "big"])
def test_reads_the_modified_format_with_its_longer_record_headers(tmp_path: Path, maker: Maker) -> None:
    extra = maker.pack("IHBB", 3, 0x0800, 0, 0)
    first, second = maker.pack("IIII", 5, 6, 20, 20), maker.pack("IIII", 7, 8, 0, 9)
    path = put(tmp_path, maker.pcap_header(0xA1B2CD34) + first + extra + frame(20) + second + extra)
    assert list(read_capture(path)) == [
        CapturedFrame(frame(20), 5_000_006_000, 20, 0, 1),
        CapturedFrame(b"", 7_000_008_000, 9, 0, 2),
    ]


def test_frames_of_the_greatest_length_pass_next_to_each_other(tmp_path: Path) -> None:
    sizes = [262144, 262144, 80_000, 1, 262144, 262143, 262144]
    wanted = [bytes([number]) * size for number, size in enumerate(sizes)]
    path = put(tmp_path, LITTLE.pcap_header() + b"".join(LITTLE.pcap_record(data) for data in wanted))
    assert [each.data for each in read_capture(path)] == wanted


def test_many_frames_come_in_several_batches_in_order(tmp_path: Path) -> None:
    records = b"".join(LITTLE.pcap_record(number.to_bytes(4, "big"), number) for number in range(100_000))
    path = put(tmp_path, LITTLE.pcap_header() + records)
    seen, batches = 0, 0
    with open_capture(path) as reader:
        while (batch := reader.read_batch()) is not None:
            for each in batch.frames():
                assert each == (seen.to_bytes(4, "big"), seen * 1_000_000_000, 4, 0, seen + 1)
                seen += 1
            batches += 1
        assert reader.read_batch() is None
        assert reader.progress() == (path.stat().st_size, path.stat().st_size)
    assert seen == 100_000
    assert batches > 10


def test_a_file_without_frames_is_no_fault(tmp_path: Path) -> None:
    assert list(read_capture(put(tmp_path, LITTLE.pcap_header()))) == []


def test_describes_its_one_interface(tmp_path: Path) -> None:
    with open_capture(put(tmp_path, BIG.pcap_header(0xA1B23C4D))) as reader:
        (interface,) = reader.interfaces
    assert (interface.link_type, interface.snaplen, interface.ticks_per_second) == (1, 262144, 1_000_000_000)


def test_a_frame_check_sequence_length_beside_the_link_type_is_ignored(tmp_path: Path) -> None:
    path = put(tmp_path, LITTLE.pcap_header(link_type=0x2400_0001) + LITTLE.pcap_record(frame(64)))
    assert [each.data for each in read_capture(path)] == [frame(64)]


@pytest.mark.parametrize("maker", MAKERS, ids=["little", "big"])
def test_another_link_type_is_named_with_what_is_accepted(tmp_path: Path, maker: Maker) -> None:
    path = put(tmp_path, maker.pcap_header(link_type=105) + maker.pcap_record(frame(20)))
    with pytest.raises(CaptureError, match=r"link type IEEE802_11 \(105\); accepted: ETHERNET \(1\)"):
        open_capture(path)
    with pytest.raises(CaptureError, match=r"accepted: ETHERNET \(1\), RAW \(101\)"):
        open_capture(path, frozenset({101, 1}))
    assert len(list(read_capture(path, frozenset({105})))) == 1
    assert len(list(read_capture(path, None))) == 1


def test_a_link_type_without_a_name_is_given_by_number(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="link type number 65000"):
        open_capture(put(tmp_path, LITTLE.pcap_header(link_type=65000)))


@pytest.mark.parametrize("version", [(1, 0), (2, 2), (3, 0), (543, 0)])
def test_versions_of_another_layout_are_refused(tmp_path: Path, version: tuple[int, int]) -> None:
    with pytest.raises(CaptureError, match=rf"pcap version {version[0]}\.{version[1]} "):
        open_capture(put(tmp_path, LITTLE.pcap_header(version=version)))


@pytest.mark.parametrize("maker", MAKERS, ids=["little", "big"])
def test_lengths_that_cannot_be_are_faults_behind_the_good_frames(tmp_path: Path, maker: Maker) -> None:
    good = maker.pcap_header() + maker.pcap_record(frame(60)) + maker.pcap_record(frame(61))
    for caplen, wire_len, words in [
        (262145, 262145, "frame 3 claims 262145 captured bytes; the limit is 262144"),
        (0xFFFFFFFF, 0xFFFFFFFF, "frame 3 claims 4294967295 captured bytes"),
        (60, 59, "frame 3 claims 60 captured bytes of a frame of 59"),
    ]:
        path = put(tmp_path, good + maker.pack("IIII", 0, 0, caplen, wire_len) + bytes(300_000))
        frames, error = read_until_fault(path)
        assert [each.data for each in frames] == [frame(60), frame(61)]
        assert words in error.cause
        assert error.offset == len(good)
        assert error.path == str(path)


@pytest.mark.parametrize("maker", MAKERS, ids=["little", "big"])
def test_a_file_cut_off_anywhere_gives_its_whole_frames_and_says_where_it_ends(tmp_path: Path, maker: Maker) -> None:
    sizes = [14, 0, 60, 33]
    whole = maker.pcap_header() + b"".join(maker.pcap_record(frame(size, n), n) for n, size in enumerate(sizes))
    starts = [24]
    for size in sizes:
        starts.append(starts[-1] + 16 + size)
    for cut in range(len(whole)):
        path = put(tmp_path, whole[:cut])
        if cut in starts:
            assert [len(each.data) for each in read_capture(path)] == sizes[: starts.index(cut)]
            continue
        frames, error = read_until_fault(path)
        before = [start for start in starts if start < cut]
        whole_frames = max(0, len(before) - 1)
        assert [each.data for each in frames] == [frame(size, n) for n, size in enumerate(sizes[:whole_frames])]
        if cut == 0:
            assert error.cause == "the file is empty"
        elif cut < 4:
            assert error.cause == f"not a capture file: it has only {cut} bytes"
        elif cut < 24:
            assert error.cause == f"the file ends inside its pcap header of 24 bytes; {cut} are there"
        elif cut - before[-1] < 16:
            number, there = len(before), cut - before[-1]
            assert error.cause == f"the file ends inside the header of frame {number}: {there} of 16 bytes there"
        else:
            number, there = len(before), cut - before[-1] - 16
            claim = f"the file ends inside frame {number}, which claims {sizes[number - 1]} bytes; {there} are there"
            assert error.cause == claim
        assert error.offset == (before[-1] if before else 0)


def test_the_fault_comes_again_when_asked_again(tmp_path: Path) -> None:
    path = put(tmp_path, LITTLE.pcap_header() + LITTLE.pcap_record(frame(60)) + b"\0")
    with open_capture(path) as reader:
        assert reader.read_batch() is not None
        for _ in range(2):
            with pytest.raises(CaptureError, match="1 of 16 bytes there"):
                reader.read_batch()


def test_packets_of_a_pcap_file_have_no_options(tmp_path: Path) -> None:
    path = put(tmp_path, BIG.pcap_header() + BIG.pcap_record(frame(60), 1, 2, wire_len=70))
    (record,) = read_packets(path)
    assert (record.data, record.tstamp, record.wire_len, record.id) == (frame(60), 1_000_002_000, 70, 1)
    assert (record.interface, record.comments, record.flags, record.others) == ("", [], None, [])
