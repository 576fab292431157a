"""TCP options: those of a segment as numbers (RFC 9293 section 3.2, RFC 7323, RFC 2018), and written into a header.

Theory of operation
-------------------
What came is not trusted: no option is read beyond the header's end. An option that is not known is passed over by its
length (MUST-6). One whose length cannot be (under 2, over the bytes that are left) ends the walk; what stood before it
is valid, as in Linux, and ``malformed`` says so (MUST-7 asks only that such a length does no harm). A known option of a
wrong length is passed over like an unknown one. MSS, window scale and SACK-permitted count in a SYN alone.

What is written has the layout that Linux gives it, padded with no-operations so that timestamps and SACK blocks lie on
32-bit borders.
"""

from __future__ import annotations

from netemu.jit import (
    Struct,
    array_of,
    i64,
    kernel,
    load8,
    load16be,
    load32be,
    pointer,
    store8,
    store16be,
    store32be,
    struct,
)
from netemu.stack.tcp.sequence import unwrap, wire_sequence

_END = 0
_NOP = 1
_MSS = 2
_WINDOW_SCALE = 3
_SACK_PERMITTED = 4
_SACK = 5
_TIMESTAMPS = 8

_MSS_LEN = 4
_WINDOW_SCALE_LEN = 3
_SACK_PERMITTED_LEN = 2
_TIMESTAMPS_LEN = 10
_BLOCK_LEN = 8

_PADDED_TIMESTAMPS = 0x0101080A
_PADDED_TIMESTAMPS_LEN = 12
_PADDED_SACK_LEN = 4
_SACK_AND_TIMESTAMPS = 0x0402080A
_PADDED_SACK_PERMITTED = 0x01010402

NO_WINDOW_SCALE = -1
WINDOW_SCALE_MAX = 14
"""A larger shift counts as this one (RFC 7323 section 2.3)."""
OPTIONS_MAX = 40
"""Bytes of options that a header has room for."""
SACK_BLOCKS_MAX = 4
"""Blocks that fit into one segment; with timestamps it is one less."""


@struct
class SackBlock(Struct):
    """Bytes that arrived out of order: from ``left``, up to and without ``right``."""

    left: i64
    right: i64


@struct
class Options(Struct):
    """What a segment's options say."""

    mss: i64
    """Bytes; 0: not said."""
    window_scale: i64
    """Shift count, at most WINDOW_SCALE_MAX; NO_WINDOW_SCALE: not said."""
    sack_permitted: i64
    timestamps: i64
    """1: the next two are there."""
    ts_val: i64
    ts_ecr: i64
    sack_count: i64
    """Blocks at ``sacks``."""
    sacks: i64
    """Address of SACK_BLOCKS_MAX `SackBlock` structs: sequence numbers, and positions after `unwrap_sacks`."""
    malformed: i64
    """1: the walk ended at an option whose length cannot be."""


options_at = pointer(Options)
sack_block_at = pointer(SackBlock)
SACK_BLOCK_SIZE = SackBlock.dtype.itemsize


@kernel
def _take_sacks(options: Options, at: i64, size: i64) -> None:
    """Take the blocks in ``size`` bytes at ``at``."""
    block = options.sacks
    for _ in range(size // _BLOCK_LEN):
        one = sack_block_at(block)
        one.left = load32be(at)
        one.right = load32be(at + 4)
        at += _BLOCK_LEN
        block += SACK_BLOCK_SIZE
    options.sack_count = size // _BLOCK_LEN


@kernel
def _take_option(options: Options, kind: i64, at: i64, length: i64, syn: i64) -> None:
    """Take one option, of ``length`` bytes with its first two; those that are not known change nothing."""
    if kind == _TIMESTAMPS and length == _TIMESTAMPS_LEN:
        options.timestamps = 1
        options.ts_val = load32be(at + 2)
        options.ts_ecr = load32be(at + 6)
    elif kind == _SACK and length > 2 and (length - 2) % _BLOCK_LEN == 0 and syn == 0:
        _take_sacks(options, at + 2, min(length - 2, SACK_BLOCKS_MAX * _BLOCK_LEN))
    elif syn == 0:
        return
    elif kind == _MSS and length == _MSS_LEN:
        options.mss = load16be(at + 2)
    elif kind == _WINDOW_SCALE and length == _WINDOW_SCALE_LEN:
        options.window_scale = min(load8(at + 2), WINDOW_SCALE_MAX)
    elif kind == _SACK_PERMITTED and length == _SACK_PERMITTED_LEN:
        options.sack_permitted = 1


@kernel
def parse_options(options: Options, at: i64, size: i64, syn: i64) -> None:
    """Read the ``size`` bytes of options at host address ``at``, of a segment with or without SYN."""
    options.mss = 0
    options.window_scale = NO_WINDOW_SCALE
    options.sack_permitted = 0
    options.timestamps = 0
    options.sack_count = 0
    options.malformed = 0
    end = at + size
    if size == _PADDED_TIMESTAMPS_LEN and load32be(at) == _PADDED_TIMESTAMPS:  # nearly every segment
        options.timestamps = 1
        options.ts_val = load32be(at + 4)
        options.ts_ecr = load32be(at + 8)
        return
    while at < end:
        kind = load8(at)
        if kind == _END:
            return
        if kind == _NOP:
            at += 1
            continue
        length = load8(at + 1) if at + 1 < end else 0
        if length < 2 or length > end - at:
            options.malformed = 1
            return
        _take_option(options, kind, at, length, syn)
        at += length


@kernel
def unwrap_sacks(options: Options, near: i64) -> None:
    """Turn the blocks' sequence numbers into positions near ``near`` (SND.UNA)."""
    block = options.sacks
    for _ in range(options.sack_count):
        one = sack_block_at(block)
        one.left = unwrap(one.left, near)
        one.right = unwrap(one.right, near)
        block += SACK_BLOCK_SIZE


@kernel
def sack_blocks_that_fit(timestamps: i64) -> i64:
    """Blocks that a segment has room for, with or without timestamps."""
    return SACK_BLOCKS_MAX - 1 if timestamps != 0 else SACK_BLOCKS_MAX


@kernel
def options_len(timestamps: i64, sack_count: i64) -> i64:
    """Bytes that `write_options` writes."""
    size = _PADDED_TIMESTAMPS_LEN if timestamps != 0 else 0
    return size + _PADDED_SACK_LEN + sack_count * _BLOCK_LEN if sack_count > 0 else size


@kernel
def write_options(at: i64, timestamps: i64, ts_val: i64, ts_ecr: i64, sacks: i64, sack_count: i64) -> i64:
    """Write the options of a segment without SYN to host address ``at``; their bytes, a multiple of 4.

    ``sacks`` is the address of ``sack_count`` `SackBlock` structs of positions, at most `sack_blocks_that_fit`.
    """
    start = at
    if timestamps != 0:
        store32be(at, _PADDED_TIMESTAMPS)
        store32be(at + 4, ts_val)
        store32be(at + 8, ts_ecr)
        at += _PADDED_TIMESTAMPS_LEN
    if sack_count > 0:
        store16be(at, _NOP << 8 | _NOP)
        store8(at + 2, _SACK)
        store8(at + 3, 2 + sack_count * _BLOCK_LEN)
        at += _PADDED_SACK_LEN
        for n in range(sack_count):
            block = sack_block_at(sacks + n * SACK_BLOCK_SIZE)
            store32be(at, wire_sequence(block.left))
            store32be(at + 4, wire_sequence(block.right))
            at += _BLOCK_LEN
    return at - start


@kernel
def write_syn_options(
    at: i64, mss: i64, window_scale: i64, sack_permitted: i64, timestamps: i64, ts_val: i64, ts_ecr: i64
) -> i64:
    """Write the options of a SYN or SYN-ACK to host address ``at``; their bytes, a multiple of 4, at most 20.

    Left out are those that are 0, and a ``window_scale`` of NO_WINDOW_SCALE. In a SYN-ACK only what the SYN had may be
    there, which is the caller's business.
    """
    start = at
    if mss != 0:
        store8(at, _MSS)
        store8(at + 1, _MSS_LEN)
        store16be(at + 2, mss)
        at += _MSS_LEN
    if timestamps != 0:
        store32be(at, _SACK_AND_TIMESTAMPS if sack_permitted != 0 else _PADDED_TIMESTAMPS)
        store32be(at + 4, ts_val)
        store32be(at + 8, ts_ecr)
        at += _PADDED_TIMESTAMPS_LEN
    elif sack_permitted != 0:
        store32be(at, _PADDED_SACK_PERMITTED)
        at += 4
    if window_scale != NO_WINDOW_SCALE:
        store8(at, _NOP)
        store8(at + 1, _WINDOW_SCALE)
        store8(at + 2, _WINDOW_SCALE_LEN)
        store8(at + 3, window_scale)
        at += 4
    return at - start


class OptionsBuffer:
    """An `Options` together with the memory of its blocks, for Python."""

    def __init__(self) -> None:
        self.blocks = array_of(SackBlock, SACK_BLOCKS_MAX)
        self.struct = Options(sacks=self.blocks.address, window_scale=NO_WINDOW_SCALE)

    @property
    def address(self) -> int:
        """For a kernel."""
        return self.struct.address
