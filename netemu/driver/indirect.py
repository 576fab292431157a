"""Indirect tables: a queue's small allocator for them.

Linux takes a table from the kernel's allocator for each buffer that wants one, and chains the buffer through the ring
itself when that fails. Here a queue owns a pool of tables in guest memory, all as long as the longest buffer the queue
is going to have; one that is asked for more, or is empty, or is told to refuse, fails in the same way.
"""

from __future__ import annotations

import numpy as np

from netemu.jit import Struct, StructArray, array_of, i64, kernel, pointer, struct
from netemu.memory import GuestMemory, signed
from netemu.pressure import allocation_refused
from netemu.virtio.split import DESC_ALIGN, DESC_SIZE


@struct
class Table(Struct):
    """One indirect table."""

    next: i64
    """Address of the next free one, or 0."""
    host: i64
    gpa: i64
    """Where its entries lie."""
    used: i64
    """Entries in use."""


@struct
class TablePool(Struct):
    """Free tables, the last that came back first."""

    free: i64
    free_count: i64
    total: i64
    entries: i64
    """Entries each has room for."""
    refuse: i64
    """This many allocations to come are refused."""
    pressure: i64
    """Address of a `netemu.pressure.Pressure`, or 0."""
    alloc_failed: i64


table_at = pointer(Table)
table_pool_at = pointer(TablePool)
TABLE_SIZE = Table.dtype.itemsize


@kernel
def alloc_table(pool_address: i64, entries: i64) -> i64:
    """A table with room for so many entries; the address of its `Table`, or 0 when there is none."""
    if pool_address == 0:
        return 0
    pool = table_pool_at(pool_address)
    refused = pool.free == 0 or entries > pool.entries
    if pool.refuse > 0:
        pool.refuse -= 1
        refused = True
    if pool.pressure != 0 and allocation_refused(pool.pressure) != 0:
        refused = True
    if refused:
        pool.alloc_failed += 1
        return 0
    taken = pool.free
    table = table_at(taken)
    pool.free = table.next
    pool.free_count -= 1
    table.used = entries
    return taken


@kernel
def free_table(pool_address: i64, address: i64) -> None:
    """Give a table back."""
    pool = table_pool_at(pool_address)
    table_at(address).next = pool.free
    pool.free = address
    pool.free_count += 1


class Tables:
    """A `TablePool` together with the tables and the memory it owns."""

    def __init__(self, memory: GuestMemory, count: int, entries: int) -> None:
        """Make ``count`` tables of ``entries`` entries in ``memory``."""
        size = entries * DESC_SIZE
        self.pool = TablePool(total=count, entries=entries)
        self.tables: StructArray[Table] = array_of(Table, count)
        gpa = memory.reserve(count * size, align=DESC_ALIGN)
        order = np.arange(count)
        view = self.tables.view
        view["gpa"] = signed(gpa) + order * size
        view["host"] = memory.host_address(gpa, count * size) + order * size
        self.free_all()

    def free_all(self) -> None:
        """Have all tables free, whoever holds them: the ring that named them starts afresh."""
        count = self.pool.total
        self.tables.view["next"] = self.tables.address + (np.arange(count) + 1) * TABLE_SIZE
        self.tables.view["next"][-1:] = 0
        self.pool.free = self.tables.address if count else 0
        self.pool.free_count = count
