"""A frame's header, spoilt on purpose while the frame is not published."""

from __future__ import annotations

from netemu.device.chain import SEGMENT_SIZE, DeviceQueue, chain_at, device_queue_at, segment_at
from netemu.device.quirks import (
    CSUM_OFFSETS,
    GSO_SIZE_ZERO,
    GSO_UNASKED,
    GSO_UNKNOWN,
    HEADER_DIRTY,
    NUM_BUFFERS_FEWER,
    NUM_BUFFERS_MORE,
    NUM_BUFFERS_ZERO,
    TAG_MAX,
    DeviceQuirks,
    device_quirks_at,
    happens,
)
from netemu.jit import entry, i64, kernel, store8
from netemu.quirks import RULE_SIZE, quirk_fires, quirk_random, quirk_rule_at, quirk_rules_at
from netemu.virtio.net import (
    GSO_TCPV4,
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_HDR_LEN,
    HDR_NUM_BUFFERS,
    NEEDS_CSUM,
)


@kernel
def _header_byte(dq: DeviceQueue, offset: i64) -> i64:
    """Host address of a byte of the frame at hand, counted from its header's first; 0 where it does not reach."""
    for s in range(dq.segment_count):
        segment = segment_at(dq.segments + s * SEGMENT_SIZE)
        if segment.writable == 0:
            continue
        if offset < segment.length:
            return segment.address + offset
        offset -= segment.length
    return 0


@kernel
def _poke8(dq: DeviceQueue, offset: i64, value: i64) -> None:
    at = _header_byte(dq, offset)
    if at != 0:
        store8(at, value)


@kernel
def _poke16(dq: DeviceQueue, offset: i64, value: i64) -> None:
    _poke8(dq, offset, value)
    _poke8(dq, offset + 1, value >> 8)


@kernel
def _decide(q: DeviceQuirks, number: i64, now: i64) -> None:
    """Ask all rules about a frame."""
    rules = quirk_rules_at(q.rules)
    q.mask = 0
    q.decided = number
    for n in range(rules.count):
        rule = quirk_rule_at(rules.rules + n * RULE_SIZE)
        if quirk_fires(rule, number, now) != 0:
            q.mask |= 1 << rule.quirk
            q.random = quirk_random(rule)


@kernel
def _spoil_header(q: DeviceQuirks, dq: DeviceQueue) -> None:
    """Change fields of the header; its num_buffers only where it has one."""
    if q.hdr_len > HDR_NUM_BUFFERS:
        if happens(q, NUM_BUFFERS_ZERO):
            _poke16(dq, HDR_NUM_BUFFERS, 0)
        if happens(q, NUM_BUFFERS_MORE):
            _poke16(dq, HDR_NUM_BUFFERS, dq.taken + 1)
        if happens(q, NUM_BUFFERS_FEWER) and dq.taken > 1:
            _poke16(dq, HDR_NUM_BUFFERS, dq.taken - 1)
    if happens(q, HEADER_DIRTY):
        # All but the flags that have a meaning, the type and num_buffers.
        _poke8(dq, HDR_FLAGS, q.random & 0xF0)
        for offset in range(HDR_HDR_LEN, HDR_NUM_BUFFERS):
            _poke8(dq, offset, q.random >> offset)
        for offset in range(HDR_NUM_BUFFERS + 2, q.hdr_len):
            _poke8(dq, offset, q.random >> (offset & 15))
    if happens(q, CSUM_OFFSETS):
        _poke8(dq, HDR_FLAGS, NEEDS_CSUM)
        _poke16(dq, HDR_CSUM_START, 0xFFFF if q.random & 1 else 14)
        _poke16(dq, HDR_CSUM_OFFSET, 0xFFFE)
    if happens(q, GSO_UNKNOWN):
        _poke8(dq, HDR_GSO_TYPE, 2)
        _poke16(dq, HDR_GSO_SIZE, 1400)
    if happens(q, GSO_UNASKED) and q.unasked != 0:
        _poke8(dq, HDR_GSO_TYPE, q.unasked)
        _poke16(dq, HDR_GSO_SIZE, 1400)
    if happens(q, GSO_SIZE_ZERO):
        _poke8(dq, HDR_GSO_TYPE, GSO_TCPV4)
        _poke16(dq, HDR_GSO_SIZE, 0)


@entry
def spoil(address: i64, number: i64, now: i64, tags: i64, tag_size: i64) -> i64:
    """Frame ``number`` (from 1) lies in its buffers at time ``now`` (ns): decide what happens to it; 1 if anything.

    ``tags`` is the table of what travels beside the ring, ``tag_size`` bytes a slot; 0 where there is none.
    """
    q = device_quirks_at(address)
    q.tags = tags
    q.tag_size = min(tag_size, TAG_MAX)
    if q.decided != number:
        _decide(q, number, now)
    dq = device_queue_at(q.queue)
    if q.mask == 0:
        q.previous = chain_at(dq.chains).head
        return 0
    _spoil_header(q, dq)
    return 1
