"""A guest that sends back what it receives, the station addresses swapped: the echo of a switch port under test."""

from __future__ import annotations

from netemu.driver.virtnet import RQ_SIZE, SQ_SIZE, rq_at, sq_at, vi_at
from netemu.engine.outgoing import hand_down
from netemu.engine.state import DONE, engine_at
from netemu.jit import entry, i64, load16, load32, store16, store32
from netemu.skb import skb_at


@entry
def reflect(address: i64, queue: i64, skb_address: i64) -> i64:
    """Send an skb that came in on ``queue`` out on the send queue beside it; DONE. The skb belongs to that from now on.

    The first 14 bytes are linear, as every receive mode makes sure. More frames of the same poll are a promise that
    another one follows, as far as ``xmit_more`` allows.
    """
    e = engine_at(address)
    vi = vi_at(e.vi)
    skb = skb_at(skb_address)
    skb.next = 0
    at = skb.data
    high = load32(at)
    low = load16(at + 4)
    store32(at, load32(at + 6))
    store16(at + 4, load16(at + 10))
    store32(at + 6, high)
    store16(at + 10, low)
    follows = rq_at(vi.rq + queue * RQ_SIZE).rx_list != 0
    more = 1 if follows and e.unkicked + 1 < e.xmit_more else 0
    hand_down(e, sq_at(vi.sq + queue * SQ_SIZE), skb_address, more)
    return DONE
