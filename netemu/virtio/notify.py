"""The notifications that the halves share besides memory: kick (driver to device), call and config (device to driver).

In one process a notification is a number that goes up; whoever runs the halves looks at it and clears it. A real
peer puts an eventfd in its place (section "Notifications"; NOTIF-B-01). What a kick carries beside the fact that it
happened is a word, as a driver writes it into a notification register.
"""

from __future__ import annotations

from netemu.jit import Struct, i64, kernel, pointer, struct


@struct
class Doorbell(Struct):
    """Notifications of one virtqueue that wait to be looked at, and how many there were."""

    kick: i64
    call: i64
    kick_count: i64
    call_count: i64
    data: i64
    """The word of the last kick: see `notification_data`."""


doorbell_at = pointer(Doorbell)


@kernel
def notification_data(index: i64, next_off: i64, next_wrap: i64) -> i64:
    """The word a kick carries under NOTIFICATION_DATA: 16 bits of queue index, 15 of offset, the wrap (NOTIF-V-02)."""
    return (index & 0xFFFF) | ((next_off & 0x7FFF) << 16) | ((next_wrap & 1) << 31)


@kernel
def ring_kick(address: i64, data: i64) -> None:
    """Driver to device: there are available buffers; ``data`` is the queue's index, or a `notification_data` word."""
    bell = doorbell_at(address)
    bell.data = data
    bell.kick = 1
    bell.kick_count += 1


@kernel
def ring_call(address: i64) -> None:
    """Device to driver: there are used buffers."""
    bell = doorbell_at(address)
    bell.call = 1
    bell.call_count += 1


class ConfigBell:
    """The configuration-change notification of one device, which has no queue of its own."""

    def __init__(self) -> None:
        self.pending = False
        """The device has rung and nobody has looked yet."""
        self.count = 0
        """Times it rang."""

    def ring(self) -> None:
        """Device to driver: the configuration has changed, or DEVICE_NEEDS_RESET is set."""
        self.pending = True
        self.count += 1

    def take(self) -> bool:
        """Whether it rang since the last look."""
        rang = self.pending
        self.pending = False
        return rang
