"""XDP: a program of the user's that sees each frame in its receive buffer, before there is an skb.

A program is a function in the part of Python that kernels are written in (see `netemu.jit`), which looks at the frame
through the functions of this module and says what becomes of it::

    from netemu.xdp import XDP_DROP, XDP_PASS, XdpBuff, xdp_load16be, xdp_program

    @xdp_program
    def no_arp(ctx: XdpBuff) -> int:
        return XDP_DROP if xdp_load16be(ctx, 12) == 0x0806 else XDP_PASS

Functions of your own that it calls are marked with `netemu.jit.kernel`. Numbers that outlive a frame are kept in
`XdpCounters` or in other memory of `netemu.jit.allocate`, whose address a program knows as a global.

Theory of operation
-------------------
The driver fills in one `XdpBuff` per queue and calls the program through an address (`netemu.jit.hooks`). All places
are host addresses: ``data`` to ``data_end`` is the frame's first (in most cases only) buffer, in front of it lies room
for headers, behind it room to grow; frames of several buffers have the others as frags, if the program is made for that
(``frags=True``). No function here touches a byte outside of that, whatever it is asked for. Their rules are those of
Linux's helpers with similar names.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import overload

import numpy as np
import numpy.typing as npt

from netemu.errors import ConfigError
from netemu.jit import (
    Struct,
    allocate,
    entry,
    hook,
    i64,
    kernel,
    load8,
    load16be,
    load32be,
    load64,
    memset,
    pointer,
    store8,
    store16be,
    store32be,
    store64,
    struct,
)
from netemu.pages import put_page
from netemu.skb import FRAG_SIZE, frag_at

XDP_ABORTED = 0
XDP_DROP = 1
XDP_PASS = 2
XDP_TX = 3
XDP_REDIRECT = 4

ETH_HLEN = 14
XDP_FRAME_SIZE = 40
"""sizeof(struct xdp_frame): what stays free at the start of the headroom."""
ERROR = -1
"""What the helpers return where Linux's return an error number."""


@struct
class XdpBuff(Struct):
    """One frame as a program sees it; only the helpers change it."""

    data: i64
    data_end: i64
    data_meta: i64
    """Start of the metadata, which ends at ``data``."""
    data_hard_start: i64
    data_hard_end: i64
    """What belongs to the buffer: ``data`` may move back to its start, ``data_end`` forward to its end."""
    rx_queue_index: i64
    redirect_target: i64
    """What `xdp_redirect` was given."""
    may_grow: i64
    """xdp_adjust_tail may make the frame longer (v5.8)."""
    meta_max: i64
    """Bytes of metadata there can be: 0 where the driver knows of none."""
    frags: i64
    nr_frags: i64
    """Address and number of the `netemu.skb.Frag` structs of the frame's other buffers."""
    frags_size: i64
    """Bytes in them."""


xdp_buff_at = pointer(XdpBuff)


@kernel
def xdp_length(ctx: XdpBuff) -> i64:
    """Bytes of the frame, those in frags included."""
    return ctx.data_end - ctx.data + ctx.frags_size


@kernel
def xdp_holds(ctx: XdpBuff, offset: i64, size: i64) -> i64:
    """1 if ``size`` bytes from ``offset`` on lie in the frame's first buffer."""
    return 1 if offset >= 0 and 0 <= size <= ctx.data_end - ctx.data - offset else 0


@kernel
def xdp_load8(ctx: XdpBuff, offset: i64) -> i64:
    """The byte at ``offset``; ERROR where the first buffer ends before."""
    return load8(ctx.data + offset) if xdp_holds(ctx, offset, 1) != 0 else ERROR


@kernel
def xdp_load16be(ctx: XdpBuff, offset: i64) -> i64:
    """The 16-bit number in network order at ``offset``; ERROR where the first buffer ends before."""
    return load16be(ctx.data + offset) if xdp_holds(ctx, offset, 2) != 0 else ERROR


@kernel
def xdp_load32be(ctx: XdpBuff, offset: i64) -> i64:
    """The 32-bit number in network order at ``offset``; ERROR where the first buffer ends before."""
    return load32be(ctx.data + offset) if xdp_holds(ctx, offset, 4) != 0 else ERROR


@kernel
def xdp_store8(ctx: XdpBuff, offset: i64, value: i64) -> i64:
    """Write a byte; 0, or ERROR outside of the first buffer."""
    if xdp_holds(ctx, offset, 1) == 0:
        return ERROR
    store8(ctx.data + offset, value)
    return 0


@kernel
def xdp_store16be(ctx: XdpBuff, offset: i64, value: i64) -> i64:
    """Write a 16-bit number in network order; 0, or ERROR outside of the first buffer."""
    if xdp_holds(ctx, offset, 2) == 0:
        return ERROR
    store16be(ctx.data + offset, value)
    return 0


@kernel
def xdp_store32be(ctx: XdpBuff, offset: i64, value: i64) -> i64:
    """Write a 32-bit number in network order; 0, or ERROR outside of the first buffer."""
    if xdp_holds(ctx, offset, 4) == 0:
        return ERROR
    store32be(ctx.data + offset, value)
    return 0


@kernel
def xdp_byte(ctx: XdpBuff, offset: i64) -> i64:
    """The byte at ``offset``, also where it lies in a frag (bpf_xdp_load_bytes); ERROR where the frame ends before."""
    if offset < 0:
        return ERROR
    if xdp_holds(ctx, offset, 1) != 0:
        return load8(ctx.data + offset)
    offset -= ctx.data_end - ctx.data
    for n in range(ctx.nr_frags):
        frag = frag_at(ctx.frags + n * FRAG_SIZE)
        if offset < frag.size:
            return load8(frag.address + offset)
        offset -= frag.size
    return ERROR


@kernel
def xdp_adjust_head(ctx: XdpBuff, delta: i64) -> i64:
    """Move the frame's start: back into the headroom with a negative ``delta``; 0, or ERROR (bpf_xdp_adjust_head).

    Metadata moves along. At least 14 bytes remain, and the room of a struct xdp_frame in front of everything.
    """
    meta = ctx.data - ctx.data_meta
    data = ctx.data + delta
    if data < ctx.data_hard_start + XDP_FRAME_SIZE + meta or data > ctx.data_end - ETH_HLEN:
        return ERROR
    # Word by word, in the order in which nothing is overwritten that is still to be moved; its size is a multiple of 4.
    for n in range(0, meta, 4):
        at = n if delta < 0 else meta - 4 - n
        store32be(ctx.data_meta + delta + at, load32be(ctx.data_meta + at))
    ctx.data_meta += delta
    ctx.data = data
    return 0


@kernel
def _shrink_frags(ctx: XdpBuff, size: i64) -> i64:
    """Take ``size`` bytes off the frags, the last one first; what is left to take from the first buffer."""
    while size > 0 and ctx.nr_frags > 0:
        frag = frag_at(ctx.frags + (ctx.nr_frags - 1) * FRAG_SIZE)
        part = min(size, frag.size)
        frag.size -= part
        ctx.frags_size -= part
        size -= part
        if frag.size == 0:
            put_page(frag.page)
            ctx.nr_frags -= 1
    return size


@kernel
def xdp_adjust_tail(ctx: XdpBuff, delta: i64) -> i64:
    """Cut the frame's end, or with a positive ``delta`` add zeros to it; 0, or ERROR (bpf_xdp_adjust_tail).

    At least 14 bytes remain. Frames grow in kernels since v5.8, within their buffer, and not if they have frags.
    """
    if delta >= 0:
        if ctx.may_grow == 0 or ctx.nr_frags > 0 or ctx.data_end + delta > ctx.data_hard_end:
            return ERROR
        memset(ctx.data_end, 0, delta)
        ctx.data_end += delta
        return 0
    if xdp_length(ctx) + delta < ETH_HLEN:
        return ERROR
    ctx.data_end -= _shrink_frags(ctx, -delta)
    return 0


@kernel
def xdp_adjust_meta(ctx: XdpBuff, delta: i64) -> i64:
    """Make room for metadata in front of the frame (negative ``delta``), or give it back; 0, or ERROR.

    After bpf_xdp_adjust_meta: a multiple of 4 bytes, 32 at most in older kernels, 252 in newer ones.
    """
    meta = ctx.data - (ctx.data_meta + delta)
    if meta < 0 or meta > ctx.meta_max or meta & 3 or ctx.data - meta < ctx.data_hard_start + XDP_FRAME_SIZE:
        return ERROR
    if ctx.meta_max == 0:
        return ERROR
    ctx.data_meta += delta
    return 0


@kernel
def xdp_store_meta(ctx: XdpBuff, offset: i64, value: i64) -> i64:
    """Write a 32-bit number in network order into the metadata; 0, or ERROR outside of it."""
    if offset < 0 or offset > ctx.data - ctx.data_meta - 4:
        return ERROR
    store32be(ctx.data_meta + offset, value)
    return 0


@kernel
def xdp_redirect(ctx: XdpBuff, target: i64) -> i64:
    """Say where the frame is to go (bpf_redirect): any number, which `Nic.take_redirected` tells; XDP_REDIRECT."""
    ctx.redirect_target = target
    return XDP_REDIRECT


@kernel
def xdp_count(counters: i64, index: i64) -> None:
    """Add 1 to one of the `XdpCounters` at the address ``counters``; the index is believed."""
    store64(counters + 8 * index, load64(counters + 8 * index) + 1)


class XdpCounters:
    """Numbers that a program counts in: ``address`` is what it gives to `xdp_count`, ``values`` what is read later."""

    def __init__(self, size: int) -> None:
        """``size`` of them, 0 at first."""
        self._memory = allocate(8 * size)
        self.address = self._memory.address
        self.values: npt.NDArray[np.int64] = self._memory.array.view(np.int64)


Program = Callable[[XdpBuff], int]


def _run(address: int) -> int:
    """The entry point of a program; compiled anew for each, with a ``program`` of its own."""
    return int(program(xdp_buff_at(address)))  # type: ignore[name-defined]  # noqa: F821


class XdpProgram:
    """A program that can be attached; called from Python it runs as the function it is."""

    def __init__(self, function: Program, *, frags: bool = False) -> None:
        """See `xdp_program`."""
        self.function = function
        self.name: str = getattr(function, "__name__", "program")
        self.frags = frags
        scope = {
            "__builtins__": __builtins__,
            "__name__": function.__module__,
            "program": kernel(function),
            "xdp_buff_at": xdp_buff_at,
        }
        self._entry = entry(types.FunctionType(_run.__code__, scope, "xdp_program"))

    def __call__(self, ctx: XdpBuff) -> int:
        """Run the plain function."""
        return self.function(ctx)

    def hook(self) -> int:
        """The address by which kernels call it; compiles it, and raises `ConfigError` where that cannot be done."""
        try:
            return hook(self._entry)
        except Exception as fault:  # whatever the compiler stumbles over, the program is what has to change
            why = " ".join(str(fault).split())[:_REASON_SHOWN]
            raise ConfigError(f"the XDP program {self.name} is no kernel (see netemu.jit): {why}") from fault


_REASON_SHOWN = 300


@overload
def xdp_program(function: Program) -> XdpProgram: ...
@overload
def xdp_program(*, frags: bool = ...) -> Callable[[Program], XdpProgram]: ...
def xdp_program(
    function: Program | None = None, *, frags: bool = False
) -> XdpProgram | Callable[[Program], XdpProgram]:
    """Make a function of an `XdpBuff` a program; its result is one of the XDP_ constants.

    ``frags`` says that it can deal with frames of several buffers, of which it sees the first; without, the driver puts
    such a frame into one page first, or drops it.
    """
    if function is not None:
        return XdpProgram(function)
    return lambda plain: XdpProgram(plain, frags=frags)
