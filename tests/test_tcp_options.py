"""Sequence numbers and options, by hand and against scapy."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from netemu.jit import allocate, array_of
from netemu.stack.tcp.options import (
    NO_WINDOW_SCALE,
    OPTIONS_MAX,
    SACK_BLOCKS_MAX,
    Options,
    OptionsBuffer,
    SackBlock,
    options_len,
    parse_options,
    sack_blocks_that_fit,
    unwrap_sacks,
    write_options,
    write_syn_options,
)
from netemu.stack.tcp.sequence import unwrap, wire_sequence


def parsed(data: bytes, syn: int = 0) -> tuple[Options, list[tuple[int, int]]]:
    """The options in ``data``, which lies in memory of exactly its size."""
    memory = allocate(len(data), align=1)
    memory.array[:] = bytearray(data)
    options = OptionsBuffer()
    options.struct.mss = options.struct.sack_count = options.struct.malformed = 99
    parse_options(options.struct, memory.address, len(data), syn)
    blocks = [(block.left, block.right) for block in options.blocks[: options.struct.sack_count]]
    return options.struct, blocks


def written(timestamps: tuple[int, int] | None = None, sacks: tuple[tuple[int, int], ...] = ()) -> bytes:
    memory = allocate(OPTIONS_MAX, align=1)
    blocks = array_of(SackBlock, SACK_BLOCKS_MAX)
    for block, (left, right) in zip(blocks, sacks, strict=False):
        block.left, block.right = left, right
    val, ecr = timestamps or (0, 0)
    there = int(timestamps is not None)
    size = write_options(memory.address, there, val, ecr, blocks.address, len(sacks))
    assert size == options_len(there, len(sacks))
    return memory.array[:size].tobytes()


def written_syn(mss: int, scale: int, sack: int, timestamps: int, val: int = 0, ecr: int = 0) -> bytes:
    memory = allocate(OPTIONS_MAX, align=1)
    size = write_syn_options(memory.address, mss, scale, sack, timestamps, val, ecr)
    return memory.array[:size].tobytes()


def as_scapy_reads(options: bytes, flags: str = "A") -> list[Any]:
    header = bytearray(bytes(TCP(flags=flags)))
    header[12] = (5 + len(options) // 4) << 4
    return [option for option in TCP(bytes(header) + options).options if option[0] != "NOP"]


# Sequence numbers, RFC 9293 section 3.4.


@pytest.mark.parametrize(
    ("sequence", "near", "position"),
    [
        (5, 3, 5),
        (0, 0xFFFFFFFF, 0x1_00000000),
        (0xFFFFFFFF, 0x1_00000000, 0xFFFFFFFF),
        (0x10, 0x7_FFFFFFF0, 0x8_00000010),
        (0xFFFFFFF0, 0x8_00000010, 0x7_FFFFFFF0),
        (0x7FFFFFFF, 0, 0x7FFFFFFF),
        (0x80000000, 0, -0x80000000),
        (0xFFFFFFFF, 0, -1),
    ],
)
def test_a_sequence_number_stands_for_the_nearest_position(sequence: int, near: int, position: int) -> None:
    assert unwrap(sequence, near) == position
    assert wire_sequence(position) == sequence


@given(st.integers(0, 1 << 50), st.integers(-(1 << 31), (1 << 31) - 1))
def test_a_position_comes_back_from_the_wire(near: int, ahead: int) -> None:
    assert unwrap(wire_sequence(near + ahead), near) == near + ahead


# Reading.


def test_the_options_of_a_linux_syn() -> None:
    """mss 1460, SACK permitted, timestamps 0x11223344 and 0, no-operation, window scale 7."""
    options, _ = parsed(bytes.fromhex("020405b4 0402 080a 11223344 00000000 01 030307"), syn=1)
    assert options.to_dict() | {"sacks": 0} == {
        "mss": 1460,
        "window_scale": 7,
        "sack_permitted": 1,
        "timestamps": 1,
        "ts_val": 0x11223344,
        "ts_ecr": 0,
        "sack_count": 0,
        "sacks": 0,
        "malformed": 0,
    }


def test_options_of_a_syn_count_in_no_other_segment() -> None:
    """RFC 9293 section 3.2 (MSS), RFC 7323 section 2.2 (window scale), RFC 2018 section 2 (SACK-permitted)."""
    options, _ = parsed(bytes.fromhex("020405b4 0402 0101 01 030307"))
    assert (options.mss, options.window_scale, options.sack_permitted) == (0, NO_WINDOW_SCALE, 0)
    assert options.malformed == 0


@pytest.mark.parametrize("scale", [14, 15, 255])
def test_a_window_scale_over_14_counts_as_14(scale: int) -> None:
    """RFC 7323 section 2.3."""
    assert parsed(bytes([3, 3, scale, 0]), syn=1)[0].window_scale == 14


def test_timestamps_are_read_alike_in_any_place() -> None:
    """RFC 9293 MUST-64: options may begin anywhere. The first layout is the one that RFC 7323 appendix A recommends."""
    for text in ("0101 080a 80000001 ffffffff", "080a 80000001 ffffffff 0000", "01 080a 80000001 ffffffff 01"):
        options, _ = parsed(bytes.fromhex(text))
        assert (options.timestamps, options.ts_val, options.ts_ecr) == (1, 0x80000001, 0xFFFFFFFF)


def test_sack_blocks_are_read_in_order_and_become_positions() -> None:
    text = "0101 0512 fffffff0 00000010 00000020 00000030"
    assert parsed(bytes.fromhex(text))[1] == [(0xFFFFFFF0, 0x10), (0x20, 0x30)]
    options = OptionsBuffer()
    memory = allocate(20)
    memory.array[:] = bytearray(bytes.fromhex(text))
    parse_options(options.struct, memory.address, 20, 0)
    unwrap_sacks(options.struct, 0x3_00000000)
    assert [(block.left, block.right) for block in options.blocks[:2]] == [
        (0x2_FFFFFFF0, 0x3_00000010),
        (0x3_00000020, 0x3_00000030),
    ]


def test_four_sack_blocks_fit_and_a_length_in_between_is_no_sack() -> None:
    blocks = [(n * 100, n * 100 + 50) for n in range(1, 5)]
    body = b"".join(left.to_bytes(4, "big") + right.to_bytes(4, "big") for left, right in blocks)
    assert parsed(bytes([1, 1, 5, 34]) + body)[1] == blocks
    assert parsed(bytes([5, 6, 0, 0, 0, 1]))[1] == []
    assert parsed(bytes([5, 2]))[1] == []


def test_an_unknown_option_is_passed_over_by_its_length() -> None:
    """RFC 9293 MUST-6: here a fast-open cookie and an experiment."""
    options, _ = parsed(bytes.fromhex("22 06 01020304 fd04f989 020405b4"), syn=1)
    assert options.mss == 1460


def test_nothing_counts_behind_the_end_of_the_list() -> None:
    options, _ = parsed(bytes.fromhex("00 020405b4 000000"), syn=1)
    assert (options.mss, options.malformed) == (0, 0)


@pytest.mark.parametrize("tail", ["03", "0301", "0300", "08 0a 0000", "fe ff", "05 12 00000001 00000002"], ids=str)
def test_an_option_of_an_impossible_length_ends_the_list(tail: str) -> None:
    """RFC 9293 MUST-7: a length of 0 or 1, or one over the end; what stood before it holds."""
    options, blocks = parsed(bytes.fromhex("020405b4" + tail), syn=1)
    assert (options.mss, options.malformed) == (1460, 1)
    assert (options.timestamps, options.window_scale, blocks) == (0, NO_WINDOW_SCALE, [])


@pytest.mark.parametrize("text", ["0203 05", "0205 05b4 00", "0302", "0304 0707", "0403 00", "0809 00000000000000"])
def test_a_known_option_of_a_wrong_length_is_passed_over(text: str) -> None:
    options, _ = parsed(bytes.fromhex(text) + b"\x01\x01", syn=1)
    assert (options.mss, options.window_scale, options.sack_permitted, options.timestamps) == (0, -1, 0, 0)
    assert options.malformed == 0


@given(st.binary(max_size=OPTIONS_MAX), st.integers(0, 1))
@settings(max_examples=500, deadline=None)
def test_no_bytes_make_the_reader_leave_them(data: bytes, syn: int) -> None:
    """A byte too far would be a WildAccessError: each lies in memory of its own."""
    options, blocks = parsed(data, syn)
    assert len(blocks) <= SACK_BLOCKS_MAX
    assert -1 <= options.window_scale <= 14


# Writing.


def test_a_syn_looks_as_from_linux() -> None:
    assert written_syn(1460, 7, 1, 1, 0x11223344) == bytes.fromhex("020405b4 0402080a 11223344 00000000 01030307")
    assert written_syn(1440, 10, 1, 0) == bytes.fromhex("020405a0 01010402 0103030a")
    assert written_syn(536, NO_WINDOW_SCALE, 0, 1, 1, 2) == bytes.fromhex("02040218 0101080a 00000001 00000002")
    assert written_syn(0, NO_WINDOW_SCALE, 0, 0) == b""


@given(st.integers(0, 0xFFFF), st.integers(-1, 14), st.integers(0, 1), st.integers(0, 1), st.integers(0, (1 << 40) - 1))
@settings(max_examples=60, deadline=None)
def test_scapy_reads_the_same_from_a_syn(mss: int, scale: int, sack: int, timestamps: int, val: int) -> None:
    data = written_syn(mss, scale, sack, timestamps, val, 7)
    assert len(data) % 4 == 0
    expected: dict[str, Any] = {"MSS": mss} if mss else {}
    if scale >= 0:
        expected["WScale"] = scale
    if sack:
        expected["SAckOK"] = b""
    if timestamps:
        expected["Timestamp"] = (val & 0xFFFFFFFF, 7)
    assert dict(as_scapy_reads(data, "S")) == expected


@given(
    st.none() | st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)),
    st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 40)), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_scapy_reads_the_same_from_any_segment(
    timestamps: tuple[int, int] | None, sacks: list[tuple[int, int]]
) -> None:
    sacks = sacks[: sack_blocks_that_fit(int(timestamps is not None))]
    data = written(timestamps, tuple(sacks))
    assert len(data) % 4 == 0
    assert len(data) <= OPTIONS_MAX
    expected: list[Any] = [("Timestamp", timestamps)] if timestamps is not None else []
    if sacks:
        expected.append(("SAck", tuple(edge & 0xFFFFFFFF for pair in sacks for edge in pair)))
    assert as_scapy_reads(data) == expected


def test_timestamps_and_three_blocks_fill_the_header() -> None:
    assert (sack_blocks_that_fit(1), sack_blocks_that_fit(0)) == (3, 4)
    assert options_len(1, 3) == OPTIONS_MAX
    assert options_len(0, 4) == 36
