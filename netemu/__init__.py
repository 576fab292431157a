"""netemu: a virtio-net link you can hold in your hand.

    from netemu import Nic, read_capture

    nic = Nic(mode="mergeable")
    for received in nic.receive(frame.data for frame in read_capture("pcaps/web.pcapng")):
        print(len(received.data), received.skb.nr_frags, len(received.buffers))

    from netemu import Lab

    with Lab() as lab:
        a, b = lab.guest("a", "10.0.0.1/24"), lab.guest("b", "10.0.0.2/24")
        lab.link(a, b, "delay 10ms")
        print(lab.run(a.ping(b)))

The names below are imported when they are first used: NumPy takes a while. docs/labs.md is about labs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netemu.capture import CaptureWriter, open_capture, read_capture
    from netemu.errors import CaptureError, ConfigError, NetemuError
    from netemu.lab import Guest, Lab
    from netemu.nic import Nic, ReceivedSkb
    from netemu.replay import Replay, ReplayOptions
    from netemu.skb import Skb

_HOMES = {
    "CaptureError": "netemu.errors",
    "CaptureWriter": "netemu.capture",
    "ConfigError": "netemu.errors",
    "Guest": "netemu.lab",
    "Lab": "netemu.lab",
    "NetemuError": "netemu.errors",
    "Nic": "netemu.nic",
    "ReceivedSkb": "netemu.nic",
    "Replay": "netemu.replay",
    "ReplayOptions": "netemu.replay",
    "Skb": "netemu.skb",
    "open_capture": "netemu.capture",
    "read_capture": "netemu.capture",
}

__all__ = [
    "CaptureError",
    "CaptureWriter",
    "ConfigError",
    "Guest",
    "Lab",
    "NetemuError",
    "Nic",
    "ReceivedSkb",
    "Replay",
    "ReplayOptions",
    "Skb",
    "open_capture",
    "read_capture",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module 'netemu' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names too, though none is loaded yet."""
    return sorted({*globals(), *__all__})
