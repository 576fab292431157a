"""XDP programs for tests of whole replays."""

from __future__ import annotations

from netemu.xdp import (
    XDP_DROP,
    XDP_PASS,
    XdpBuff,
    xdp_adjust_head,
    xdp_adjust_tail,
    xdp_byte,
    xdp_length,
    xdp_load8,
    xdp_program,
    xdp_redirect,
    xdp_store8,
)


@xdp_program
def passes(_ctx: XdpBuff) -> int:
    """Let everything pass."""
    return XDP_PASS


@xdp_program
def by_length(ctx: XdpBuff) -> int:
    """Of three lengths one passes, one is dropped, one is redirected."""
    rest = xdp_length(ctx) % 3
    if rest == 0:
        return XDP_PASS
    return XDP_DROP if rest == 1 else xdp_redirect(ctx, xdp_load8(ctx, 0))


@xdp_program(frags=True)
def rewrites(ctx: XdpBuff) -> int:
    """Push two bytes in front, cut three off, and write what the last byte of all was."""
    last = xdp_byte(ctx, xdp_length(ctx) - 1)
    xdp_adjust_head(ctx, -2)
    xdp_store8(ctx, 0, last)
    xdp_store8(ctx, 1, xdp_load8(ctx, 2) ^ 0xFF)
    xdp_adjust_tail(ctx, -3)
    return XDP_PASS


@xdp_program
def bad(ctx: XdpBuff) -> int:
    """No verdict there is."""
    return 4711 + xdp_length(ctx)
