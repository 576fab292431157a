"""Sums of pseudo-headers and headers, as `netemu.checksum` keeps them: little-endian, unfolded until the end."""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial
from netemu.jit import i64, kernel, load8, load16, load32, load64, store8, store16, store32, store64
from netemu.offload.dissect import Layers

CHECK_AT_TCP = 16
CHECK_AT_UDP = 6


@kernel
def network_order(value: i64) -> i64:
    """What a 16-bit big-endian field with this value adds to a sum."""
    return ((value & 0xFF) << 8) | ((value >> 8) & 0xFF)


@kernel
def pseudo_sum(frame: i64, network: i64, version: i64, protocol: i64) -> i64:
    """The pseudo-header of TCP or UDP but its length (RFC 9293, RFC 768, RFC 8200): addresses and protocol."""
    if version == 4:
        return csum_partial(frame + network + 12, 8, network_order(protocol))
    return csum_partial(frame + network + 8, 32, network_order(protocol))


@kernel
def length_sum(size: i64) -> i64:
    """What a length, of up to 32 bits, adds to a pseudo-header."""
    return network_order(size & 0xFFFF) + network_order(size >> 16)


@kernel
def check_at(protocol: i64) -> i64:
    """Where the checksum stands in a TCP (6) or UDP (17) header."""
    return CHECK_AT_TCP if protocol == 6 else CHECK_AT_UDP


@kernel
def complement(total: i64) -> i64:
    """The checksum that goes with a sum."""
    return csum_fold(total) ^ 0xFFFF


@kernel
def not_zero(checksum: i64) -> i64:
    """The checksum, or what means the same to whoever adds up and is not UDP's "no checksum" (RFC 768)."""
    return checksum if checksum != 0 else 0xFFFF


@kernel
def packet_pseudo_sum(frame: i64, d: Layers) -> i64:
    """The whole pseudo-header of the packet that ``d`` describes."""
    return pseudo_sum(frame, d.network, d.version, d.protocol) + length_sum(d.end - d.transport)


@kernel
def set_ipv4_length(frame: i64, network: i64, header: i64, total: i64) -> None:
    """Write the total length and the header checksum of an IPv4 header of ``header`` bytes."""
    store16(frame + network + 2, network_order(total))
    store16(frame + network + 10, 0)
    store16(frame + network + 10, complement(csum_partial(frame + network, header, 0)))


@kernel
def copy_and_sum(target: i64, source: i64, size: i64, total: i64) -> i64:
    """Copy ``size`` bytes and add them to a sum as `csum_partial` does, reading them once."""
    end = source + (size & ~15)
    high = 0
    while source < end:
        first = load64(source)
        second = load64(source + 8)
        store64(target, first)
        store64(target + 8, second)
        total += (first & 0xFFFFFFFF) + (second & 0xFFFFFFFF)
        high += ((first >> 32) & 0xFFFFFFFF) + ((second >> 32) & 0xFFFFFFFF)
        source += 16
        target += 16
    total += high
    if size & 8:
        first = load64(source)
        store64(target, first)
        total += (first & 0xFFFFFFFF) + ((first >> 32) & 0xFFFFFFFF)
        source += 8
        target += 8
    if size & 4:
        first = load32(source)
        store32(target, first)
        total += first
        source += 4
        target += 4
    if size & 2:
        first = load16(source)
        store16(target, first)
        total += first
        source += 2
        target += 2
    if size & 1:
        first = load8(source)
        store8(target, first)
        total += first
    return total
