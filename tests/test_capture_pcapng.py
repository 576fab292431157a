"""Reading pcapng: sections, interfaces, clocks, every packet block, every cut."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest

from netemu.capture import CapturedFrame, open_capture, read_capture, read_packets
from netemu.errors import CaptureError
from tests.capture_bytes import BIG, LITTLE, MAKERS, Maker, frame
from tests.test_capture_pcap import put, read_until_fault

BOTH = pytest.mark.parametrize("maker", MAKERS, ids=["little", "big"])


@BOTH
def test_reads_the_three_kinds_of_packet_blocks(tmp_path: Path, maker: Maker) -> None:
    path = put(
        tmp_path,
        maker.shb()
        + maker.idb(snaplen=40)
        + maker.epb(frame(33), 1_000_001, wire_len=60, options=[(1, b"a comment")])
        + maker.spb(frame(40), wire_len=61)
        + maker.spb(frame(39))
        + maker.pb(frame(21), 5, wire_len=99, drops=3)
        + maker.epb(b"", 2**33),
    )
    assert list(read_capture(path)) == [
        CapturedFrame(frame(33), 1_000_001_000, 60, 0, 1),
        CapturedFrame(frame(40), 0, 61, 0, 2),
        CapturedFrame(frame(39), 0, 39, 0, 3),
        CapturedFrame(frame(21), 5_000, 99, 0, 4),
        CapturedFrame(b"", 2**33 * 1000, 0, 0, 5),
    ]


@BOTH
def test_a_simple_packet_of_an_interface_without_snaplen_is_whole(tmp_path: Path, maker: Maker) -> None:
    path = put(tmp_path, maker.shb() + maker.idb(snaplen=0) + maker.spb(frame(1501)))
    assert list(read_capture(path)) == [CapturedFrame(frame(1501), 0, 1501, 0, 1)]


DECIMAL = (0, 3, 6, 7, 9, 10, 12, 15, 18, 19, 40, 127)
BINARY = (0, 1, 10, 20, 32, 33, 41, 42, 63, 64, 127)
RESOLUTIONS = [*DECIMAL, *(0x80 | power for power in BINARY)]


@pytest.mark.parametrize("resolution", RESOLUTIONS)
@pytest.mark.parametrize("offset", [0, 1_600_000_000, -1_600_000_000, 2**63 - 1, -(2**63)])
def test_ticks_of_any_resolution_become_nanoseconds_rounded_down(tmp_path: Path, resolution: int, offset: int) -> None:
    unit = Fraction(1, (2 if resolution & 0x80 else 10) ** (resolution & 0x7F))
    now = int(Fraction(1_700_000_000_123_456_789, 10**9) / unit)
    ticks = [0, 1, 7, 999, 2**31, 2**32 + 1, 2**53 + 1, 2**62 + 3, 2**63 - 1, 2**63, 2**64 - 1]
    ticks += [near for near in (now - 1, now, now + 1) if 0 <= near < 2**64]
    for maker in MAKERS:
        options = [(9, bytes([resolution])), (14, maker.pack("q", offset))]
        packets = b"".join(maker.epb(b"x", each) for each in ticks)
        path = put(tmp_path, maker.shb() + maker.idb(options=options) + packets)
        exact = [math.floor((each * unit + offset) * 10**9) for each in ticks]
        wanted = [max(-(2**63), min(2**63 - 1, each)) for each in exact]
        assert [each.tstamp for each in read_capture(path)] == wanted
        assert [each.tstamp for each in read_packets(path)] == wanted


def test_each_interface_has_its_own_clock_and_frames_say_which_they_came_from(tmp_path: Path) -> None:
    interfaces = b"".join(LITTLE.idb(options=[(2, b"eth%d" % n), (9, bytes([n]))]) for n in range(10))
    packets = b"".join(LITTLE.epb(frame(n + 1), 3, interface=n) for n in range(10))
    path = put(tmp_path, LITTLE.shb() + interfaces + packets)
    assert [(each.interface, each.tstamp) for each in read_capture(path)] == [(n, 3 * 10 ** (9 - n)) for n in range(10)]
    assert [record.interface for record in read_packets(path)] == [f"eth{n}" for n in range(10)]


def test_a_new_section_has_its_own_byte_order_and_interfaces(tmp_path: Path) -> None:
    data = b""
    for maker, label in ((LITTLE, b"a"), (BIG, b"b"), (LITTLE, b"c")):
        data += maker.shb() + maker.idb(options=[(2, label + b"0")]) + maker.epb(frame(10), 1)
        data += maker.idb(options=[(2, label + b"1"), (3, b"second")]) + maker.epb(frame(11), 2, interface=1)
    path = put(tmp_path, data)
    with open_capture(path) as reader:
        frames = []
        while (batch := reader.read_batch()) is not None:
            frames += list(batch.frames())
        interfaces = reader.interfaces
    assert [(each.interface, each.id, each.tstamp, each.data) for each in frames] == [
        (n, n + 1, (1 + n % 2) * 1000, frame(10 + n % 2)) for n in range(6)
    ]
    assert [each.name for each in interfaces] == ["a0", "a1", "b0", "b1", "c0", "c1"]
    assert [each.description for each in interfaces] == ["", "second"] * 3


@BOTH
def test_what_is_not_a_packet_is_passed_over(tmp_path: Path, maker: Maker) -> None:
    others = {
        "name resolution": maker.block(4, maker.pack("HH", 1, 8) + bytes(8) + bytes(4)),
        "statistics": maker.block(5, maker.pack("III", 0, 0, 0)),
        "systemd journal": maker.block(9, b"MESSAGE="),
        "decryption secrets": maker.block(10, maker.pack("II", 0x544C534B, 4) + b"keys"),
        "custom": maker.block(0xBAD, maker.pack("I", 32473) + b"ours"),
        "custom, not copied": maker.block(0x40000BAD, maker.pack("I", 32473)),
        "local use": maker.block(0x80000001, b""),
        "never heard of": maker.block(0x7777, bytes(1000)),
    }
    data = maker.shb() + b"".join(others.values()) + maker.idb()
    for number, other in enumerate(others.values()):
        data += other + maker.epb(frame(number))
    path = put(tmp_path, data)
    assert [each.data for each in read_capture(path)] == [frame(number) for number in range(len(others))]
    assert [each.data for each in read_packets(path)] == [frame(number) for number in range(len(others))]


def test_an_unknown_block_larger_than_the_window_is_passed_over(tmp_path: Path) -> None:
    large = LITTLE.block(10, bytes(3_000_000))
    start = LITTLE.shb() + LITTLE.idb() + LITTLE.epb(frame(60))
    path = put(tmp_path, start + large + LITTLE.epb(frame(61)) + LITTLE.block(11, bytes((1 << 20) - 12)))
    assert [each.data for each in read_capture(path)] == [frame(60), frame(61)]
    frames, error = read_until_fault(put(tmp_path, start + large[:-1]))
    assert [each.data for each in frames] == [frame(60)]
    assert error.cause == "the file ends inside a block of type 0xa, which claims 3000012 bytes; 3000011 are there"
    assert error.offset == len(start)
    frames, error = read_until_fault(put(tmp_path, start + large[:-4] + bytes(4)))
    assert "two lengths differ: 3000012 in front, 0 behind" in error.cause


def test_a_frame_of_the_greatest_length_with_the_longest_comment_passes(tmp_path: Path) -> None:
    packet = LITTLE.epb(bytes(262144), options=[(1, b"x" * 65535)])
    path = put(tmp_path, LITTLE.shb() + LITTLE.idb() + packet * 9)
    assert [len(each.data) for each in read_capture(path)] == [262144] * 9
    assert {len(record.comments[0]) for record in read_packets(path)} == {65535}


@BOTH
def test_faults_come_behind_the_good_frames_with_their_place(tmp_path: Path, maker: Maker) -> None:
    good = maker.shb() + maker.idb(snaplen=100) + maker.epb(frame(60)) + maker.epb(frame(61))
    pack = maker.pack
    for fault, words in [
        (maker.epb(b"", caplen=262145), "frame 3 claims 262145 captured bytes; the limit is 262144"),
        (maker.epb(frame(8), wire_len=7), "frame 3 claims 8 captured bytes of a frame of 7"),
        (maker.epb(frame(8), caplen=9), "frame 3 claims 9 captured bytes, but its block has room for 8"),
        (maker.spb(frame(8), wire_len=200), "frame 3 claims 100 captured bytes, but its block has room for 8"),
        (maker.epb(frame(8), interface=1), "frame 3 names interface 1, but its section has declared 1 so far"),
        (maker.pb(frame(8), interface=0xFFFF), "frame 3 names interface 65535"),
        (maker.shb() + maker.spb(frame(8)), "frame 3 names interface 0, but its section has declared 0 so far"),
        (maker.epb(frame(8))[:-4] + pack("I", 44), "a block's two lengths differ: 40 in front, 44 behind"),
        (pack("II", 99, 16) + bytes(8), "a block's two lengths differ: 16 in front, 0 behind"),
        (pack("II", 99, 8) + bytes(8), "a block of type 0x63 claims an impossible length of 8 bytes"),
        (pack("II", 99, 13) + bytes(8), "a block of type 0x63 claims an impossible length of 13 bytes"),
        (pack("II", 6, 28) + bytes(24), "a block of type 0x6 claims an impossible length of 28 bytes"),
        (pack("II", 3, 12) + bytes(24), "a block of type 0x3 claims an impossible length of 12 bytes"),
        (pack("II", 1, 16) + bytes(24), "a block of type 0x1 claims an impossible length of 16 bytes"),
        (pack("II", 6, 1 << 30) + bytes(24), "a block of type 0x6 claims 1073741824 bytes"),
        (pack("II", 0x0A0D0D0A, 28) + bytes(20), "a section header has no byte-order magic but 00 00 00 00"),
        (pack("III", 0x0A0D0D0A, 24, 0x1A2B3C4D) + bytes(20), "a section header claims an impossible length of 24"),
        (maker.shb(version=(2, 0)), "pcapng version 2.0"),
        (maker.shb()[:-4] + bytes(4), "a block's two lengths differ: 28 in front, 0 behind"),
        (maker.block(1, pack("HHI", 1, 0, 0) + pack("HH", 2, 9) + bytes(8)), "option 2 claims 9 bytes; 8 are left"),
    ]:
        frames, error = read_until_fault(put(tmp_path, good + fault))
        assert [each.data for each in frames] == [frame(60), frame(61)]
        assert words in error.cause
        assert error.offset == len(good) + (28 if "declared 0" in words else 0)


@BOTH
def test_a_file_cut_off_anywhere_gives_its_whole_frames_and_says_where_it_ends(tmp_path: Path, maker: Maker) -> None:
    packets = {1: maker.epb(frame(14), options=[(2, bytes(4))]), 2: maker.spb(frame(5)), 3: maker.pb(frame(0))}
    blocks = [maker.shb([(4, b"test")]), maker.idb(options=[(9, b"\x09")]), packets[1], maker.block(5, bytes(12))]
    blocks += [packets[2], packets[3]]
    starts = [sum(map(len, blocks[:number])) for number in range(len(blocks) + 1)]
    whole = b"".join(blocks)
    for cut in range(4, len(whole)):
        wanted = sum(1 for number in packets if starts[blocks.index(packets[number])] + len(packets[number]) <= cut)
        path = put(tmp_path, whole[:cut])
        if cut in starts:
            assert len(list(read_capture(path))) == wanted
            continue
        frames, error = read_until_fault(path)
        assert [len(each.data) for each in frames] == [14, 5, 0][:wanted]
        start = max(each for each in starts if each < cut)
        assert error.offset == start
        there = cut - start
        if there < 12:
            assert error.cause == f"the file ends inside a block: {there} of at least 12 bytes are there"
        elif start == 0 and there < 28:
            assert error.cause == f"the file ends inside a section header: {there} of 28 bytes are there"
        elif start == starts[2] and 28 <= there < 28 + 14:
            assert error.cause == f"the file ends inside frame 1, which claims 14 bytes; {there - 28} are there"
        elif start == starts[4] and there < 12 + 5:
            assert error.cause == f"the file ends inside frame 2, which claims 5 bytes; {there - 12} are there"
        else:
            size = len(blocks[starts.index(start)])
            assert error.cause.startswith("the file ends inside ")
            assert error.cause.endswith(f", which claims {size} bytes; {there} are there")


@BOTH
def test_an_interface_of_another_link_type_is_a_fault_once_frames_come_from_it(tmp_path: Path, maker: Maker) -> None:
    start = maker.shb() + maker.idb() + maker.idb(link_type=220, options=[(2, b"usbmon0")]) + maker.epb(frame(60))
    assert len(list(read_capture(put(tmp_path, start)))) == 1
    path = put(tmp_path, start + maker.epb(frame(20), interface=1))
    frames, error = read_until_fault(path)
    assert len(frames) == 1
    assert error.cause == (
        "interface 1 ('usbmon0') of frame 2 has link type USB_LINUX_MMAPPED (220); accepted: ETHERNET (1)"
    )
    assert error.offset == len(start)
    assert len(list(read_capture(path, None))) == 2


@BOTH
def test_packets_come_with_their_options(tmp_path: Path, maker: Maker) -> None:
    pack = maker.pack
    options = [
        (1, "erste Bemerkung: ä".encode()),
        (2, pack("I", 0x00000E01)),
        (3, b"\x05" + b"\x12\x34\x56\x78"),
        (4, pack("Q", 2**40)),
        (5, pack("Q", 2**63 + 1)),
        (6, pack("I", 7)),
        (7, b"\x02" + pack("Q", 1)),
        (7, b"\x01" + pack("Q", 2)),
        (1, b"second, not UTF-8: \xff"),
        (2988, pack("I", 32473) + b"ours"),
        (6, b"\x01"),
    ]
    data = maker.shb() + maker.idb(options=[(2, b"tap0")]) + maker.epb(frame(13), 1, wire_len=20, options=options)
    first, second, third = read_packets(put(tmp_path, data + maker.pb(b"", drops=9) + maker.pb(b"")))
    assert (first.data, first.wire_len, first.tstamp, first.id, first.interface) == (frame(13), 20, 1000, 1, "tap0")
    assert first.comments == ["erste Bemerkung: ä", "second, not UTF-8: \\xff"]
    assert (first.flags, first.drop_count, first.packet_id, first.queue) == (0xE01, 2**40, 2**63 + 1, 7)
    assert first.hashes == [(5, b"\x12\x34\x56\x78")]
    assert first.verdicts == [(2, pack("Q", 1)), (1, pack("Q", 2))]
    assert first.others == [(2988, pack("I", 32473) + b"ours"), (6, b"\x01")]
    assert (second.drop_count, third.drop_count) == (9, None)


def test_damaged_options_are_a_fault_only_for_those_who_want_options(tmp_path: Path) -> None:
    body = LITTLE.pack("IIIII", 0, 0, 0, 4, 4) + b"data" + LITTLE.pack("HH", 1, 100) + bytes(4)
    start = LITTLE.shb() + LITTLE.idb()
    path = put(tmp_path, start + LITTLE.block(6, body))
    assert [each.data for each in read_capture(path)] == [b"data"]
    with pytest.raises(CaptureError) as caught:
        list(read_packets(path))
    assert caught.value.cause == "frame 1: option 1 claims 100 bytes; 4 are left in its block"
    assert caught.value.offset == len(start)
