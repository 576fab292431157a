"""What the user of a connection hears of: Python by the `Ready` list, an app in a kernel by a call.

Events are noted where they happen (`tell`), and told when all is said about the segment, or the timer, at hand
(`notify`): what the user then does meets a connection that is consistent.
"""

from __future__ import annotations

from netemu.jit import call2, i64, kernel
from netemu.stack.host import host_at, is_ready
from netemu.stack.tcp.tcb import Tcb, tcb_at


@kernel
def tell(tcb: Tcb, events: i64) -> None:
    """Note EVENT_... for the user."""
    tcb.events |= events


@kernel
def take_events(tcb: Tcb) -> i64:
    """What happened since the last call; for the user."""
    events = tcb.events
    tcb.events = 0
    tcb.ready = 0
    return events


@kernel
def notify(address: i64) -> None:
    """Tell the user of what there is to tell."""
    tcb = tcb_at(address)
    if tcb.events == 0:
        return
    if tcb.app != 0:
        call2(tcb.app, tcb.host, address)
    elif tcb.handle != 0 and tcb.ready == 0:
        tcb.ready = 1
        is_ready(host_at(tcb.host).ready, tcb.handle)
