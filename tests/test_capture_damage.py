"""Any bytes whatever: either frames or a CaptureError, and the frames in front of the damage unharmed."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netemu.capture import CapturedFrame, read_capture, read_packets
from netemu.errors import CaptureError
from tests.capture_bytes import BIG, LITTLE, Maker, frame, pad4

SIZES = [60, 0, 33, 1514, 7, 64]


def pcap(maker: Maker, magic: int) -> tuple[bytes, list[int]]:
    """A capture, and where each record ends (the file header's end first)."""
    parts = [maker.pcap_header(magic)]
    parts += [maker.pcap_record(frame(size, n), 1_700_000_000 + n, n, size + n) for n, size in enumerate(SIZES)]
    return join(parts)


def pcapng(maker: Maker) -> tuple[bytes, list[int]]:
    """A capture with all kinds of blocks, and where each packet's block ends (the first interface's end first)."""
    start = maker.shb([(4, b"test")]) + maker.idb(options=[(2, b"eth0"), (9, b"\x09")])
    between = maker.block(5, bytes(12)) + maker.idb(options=[(9, b"\xa0"), (14, maker.pack("q", 5))])
    parts = [
        start,
        maker.epb(frame(SIZES[0]), 1_700_000_000 * 10**9, options=[(1, b"comment"), (5, bytes(8))]),
        maker.spb(b""),
        between + maker.epb(frame(SIZES[2], 2), 1_700_000_000 << 32, interface=1),
        maker.pb(frame(SIZES[3], 3), 4),
        maker.block(10, bytes(40)) + maker.shb() + maker.idb() + maker.epb(frame(SIZES[4], 4), 5),
        maker.epb(frame(SIZES[5], 5), 6),
    ]
    return join(parts)


def join(parts: list[bytes]) -> tuple[bytes, list[int]]:
    return b"".join(parts), [sum(map(len, parts[: number + 1])) for number in range(len(parts))]


CAPTURES = [pcap(maker, magic) for maker in (LITTLE, BIG) for magic in (0xA1B2C3D4, 0xA1B23C4D)]
CAPTURES += [pcapng(maker) for maker in (LITTLE, BIG)]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damage") / "capture"


def read(path: Path, data: bytes) -> tuple[list[CapturedFrame], CaptureError | None]:
    path.write_bytes(data)
    frames: list[CapturedFrame] = []
    try:
        frames.extend(read_capture(path, None))
    except CaptureError as error:
        return frames, error
    return frames, None


def read_slowly(path: Path) -> tuple[list[CapturedFrame], CaptureError | None]:
    """The same by `read_packets`, which does not use the kernels."""
    frames: list[CapturedFrame] = []
    try:
        packets = read_packets(path, None)
        frames.extend(CapturedFrame(each.data, each.tstamp, each.wire_len, 0, each.id) for each in packets)
    except CaptureError as error:
        return frames, error
    return frames, None


def check(path: Path, data: bytes) -> list[CapturedFrame]:
    """Read ``data`` both ways, which must agree but for damaged options, which only one of them looks at."""
    frames, error = read(path, data)
    if error is not None and data[:2] != b"\x1f\x8b":  # there, offsets count unpacked bytes
        assert error.offset is not None
        assert 0 <= error.offset <= len(data)
    slow, slow_error = read_slowly(path)
    assert slow == [each._replace(interface=0) for each in frames[: len(slow)]]
    if slow_error is None or "option" not in slow_error.cause:
        assert len(slow) == len(frames)
        assert str(slow_error) == str(error)
    return frames


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["set", "insert", "delete", "word", "cut"]),
        st.integers(0, 3000),
        st.integers(0, 255) | st.sampled_from([2**31, 2**32 - 1, 262_144, 262_145, 28, 32]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=400, deadline=None)
@given(which=st.sampled_from(CAPTURES), mutations=MUTATIONS)
def test_damage_never_harms_the_frames_in_front_of_it(
    scratch: Path, which: tuple[bytes, list[int]], mutations: list[tuple[str, int, int]]
) -> None:
    whole, ends = which
    wanted, error = read(scratch, whole)
    assert error is None
    assert [each.data for each in wanted] == [frame(size, n) for n, size in enumerate(SIZES)]
    data = bytearray(whole)
    first = len(whole)
    for what, at, value in mutations:
        at %= len(data) + 1
        first = min(first, at)
        if what == "set":
            data[at : at + 1] = bytes([value & 0xFF])
        elif what == "insert":
            data[at:at] = bytes([value & 0xFF]) * (1 + value % 5)
        elif what == "delete":
            del data[at : at + 1 + value % 5]
        elif what == "word":
            data[at : at + 4] = value.to_bytes(4, "little" if at % 2 else "big")
        else:
            del data[at:]
    frames = check(scratch, bytes(data))
    unharmed = sum(end <= first for end in ends[1:])
    assert frames[:unharmed] == wanted[:unharmed]


@settings(max_examples=150, deadline=None)
@given(which=st.sampled_from(CAPTURES), at=st.integers(0, 10_000), value=st.integers(1, 255))
def test_damaged_gzip_never_harms_the_frames_in_front_of_it(
    scratch: Path, which: tuple[bytes, list[int]], at: int, value: int
) -> None:
    whole, _ = which
    wanted, _ = read(scratch, whole)
    packed = bytearray(gzip.compress(whole, mtime=0))
    packed[at % len(packed)] ^= value
    frames = check(scratch, bytes(packed))
    if at % len(packed) >= len(packed) - 8:  # the check sum and length at the end: all the data is in front
        assert frames == wanted


@settings(max_examples=150, deadline=None)
@given(
    start=st.sampled_from([b"", b"\x1f\x8b\x08", LITTLE.pcap_header(), BIG.pcap_header(), BIG.shb(), LITTLE.shb()])
    | st.sampled_from([LITTLE.shb() + LITTLE.idb(), BIG.shb() + BIG.idb()]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_are_frames_or_a_capture_error(scratch: Path, start: bytes, rest: bytes) -> None:
    check(scratch, start + rest)


KINDS = st.sampled_from([1, 2, 3, 5, 6, 0x0A0D0D0A, 99])
BODIES = st.binary(max_size=40).map(pad4)
BLOCKS = st.lists(st.tuples(KINDS, BODIES), max_size=6)


@settings(max_examples=300, deadline=None)
@given(maker=st.sampled_from([LITTLE, BIG]), blocks=BLOCKS)
def test_blocks_that_are_framed_well_may_hold_anything(
    scratch: Path, maker: Maker, blocks: list[tuple[int, bytes]]
) -> None:
    data = maker.shb() + maker.idb() + maker.epb(frame(60)) + b"".join(maker.block(*block) for block in blocks)
    assert check(scratch, data)[0].data == frame(60)
