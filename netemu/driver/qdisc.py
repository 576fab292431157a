"""The queueing discipline in front of a send queue: a plain first-in first-out of limited length.

Frames go straight through while the queue takes them, and wait here while it is stopped. One that finds no room is
dropped, as pfifo_fast does with frames over txqueuelen.
"""

from __future__ import annotations

from netemu.driver.sock import skb_orphan
from netemu.driver.transmit import start_xmit
from netemu.driver.virtnet import SendQueue, vi_at
from netemu.jit import i64, kernel
from netemu.skb import kfree_skb, skb_at


@kernel
def qdisc_enqueue(sq: SendQueue, address: i64) -> i64:
    """Keep an skb until the queue takes frames again; 0 if there is no room, and it was not taken."""
    if sq.qlen >= sq.tx_queue_len:
        return 0
    skb_at(address).next = 0
    if sq.qdisc_tail == 0:
        sq.qdisc = address
    else:
        skb_at(sq.qdisc_tail).next = address
    sq.qdisc_tail = address
    sq.qlen += 1
    return 1


@kernel
def qdisc_dequeue(sq: SendQueue) -> i64:
    """The skb that has waited longest, or 0."""
    address = sq.qdisc
    if address != 0:
        sq.qdisc = skb_at(address).next
        sq.qlen -= 1
        if sq.qdisc == 0:
            sq.qdisc_tail = 0
    return address


@kernel
def qdisc_reset(sq: SendQueue) -> None:
    """Drop all that waits, as for an interface that goes down."""
    while sq.qlen > 0:
        address = qdisc_dequeue(sq)
        sq.qdisc_drops += 1
        skb_orphan(skb_at(address))
        kfree_skb(address)


@kernel
def dev_queue_xmit(sq: SendQueue, address: i64, xmit_more: i64) -> i64:
    """Send an skb, or keep it for later; 0 if it was freed instead (NET_XMIT_DROP): no room, or no carrier.

    Without a carrier Linux has another discipline, which drops all. A queue may be awake then: what it sent before
    comes back, and wakes it.
    """
    if vi_at(sq.vi).carrier != 0:
        if sq.qlen == 0 and sq.stopped == 0:
            start_xmit(sq, address, xmit_more)
            return 1
        if qdisc_enqueue(sq, address) != 0:
            return 1
    sq.qdisc_drops += 1
    skb_orphan(skb_at(address))
    kfree_skb(address)
    return 0


@kernel
def qdisc_run(sq: SendQueue) -> i64:
    """Send what waits, for as long as the queue takes it; how many. All but the last are followed by another."""
    sent = 0
    while sq.stopped == 0 and vi_at(sq.vi).carrier != 0:
        address = qdisc_dequeue(sq)
        if address == 0:
            break
        start_xmit(sq, address, 1 if sq.qlen > 0 else 0)
        sent += 1
    return sent
