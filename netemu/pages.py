"""Pages of guest memory with reference counts: what the guest's allocator hands to its drivers.

Theory of operation
-------------------
A `PagePool` owns a stretch of guest memory, cut into equal blocks of a power of two pages (`order`). Each block has a
`Page` that counts its users: whoever allocates it holds one reference, every buffer cut from it and every skb fragment
that points into it holds one more. When the last one is dropped with `put_page` the block goes back to the pool's list,
newest first, so that memory still warm in the cache is used again. A pool that is empty makes `alloc_pages` fail, as
do its `refuse` count and a rule (`netemu.pressure`): that is how a driver is put under memory pressure.

Linux has one allocator for all; here each receive queue has pools of its own, so that queues can run on different
cores.
"""

from __future__ import annotations

import numpy as np

from netemu.jit import Struct, StructArray, array_of, i64, kernel, pointer, struct
from netemu.memory import GuestMemory, signed
from netemu.pressure import allocation_refused

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT


@struct
class Page(Struct):
    """One block of ``PAGE_SIZE << order`` bytes."""

    refcount: i64
    """Users of the block; 0 while it lies in its pool."""
    address: i64
    """Host address of its first byte."""
    gpa: i64
    """Guest-physical address of its first byte."""
    size: i64
    """Bytes."""
    private: i64
    """The owner's link to another `Page` (its address, or 0): free list of the pool, or the chain of a big buffer."""
    last: i64
    """Of a page that heads a chain, the address of the chain's last `Page`; 0 where nobody noted it."""
    pool: i64
    """Address of the `PagePool` it returns to."""


@struct
class PagePool(Struct):
    """Free blocks of one size."""

    free: i64
    """Address of the first free `Page`, or 0."""
    free_count: i64
    total: i64
    order: i64
    refuse: i64
    """This many allocations to come are refused, as under memory pressure."""
    pressure: i64
    """Address of the `netemu.pressure.Pressure` that says which are refused besides, or 0."""
    alloc_count: i64
    alloc_failed: i64


page_at = pointer(Page)
page_pool_at = pointer(PagePool)
PAGE_STRUCT_SIZE = Page.dtype.itemsize


@kernel
def alloc_pages(pool: PagePool) -> i64:
    """Take a block with one reference held; return the address of its `Page`, or 0 when there is none."""
    if pool.refuse > 0 or pool.free == 0:
        if pool.refuse > 0:
            pool.refuse -= 1
        pool.alloc_failed += 1
        return 0
    if pool.pressure != 0 and allocation_refused(pool.pressure) != 0:
        pool.alloc_failed += 1
        return 0
    taken = pool.free
    page = page_at(taken)
    pool.free = page.private
    pool.free_count -= 1
    pool.alloc_count += 1
    page.private = 0
    page.refcount = 1
    return taken


@kernel
def get_page(page: Page) -> None:
    """Hold one more reference."""
    page.refcount += 1


@kernel
def put_page(page_address: i64) -> None:
    """Drop one reference; the last one returns the block to its pool."""
    page = page_at(page_address)
    page.refcount -= 1
    if page.refcount == 0:
        pool = page_pool_at(page.pool)
        page.private = pool.free
        pool.free = page_address
        pool.free_count += 1


@kernel
def page_gpa(page: Page, address: i64) -> i64:
    """Guest-physical address of a host address inside the block."""
    return address - page.address + page.gpa


class Pages:
    """A `PagePool` together with the memory and the `Page` structs it owns."""

    def __init__(self, memory: GuestMemory, count: int, order: int) -> None:
        """Cut ``count`` blocks of ``PAGE_SIZE << order`` bytes out of ``memory``."""
        size = PAGE_SIZE << order
        self.pool = PagePool(order=order, total=count, free_count=count)
        self.pages: StructArray[Page] = array_of(Page, count)
        gpa = memory.reserve(count * size, align=size)
        host = memory.host_address(gpa, count * size)
        view = self.pages.view
        offsets = np.arange(count) * size
        view["address"] = host + offsets
        view["gpa"] = signed(gpa) + offsets
        view["size"] = size
        view["pool"] = self.pool.address
        view["private"] = self.pages.address + (np.arange(count) + 1) * PAGE_STRUCT_SIZE
        view["private"][-1:] = 0
        self.pool.free = self.pages.address if count else 0
