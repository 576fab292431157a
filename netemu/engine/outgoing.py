"""From the guest's stack to its driver: what the device does not take is made into what it takes, or dropped."""

from __future__ import annotations

from netemu.driver.netdev import XMIT_LINEARIZE, XMIT_OK, XMIT_SEGMENT, XMIT_TOO_LONG, validate_xmit_skb
from netemu.driver.outgoing import FRAME_ROOM, build_outgoing, skb_linearize
from netemu.driver.qdisc import dev_queue_xmit
from netemu.driver.sock import skb_orphan
from netemu.driver.virtnet import SendQueue, vi_at
from netemu.engine.state import Engine
from netemu.frame import FRAME_SIZE, frame_at
from netemu.jit import call1, i64, kernel, load64, memset, store8, store16, store64
from netemu.offload.batch import DONE, batch_at
from netemu.offload.finish import finish_job_at
from netemu.reasons import TX_INVALID, TX_NO_MEMORY, TX_REFUSED, TX_STOPPED, TX_TOO_LONG
from netemu.skb import CHECKSUM_PARTIAL, GSO_TUNNEL_CSUM, Skb, kfree_skb, skb_at, skb_copy_bits
from netemu.virtio.net import (
    HDR_CSUM_OFFSET,
    HDR_CSUM_START,
    HDR_FLAGS,
    HDR_GSO_SIZE,
    HDR_GSO_TYPE,
    HDR_INNER_NH_OFFSET,
    HDR_LEN_MAX,
    HDR_OUTER_TH_OFFSET,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)

SEGMENTS_MAX = 65536
"""Frames that one is cut into, at most: a packet of the largest size in pieces of one byte."""


@kernel
def book_drop(e: Engine, reason: i64) -> None:
    """Count a frame that did not leave the guest, or its device."""
    at = e.device_drops + reason * 8
    store64(at, load64(at) + 1)


@kernel
def _drop_skb(e: Engine, address: i64, reason: i64) -> None:
    skb_orphan(skb_at(address))
    kfree_skb(address)
    book_drop(e, reason)


@kernel
def _queue(e: Engine, sq: SendQueue, address: i64, xmit_more: i64) -> None:
    """dev_queue_xmit, with whatever is dropped on the way booked."""
    refused = sq.tx_dropped
    if dev_queue_xmit(sq, address, xmit_more) == 0:
        book_drop(e, TX_STOPPED)
    elif sq.tx_dropped != refused:
        book_drop(e, TX_REFUSED)
    e.unkicked = e.unkicked + 1 if xmit_more else 0
    e.turn_due = 1


@kernel
def _describe(skb: Skb, hdr: i64) -> None:
    """Write what an skb leaves undone as a virtio header of full length, whatever was negotiated."""
    memset(hdr, 0, HDR_LEN_MAX)
    if skb.ip_summed != CHECKSUM_PARTIAL:
        return
    store8(hdr + HDR_FLAGS, NEEDS_CSUM | (UDP_TUNNEL_CSUM if skb.gso_type & GSO_TUNNEL_CSUM else 0))
    store8(hdr + HDR_GSO_TYPE, skb.gso_type)
    store16(hdr + HDR_GSO_SIZE, skb.gso_size)
    store16(hdr + HDR_CSUM_START, skb.csum_start)
    store16(hdr + HDR_CSUM_OFFSET, skb.csum_offset)
    if skb.encapsulation != 0:
        store16(hdr + HDR_OUTER_TH_OFFSET, skb.transport_header)
        store16(hdr + HDR_INNER_NH_OFFSET, skb.inner_network_header)


@kernel
def _segment(e: Engine, sq: SendQueue, address: i64, xmit_more: i64) -> None:
    """skb_gso_segment: cut a frame in software, and send its segments; the skb is freed."""
    skb = skb_at(address)
    if e.finish == 0 or skb.len > FRAME_ROOM:
        _drop_skb(e, address, TX_TOO_LONG)
        return
    frame = frame_at(e.segment_frame)
    frame.address = sq.scratch
    frame.len = skb.len
    frame.wire_len = skb.wire_len
    frame.tstamp = skb.tstamp
    frame.id = skb.frame_id
    frame.vnet = e.segment_frame + FRAME_SIZE
    _describe(skb, frame.vnet)
    skb_copy_bits(skb, 0, sq.scratch, skb.len)
    skb_orphan(skb)
    kfree_skb(address)
    batch = batch_at(finish_job_at(e.finish_job).batch)
    batch.frames = e.segment_frame
    batch.count = 1
    batch.next = 0
    made = 0
    while made < SEGMENTS_MAX:
        batch.made = 0
        batch.arena_used = 0
        done = call1(e.finish, e.finish_job)
        for n in range(batch.made):
            piece = frame_at(batch.out + n * FRAME_SIZE)
            last = done == DONE and n + 1 == batch.made
            part = build_outgoing(sq, piece.address, piece.len, piece.vnet)
            if part == 0:
                book_drop(e, TX_NO_MEMORY)
                continue
            segment = skb_at(part)
            segment.frame_id = frame.id
            segment.tstamp = frame.tstamp
            segment.wire_len = piece.wire_len
            if validate_xmit_skb(vi_at(e.vi), segment) == XMIT_OK:
                _queue(e, sq, part, xmit_more if last else 1)
            else:
                _drop_skb(e, part, TX_TOO_LONG)
        made += batch.made
        if made == 0:
            book_drop(e, TX_INVALID)
        if done == DONE:
            break


@kernel
def hand_down(e: Engine, sq: SendQueue, address: i64, xmit_more: i64) -> None:
    """Send an skb, which belongs to the queue or to nobody afterwards (__dev_queue_xmit, validate_xmit_skb)."""
    vi = vi_at(e.vi)
    verdict = validate_xmit_skb(vi, skb_at(address))
    if verdict == XMIT_LINEARIZE:
        address = skb_linearize(sq, address)
        if address == 0:
            book_drop(e, TX_NO_MEMORY)
            return
        verdict = validate_xmit_skb(vi, skb_at(address))
    if verdict == XMIT_OK:
        _queue(e, sq, address, xmit_more)
    elif verdict == XMIT_SEGMENT:
        _segment(e, sq, address, xmit_more)
    else:
        _drop_skb(e, address, TX_TOO_LONG if verdict == XMIT_TOO_LONG else TX_INVALID)
