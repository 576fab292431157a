"""Notification coalescing: the device holds calls back until enough packets came or time went by (section 5.1.6.5.9).

Theory of operation
-------------------
Each transmit and receive queue has a `Moderation`: its parameters, the packets whose notification is still owed, and
when it is due. `signal_used` stands where `notify` stands without coalescing; `call_if_due` is for whoever
moves time. Both only decide *when*: whether the driver wants to be called at all is for `notify` to say, whatever the
counters (COAL-D-08).

Parameters live twice: per queue, where the last command that touched the queue wins (COAL-D-12), and per direction,
which is what a queue falls back to when it is disabled and enabled again (COAL-D-05, COAL-D-06).
"""

from __future__ import annotations

from netemu.device.queue import DeviceQueue, device_queue_at, notify
from netemu.jit import Struct, StructArray, array_of, entry, i64, kernel, pointer, struct
from netemu.virtio.control import Coalesce

_NS_PER_US = 1000


@struct
class Moderation(Struct):
    """When one queue calls its driver."""

    max_packets: i64
    max_usecs: i64
    """With either at 0 the driver is called for every packet (COAL-D-11)."""
    pending: i64
    """Packets since the last decision to call."""
    due: i64
    """When the oldest of them has waited ``max_usecs``: ns of the clock that frames bring along."""


moderation_at = pointer(Moderation)
MODERATION_SIZE = Moderation.dtype.itemsize


@kernel
def _condition(mod: Moderation, now: i64) -> i64:
    """1 if what is pending may wait no longer (COAL-D-10, COAL-D-11)."""
    if mod.max_packets == 0 or mod.max_usecs == 0:
        return 1
    return 1 if mod.pending >= mod.max_packets or now >= mod.due else 0


@kernel
def call_if_due(dq: DeviceQueue, mod: Moderation, now: i64) -> i64:
    """Call the driver for pending packets if the condition is met at ``now``; 1 if it was called."""
    if mod.pending == 0 or _condition(mod, now) == 0:
        return 0
    mod.pending = 0
    return notify(dq)


@kernel
def signal_used(dq: DeviceQueue, mod: Moderation, packets: i64, now: i64) -> i64:
    """Buffers of ``packets`` packets were just flushed: call the driver, or leave it for later; 1 if it was called."""
    if mod.pending == 0:
        mod.due = now + mod.max_usecs * _NS_PER_US
    mod.pending += packets
    return call_if_due(dq, mod, now)


@entry
def signal_hook(dq: i64, mod: i64, packets: i64, now: i64) -> i64:
    """`signal_used`, as a hook of addresses; with no packets it is `call_if_due`."""
    if packets == 0:
        return call_if_due(device_queue_at(dq), moderation_at(mod), now)
    return signal_used(device_queue_at(dq), moderation_at(mod), packets, now)


class Coalescing:
    """The parameters of all queues, as control commands set them; ``queues`` is what kernels look at."""

    def __init__(self, queues: StructArray[DeviceQueue], pairs: int) -> None:
        """Nothing is coalesced at first; ``now`` is the time in ns, which whoever runs the device moves."""
        self.now = 0
        self._device_queues = queues
        self.queues: StructArray[Moderation] = array_of(Moderation, 2 * pairs)
        self.reset()

    def reset(self) -> None:
        """All parameters are 0 and nothing is pending (COAL-D-09)."""
        self._by_direction = [Coalesce(), Coalesce()]
        self.queues.view[:] = 0

    def set_direction(self, direction: int, parameters: Coalesce) -> None:
        """Give all receive (0) or transmit (1) queues new parameters, those included that are enabled later."""
        self._by_direction[direction] = parameters
        for index in range(direction, len(self.queues), 2):
            self.set_queue(index, parameters)

    def set_queue(self, index: int, parameters: Coalesce) -> None:
        """Give one queue new parameters; a notification that they make due is sent at once (COAL-D-13)."""
        mod = self.queues[index]
        if mod.pending:
            mod.due += (parameters.max_usecs - mod.max_usecs) * _NS_PER_US
        mod.max_packets, mod.max_usecs = parameters.max_packets, parameters.max_usecs
        call_if_due(self._device_queues[index], mod, self.now)

    def flush(self) -> None:
        """Send all that is held back, however early: the device is about to rest."""
        for index, mod in enumerate(self.queues):
            if mod.pending:
                mod.pending = 0
                notify(self._device_queues[index])

    def get_queue(self, index: int) -> Coalesce:
        """The parameters of a queue."""
        mod = self.queues[index]
        return Coalesce(mod.max_packets, mod.max_usecs)

    def queue_reset(self, index: int) -> None:
        """A queue is gone, and with it the call that it owed."""
        self.queues[index].pending = 0

    def queue_enabled(self, index: int) -> None:
        """Start a queue, for the first time or again, with its direction's parameters (COAL-D-05, COAL-D-06)."""
        parameters = self._by_direction[index % 2]
        mod = self.queues[index]
        mod.pending = 0
        mod.max_packets, mod.max_usecs = parameters.max_packets, parameters.max_usecs
