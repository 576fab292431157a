"""Which policy a queue has: none is tail drop."""

from __future__ import annotations

from netemu.net.codel import CodelPolicy
from netemu.net.red import RedPolicy
from netemu.net.values import Codel, Queue, Red


def policy_of(queue: Queue, rate: int, seed: int) -> RedPolicy | CodelPolicy | None:
    """The policy that a queue of a link with this rate (bit/s) asks for, anew; raises `ConfigError`."""
    if isinstance(queue.policy, Red):
        return RedPolicy(queue.policy, queue, rate, seed)
    if isinstance(queue.policy, Codel):
        return CodelPolicy(queue.policy)
    return None
