"""A driver with an XDP program over a device held by hand; all of it plain Python, so that every access is checked."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from netemu.driver import xdp_set
from netemu.driver.transmit import free_old_xmit_skbs
from netemu.driver.xdp import receive_xdp
from netemu.driver.xdp_set import VirtnetXdp
from netemu.driver.xdp_verdict import flush_xdp
from netemu.jit import hook
from netemu.pages import page_at, page_pool_at
from netemu.skb import Skb
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.xdp import XDP_PASS, XdpBuff, XdpProgram, xdp_buff_at
from tests.driver_kit import BASE, V7_0, Rig, free, plain

SMALL = BASE
MERGEABLE = BASE | FeatureSet.of(f.MRG_RXBUF)


class PlainProgram(XdpProgram):
    """A program that is never compiled, may do anything, and remembers what it saw."""

    def __init__(self, function: Callable[[XdpBuff], int] = lambda _ctx: XDP_PASS, *, frags: bool = False) -> None:
        super().__init__(function, frags=frags)
        self.seen: list[bytes] = []
        """The frame's first buffer, each time it ran."""
        self.room: list[tuple[int, int]] = []
        """Bytes in front of the frame and behind it."""
        self.frags_seen: list[int] = []

    def hook(self) -> int:
        def run(address: int) -> int:
            ctx = xdp_buff_at(address)
            self.seen.append(ctypes.string_at(ctx.data, ctx.data_end - ctx.data))
            self.room.append((ctx.data - ctx.data_hard_start, ctx.data_hard_end - ctx.data_end))
            self.frags_seen.append(ctx.nr_frags)
            return self.function(ctx)

        return hook(run)


class XdpRig(Rig):
    """A filled ring and a program; with ``late`` the buffers were posted before it came."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        kernel: str = V7_0,
        features: FeatureSet = MERGEABLE,
        program: XdpProgram | None = None,
        *,
        late: bool = False,
        size: int = 64,
    ) -> None:
        monkeypatch.setattr(xdp_set, "receive_xdp", plain(receive_xdp))
        monkeypatch.setattr(xdp_set, "flush_xdp", plain(flush_xdp))
        super().__init__(kernel, features, size, pairs=1)
        self.xdp = VirtnetXdp(self.driver)
        self.program = program or PlainProgram()
        if kernel == "linux-4.19":
            # It wants a queue pair to spare for XDP_TX (test_xdp_attach.py); here it shares the only one.
            monkeypatch.setattr(self.xdp, "_spare_pairs", lambda: 0)
        if late:
            self.fill()
        self.xdp.virtnet_xdp_set(self.program)
        if not late:
            self.fill()

    def xdp_counters(self) -> dict[str, int]:
        names = ("drops", "xdp_packets", "xdp_tx", "xdp_redirects", "xdp_drops", "rx_length_errors", "rx_frame_errors")
        return {name: value for name in names if (value := getattr(self.rq, name))}

    def finish_one(self, skb: Skb) -> None:
        """kfree_skb."""
        free(skb)

    def reclaim(self) -> None:
        """Free what the device is done with on the send queue."""
        free_old_xmit_skbs(self.sq)

    def finish(self, *skbs: Skb) -> None:
        """Free the skbs, and see that nothing is lost: no buffer, no skb, none of the pages for XDP."""
        free(*skbs)
        self.assert_nothing_lost()
        pool = page_pool_at(self.xdp.queues[0].pages)
        assert pool.free_count == pool.total
        at = pool.free
        while at:
            assert page_at(at).refcount == 0
            at = page_at(at).private
