"""A card in operation, told to do one thing after another; in the end all that it holds is free again."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from netemu.driver.indirect import table_pool_at
from netemu.errors import ConfigError
from netemu.nic import Nic
from netemu.pages import PAGE_STRUCT_SIZE, Page, page_at, page_pool_at
from netemu.skb import skb_pool_at
from netemu.xdp import XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XdpBuff, xdp_adjust_head, xdp_load8, xdp_program

Step = tuple[str, int, int]
KINDS = (
    "receive", "receive", "send", "exchange", "attach", "detach", "resize", "queues", "link", "sleep", "bounce",
    "break",
)  # fmt: skip


@xdp_program
def by_first_byte(ctx: XdpBuff) -> int:
    """What becomes of a frame, its first byte of payload says."""
    which = xdp_load8(ctx, 14) & 7
    if which == 0:
        return XDP_DROP
    if which == 1:
        return XDP_TX
    if which == 2:
        return XDP_ABORTED
    if which == 3:
        xdp_adjust_head(ctx, -8)
    return XDP_PASS


def frame(number: int, size: int) -> bytes:
    """A frame of ``size`` bytes for the station, unlike those with other numbers."""
    head = bytes.fromhex("020000000001 0200000000fe 88b5") + bytes([number & 0xFF, number >> 8 & 0xFF])
    return head + bytes((number + at) % 251 for at in range(max(0, size - len(head))))


class Operator:
    """One card, and the steps that it can be told."""

    def __init__(self, **setup: Any) -> None:
        self.nic = Nic(guest="sink", features="+RING_RESET,+CTRL_VQ,+CTRL_GUEST_OFFLOADS", **setup)
        self.attached = False
        self.up = True
        self.lost = False
        """Something was done that loses frames without a trace: a ring was broken."""
        self.number = 0

    def _frames(self, count: int, size: int) -> list[bytes]:
        self.number += count
        return [frame(self.number + n, size + n % 70) for n in range(count)]

    def step(self, kind: str, first: int, second: int) -> None:
        """Do one thing; what this card cannot do is refused and changes nothing."""
        with contextlib.suppress(ConfigError):
            getattr(self, f"_{kind}")(first, second)
        self.nic.let_guest_run()

    def _receive(self, count: int, size: int) -> None:
        self.nic.receive(self._frames(count, size))

    def _send(self, count: int, size: int) -> None:
        self.nic.send(self._frames(count, min(size, 1400)))

    def _exchange(self, count: int, size: int) -> None:
        self.nic.exchange(self._frames(count, size))

    def _attach(self, _first: int, _second: int) -> None:
        self.nic.attach_xdp(by_first_byte)

    def _detach(self, _first: int, _second: int) -> None:
        self.nic.detach_xdp()

    def _resize(self, first: int, second: int) -> None:
        sizes = (None, 16, 32, 64)
        self.nic.set_ringparam(sizes[first % 4], sizes[second % 4])

    def _queues(self, first: int, _second: int) -> None:
        self.nic.driver.control.virtnet_set_queues(1 + first % self.nic.queues)

    def _link(self, first: int, _second: int) -> None:
        self.nic.set_link(up=bool(first & 1))

    def _sleep(self, _first: int, _second: int) -> None:
        self.nic.driver.freeze()
        self.nic.driver.restore()

    def _bounce(self, _first: int, _second: int) -> None:
        self.nic.driver.close()
        self.nic.driver.open()

    def _break(self, first: int, second: int) -> None:
        """A used ring that makes no sense: the driver notes it, and the ring is made anew, or all of the device."""
        self.lost = True
        ring = self.nic.driver.rings[first % (2 * self.nic.queues)]
        ring.broken, ring.broken_id = 1, second
        self.nic.exchange(self._frames(5, 100))
        self._sleep(0, 0)


def run(steps: Sequence[Step], **setup: Any) -> None:
    """Take all steps, then put the card away and look for what is missing."""
    operator = Operator(**setup)
    nic = operator.nic
    for step in steps:
        operator.step(*step)
    if not operator.lost:
        engine = nic.engine
        gone = sum(nic.dropped.values())
        # Frames that are sent count as coming in, too; those that a program sends back leave as well.
        assert engine.frames_in == engine.frames_out + nic.guest.merged + engine.sent_out + gone
    nic.driver.remove()
    everything_is_free(nic)


def _pages_are_free(first: int, total: int) -> None:
    for n in range(total):
        page: Page = page_at(first + n * PAGE_STRUCT_SIZE)
        assert page.refcount == 0


def everything_is_free(nic: Nic) -> None:
    """Pages, skbs, tables, descriptors, and the senders' accounts."""
    driver = nic.driver
    for rq in driver.receive_queues:
        for address in (rq.frag_pool, rq.page_pool):
            if address:
                pool = page_pool_at(address)
                assert pool.free_count == pool.total
        skbs = skb_pool_at(rq.skb_pool)
        assert skbs.free_count == skbs.total
        _pages_are_free(rq.pool_pages, page_pool_at(rq.frag_pool).total)
    assert nic._sending is None or nic._sending.idle()  # one that never sent has none
    xdp = nic.guest.xdp
    for xq in xdp.queues if xdp is not None else ():
        if xq.pages:
            pool = page_pool_at(xq.pages)
            assert pool.free_count == pool.total
    for vq in driver.rings[: 2 * nic.queues]:
        assert (vq.num_free, vq.mapped) == (vq.num, 0)
        if vq.tables:
            tables = table_pool_at(vq.tables)
            assert tables.free_count == tables.total
