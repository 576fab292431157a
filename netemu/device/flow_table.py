"""Which queue the guest sends a flow on: what automatic steering learns from transmitted frames (MQ-D-05).

A table of fixed size, as in Linux's tun: a flow's hash chooses one of its sets, each of which holds the few flows seen
there last. A flow that has not been sent for three seconds is forgotten, and so is the oldest of a set that is full;
neither loses more than the preference for a queue. The hash is the same in both directions (`flow_hash`).
"""

from __future__ import annotations

from netemu.jit import Struct, StructArray, array_of, i64, kernel, pointer, struct

SETS = 1024
WAYS = 4
FLOW_EXPIRE_NS = 3_000_000_000


@struct
class FlowEntry(Struct):
    """A flow: its hash, the queue it was last sent on, and when (ns)."""

    hash: i64
    queue: i64
    updated: i64
    used: i64


@struct
class FlowTable(Struct):
    """SETS times WAYS entries; ``learned`` counts the flows that were entered."""

    entries: i64
    learned: i64


flow_table_at = pointer(FlowTable)
flow_entry_at = pointer(FlowEntry)
_ENTRY_SIZE = FlowEntry.dtype.itemsize
_SET_SIZE = WAYS * _ENTRY_SIZE


@kernel
def flow_find(table: FlowTable, flow: i64, now: i64) -> i64:
    """The queue of the flow with hash ``flow``; -1 if it was not sent, or not lately."""
    at = table.entries + (flow & (SETS - 1)) * _SET_SIZE
    for n in range(WAYS):
        entry = flow_entry_at(at + n * _ENTRY_SIZE)
        if entry.used != 0 and entry.hash == flow:
            return entry.queue if now - entry.updated < FLOW_EXPIRE_NS else -1
    return -1


@kernel
def flow_update(table: FlowTable, flow: i64, queue: i64, now: i64) -> None:
    """The flow with hash ``flow`` was sent on ``queue`` at time ``now``."""
    at = table.entries + (flow & (SETS - 1)) * _SET_SIZE
    target = flow_entry_at(at)
    for n in range(WAYS):
        entry = flow_entry_at(at + n * _ENTRY_SIZE)
        if entry.used == 0 or entry.hash == flow:
            target = entry
            break
        if entry.updated < target.updated:
            target = entry
    if target.used == 0 or target.hash != flow:
        table.learned += 1
    target.hash = flow
    target.queue = queue
    target.updated = now
    target.used = 1


class Flows:
    """A `FlowTable` together with its entries."""

    def __init__(self) -> None:
        """An empty table."""
        self._entries: StructArray[FlowEntry] = array_of(FlowEntry, SETS * WAYS)
        self.table = FlowTable(entries=self._entries.address)

    def clear(self) -> None:
        """Forget all flows."""
        self._entries.view[:] = 0
        self.table.learned = 0
