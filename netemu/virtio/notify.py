"""The notifications that a queue's halves share besides memory: kick (driver to device), call (device to driver).

In one process a notification is a number that goes up; whoever runs the halves looks at it and clears it. A real
peer puts an eventfd in its place (section "Notifications"; NOTIF-B-01).
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


doorbell_at = pointer(Doorbell)


@kernel
def ring_kick(address: i64) -> None:
    """Driver to device: there are available buffers."""
    bell = doorbell_at(address)
    bell.kick = 1
    bell.kick_count += 1


@kernel
def ring_call(address: i64) -> None:
    """Device to driver: there are used buffers."""
    bell = doorbell_at(address)
    bell.call = 1
    bell.call_count += 1
