"""The main job: captures through the receive path, into a capture, with everything counted.

`options` says how, `replay` does it; `received_capture` and `sent_capture` write what came of it, `journey` puts a
frame's way into words, `summary` gathers what was counted.
"""

from netemu.replay.options import Encap, HostOffloads, ReplayOptions
from netemu.replay.replay import Replay

__all__ = ["Encap", "HostOffloads", "Replay", "ReplayOptions"]
