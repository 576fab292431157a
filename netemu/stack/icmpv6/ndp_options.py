"""Options of neighbour discovery (RFC 4861 section 4.6): found, and written."""

from __future__ import annotations

from netemu.jit import i64, kernel, load8, load16be, load32be, store8, store16be, store32be
from netemu.stack.ipv6.header import store64be

SOURCE_ADDRESS = 1
TARGET_ADDRESS = 2
PREFIX = 3
REDIRECTED = 4
MTU = 5
NONCE = 14
"""RFC 3971 section 5.3.2, as RFC 7527 uses it."""

UNIT = 8
"""Options are as long as a multiple of this."""
PREFIX_SIZE = 32
ON_LINK = 0x80
AUTONOMOUS = 0x40
"""Flags of a prefix."""

NO_ADDRESS = -1


@kernel
def options_good(at: i64, size: i64) -> i64:
    """1 if options fill the ``size`` bytes at ``at``, none of them of no length (RFC 4861 section 7.1)."""
    done = 0
    while done < size:
        if size - done < UNIT:
            return 0
        length = load8(at + done + 1) * UNIT
        if length == 0 or length > size - done:
            return 0
        done += length
    return 1


@kernel
def find_option(at: i64, size: i64, kind: i64, after: i64) -> i64:
    """Host address of the first option of a kind behind the one at ``after`` (0: of all), or 0.

    The options are good by `options_good`.
    """
    end = at + size
    while at < end:
        if load8(at) == kind and at > after:
            return at
        at += load8(at + 1) * UNIT
    return 0


@kernel
def load_mac(at: i64) -> i64:
    """A station address, as a number."""
    return load16be(at) << 32 | load32be(at + 2)


@kernel
def link_address(at: i64, size: i64, kind: i64) -> i64:
    """The station address in an option of a kind, or NO_ADDRESS: there is none, or it is not one of Ethernet."""
    option = find_option(at, size, kind, 0)
    if option == 0 or load8(option + 1) != 1:
        return NO_ADDRESS
    return load_mac(option + 2)


@kernel
def put_link_address(at: i64, kind: i64, mac: i64) -> i64:
    """Write an option with a station address; its bytes."""
    store8(at, kind)
    store8(at + 1, 1)
    store16be(at + 2, mac >> 32)
    store32be(at + 4, mac)
    return UNIT


@kernel
def put_nonce(at: i64, nonce: i64) -> i64:
    """Write a nonce of 48 bits; its bytes."""
    return put_link_address(at, NONCE, nonce)


@kernel
def put_mtu(at: i64, mtu: i64) -> i64:
    """Write a link's MTU; its bytes."""
    store8(at, MTU)
    store8(at + 1, 1)
    store16be(at + 2, 0)
    store32be(at + 4, mtu)
    return UNIT


@kernel
def put_prefix(at: i64, bits: i64, flags: i64, valid: i64, preferred: i64, hi: i64, lo: i64) -> i64:
    """Write a prefix with its lifetimes in seconds; its bytes."""
    store8(at, PREFIX)
    store8(at + 1, PREFIX_SIZE // UNIT)
    store8(at + 2, bits)
    store8(at + 3, flags)
    store32be(at + 4, valid)
    store32be(at + 8, preferred)
    store32be(at + 12, 0)
    store64be(at + 16, hi)
    store64be(at + 24, lo)
    return PREFIX_SIZE
