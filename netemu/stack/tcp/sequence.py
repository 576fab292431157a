"""Sequence numbers: 32 bits on the wire (RFC 9293 section 3.4), 64-bit *positions* in a stream everywhere else.

A position counts on where its 32 bits wrap, so positions are compared, added and subtracted like any numbers. Only what
is written into a segment or read from one passes here.
"""

from __future__ import annotations

from netemu.jit import i64, kernel

SEQUENCES = 1 << 32
"""Sequence numbers there are."""


@kernel
def wire_sequence(position: i64) -> i64:
    """The sequence number that stands for a position in a segment."""
    return position & (SEQUENCES - 1)


@kernel
def unwrap(sequence: i64, near: i64) -> i64:
    """The position of a sequence number: of all that it may stand for, the one nearest to the position ``near``.

    Of two that are equally near it is the lower one.
    """
    ahead = (sequence - near) & (SEQUENCES - 1)
    return near + (ahead if ahead < SEQUENCES // 2 else ahead - SEQUENCES)
