"""How a ring comes into being, and starts afresh after a reset: vring_create_virtqueue, virtqueue_reinit, resizing.

Ordinary Python: memory for the ring's parts is reserved in the guest, the driver's structs are made, and both are set
to what a new ring of Linux has in them.
"""

from __future__ import annotations

import numpy as np

from netemu.driver.indirect import Tables
from netemu.driver.vring import NO_BATCH, DescExtra, DescState, Virtqueue
from netemu.jit import StructArray, array_of
from netemu.memory import GuestMemory
from netemu.pages import PAGE_SIZE
from netemu.virtio import features as f
from netemu.virtio import packed, split
from netemu.virtio.features import FeatureSet
from netemu.virtio.split import RingAddresses


class Vring:
    """One virtqueue of a driver: ``struct`` for the kernels, ``addresses`` for the device, and the memory behind them.

    The struct stays at its address for as long as the object lives, also when the ring is resized.
    """

    def __init__(
        self,
        memory: GuestMemory,
        index: int,
        num: int,
        features: FeatureSet,
        era: int,
        *,
        keeps_ctx: bool,
        table_entries: int,
    ) -> None:
        """Make virtqueue ``index`` with ``num`` entries for the features that were negotiated.

        ``era`` is the address of the driver's `netemu.driver.eras.Era`. A queue that keeps a ctx with each buffer
        (``keeps_ctx``) has no indirect tables, as in Linux; those of others have room for ``table_entries`` segments.
        Raises `ConfigError` for a size that a ring of its kind cannot have, `NetemuError` when memory is used up.
        """
        self.memory = memory
        self.table_entries = table_entries
        self.struct = Virtqueue(
            index=index,
            packed=int(f.RING_PACKED in features),
            in_order=int(f.IN_ORDER in features),
            event=int(f.EVENT_IDX in features),
            indirect=int(f.INDIRECT_DESC in features and not keeps_ctx),
            notification_data=int(f.NOTIFICATION_DATA in features),
            era=era,
        )
        self._capacity = 0
        self.resize(num)

    def check_size(self, num: int) -> None:
        """Raise `ConfigError` unless a ring of this kind can have ``num`` entries."""
        if self.struct.packed:
            packed.check_queue_size(num)
        else:
            split.check_queue_size(num)

    def resize(self, num: int) -> None:
        """Make the ring one of ``num`` entries, all free (virtqueue_resize); only while the device has no part in it.

        Memory is reserved where the ring was never as large before.
        """
        self.check_size(num)
        if num > self._capacity:
            self._reserve(num)
        self.addresses = RingAddresses(num, self._desc, self._avail, self._used)
        self.struct.num = num
        self.reinit()

    def _reserve(self, num: int) -> None:
        """Memory for up to ``num`` entries; its parts are aligned (SPLIT-V-01, PACK-V-05)."""
        vq = self.struct
        reserve = self.memory.reserve
        # The sum of both sides' areas serves for either kind: a packed ring's are 4 bytes each.
        sizes = [packed.EVENT_SIZE] * 2 if vq.packed else [split.avail_bytes(num), split.used_bytes(num)]
        desc = reserve(split.desc_bytes(num), align=PAGE_SIZE)
        avail = reserve(sizes[0], align=packed.EVENT_ALIGN)
        used = reserve(sizes[1], align=PAGE_SIZE)
        tables = Tables(self.memory, num, self.table_entries) if vq.indirect else None
        # All of it is there: only now does the ring move.
        self._desc, self._avail, self._used = desc, avail, used
        self._areas = sizes
        vq.desc = self.memory.host_address(self._desc, split.desc_bytes(num))
        vq.avail = self.memory.host_address(self._avail, sizes[0])
        vq.used = self.memory.host_address(self._used, sizes[1])
        self._states: StructArray[DescState] = array_of(DescState, num)
        self._extra: StructArray[DescExtra] = array_of(DescExtra, num)
        vq.state = self._states.address
        vq.extra = self._extra.address
        if tables is not None:
            self.tables = tables
            vq.tables = tables.pool.address
        self._capacity = num

    def reinit(self) -> None:
        """Set ring and struct to a new ring's values (virtqueue_init, virtqueue_vring_init_split and _packed).

        Buffers that were not taken back before are forgotten.
        """
        vq = self.struct
        vq.num_free = vq.num
        vq.free_head = vq.num_added = vq.event_triggered = 0
        vq.broken = vq.broken_id = vq.mapped = 0
        vq.avail_idx_shadow = vq.avail_flags_shadow = 0
        vq.next_avail_idx = vq.event_flags_shadow = 0
        vq.avail_wrap_counter = 1
        vq.avail_used_flags = packed.AVAIL
        # A packed ring's position is 0, in the round of wrap counter 1.
        vq.last_used_idx = 1 << packed.EVENT_WRAP_SHIFT if vq.packed else 0
        vq.oldest = vq.batch_len = 0
        vq.batch_id = NO_BATCH
        if vq.indirect:
            self.tables.free_all()
        # The free list: n is followed by n + 1, the last by 0.
        following = np.arange(1, self._capacity + 1)
        following[vq.num - 1 :] = 0
        self._states.view[:] = 0
        self._extra.view[:] = 0
        self._states.view["next"] = following
        table = np.zeros(self._capacity, dtype=[("addr", "<u8"), ("len", "<u4"), ("flags", "<u2"), ("next", "<u2")])
        if not vq.packed:
            table["next"] = following
        self.memory.write(self._desc, table.tobytes())
        self.memory.write(self._avail, bytes(self._areas[0]))
        self.memory.write(self._used, bytes(self._areas[1]))
