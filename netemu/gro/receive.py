"""dev_gro_receive: hold, merge or pass each skb; and the flush at the end of a poll."""

from __future__ import annotations

from netemu.gro.flow import ENDS_A_BURST, FIN, PSH, continues, find_flow
from netemu.gro.headers import find_headers
from netemu.gro.merge import gro_complete, skb_gro_receive
from netemu.gro.state import BUCKET_SIZE, GRO_HASH_BUCKETS, MAX_GRO_SKBS, Gro, gro_at, held_at
from netemu.jit import entry, i64, kernel, load8, load64, store8, store64
from netemu.skb import Skb, skb_at

TCP_FLAGS = 13
"""Byte of the TCP header that holds the flags."""


@kernel
def _ready(gro: Gro, address: i64) -> None:
    """Append an skb to those that go up."""
    skb_at(address).next = 0
    if gro.last == 0:
        gro.first = address
    else:
        skb_at(gro.last).next = address
    gro.last = address


@kernel
def _release(gro: Gro, bucket: i64, index: i64) -> None:
    """Finish a bucket's held skb, which is ready then; those that came later move up."""
    place = bucket + 8 + 8 * index
    address = load64(place)
    held = held_at(address)
    gro_complete(gro, held)
    _ready(gro, held.skb)
    count = load64(bucket) - 1
    for n in range(index, count):
        store64(bucket + 8 + 8 * n, load64(bucket + 16 + 8 * n))
    store64(bucket + 8 + 8 * count, address)
    store64(bucket, count)


@kernel
def _hold(gro: Gro, bucket: i64, skb: Skb, address: i64) -> None:
    """Keep an skb back in the hope of more; the oldest of a full bucket makes room."""
    if load64(bucket) >= MAX_GRO_SKBS:
        _release(gro, bucket, 0)
    count = load64(bucket)
    held = held_at(load64(bucket + 8 + 8 * count))
    store64(bucket, count + 1)
    held.skb = held.last = address
    held.count = 1
    held.network = gro.network
    held.transport = gro.transport
    held.fixed_id = 0
    skb.gso_size = skb.len - gro.payload


@kernel
def _dev_gro_receive(gro: Gro, address: i64) -> i64:
    """1 if the skb was held or merged; 0 if it goes up as it is, behind what that made ready."""
    skb = skb_at(address)
    if find_headers(gro, skb) == 0:
        return 0
    length = skb.len - gro.payload
    flags = load8(skb.data + gro.transport + TCP_FLAGS)
    bucket = gro.buckets + (skb.hash & (GRO_HASH_BUCKETS - 1)) * BUCKET_SIZE
    index = find_flow(gro, skb, bucket)
    if index >= 0:
        held = held_at(load64(bucket + 8 + 8 * index))
        p = skb_at(held.skb)
        if continues(gro, skb, held) != 0 and skb_gro_receive(gro, held, address) == 0:
            at = p.data + gro.transport + TCP_FLAGS
            store8(at, load8(at) | (flags & (FIN | PSH)))
            if length < p.gso_size or flags & ENDS_A_BURST:
                _release(gro, bucket, index)
            return 1
        _release(gro, bucket, index)
    if gro.flush != 0 or length == 0 or flags & ENDS_A_BURST:
        return 0
    _hold(gro, bucket, skb, address)
    return 1


@entry
def napi_gro_receive(gro_address: i64, address: i64) -> i64:
    """Take a finished skb; the first of the skbs that are ready to go up, linked by ``next``, or 0 for none."""
    gro = gro_at(gro_address)
    gro.first = 0
    gro.last = 0
    if _dev_gro_receive(gro, address) == 0:
        _ready(gro, address)
    return gro.first


@entry
def napi_gro_flush(gro_address: i64) -> i64:
    """Hold nothing back any more: the first of all skbs that were held, bucket by bucket, oldest first; or 0."""
    gro = gro_at(gro_address)
    gro.first = 0
    gro.last = 0
    for n in range(GRO_HASH_BUCKETS):
        bucket = gro.buckets + n * BUCKET_SIZE
        while load64(bucket) > 0:
            _release(gro, bucket, 0)
    return gro.first
