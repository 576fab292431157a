"""The links and switches of a lab: those of `netemu.net` with a name."""

from __future__ import annotations

from netemu.net.link import Link
from netemu.net.options import LinkOptions
from netemu.net.port import Port
from netemu.net.switch import Switch
from netemu.net.world import World


class LabLink(Link):
    """A link with a name."""

    def __init__(self, name: str, world: World, ends: tuple[Port, Port], options: LinkOptions, *, seed: int) -> None:
        """Join the two ``ends``."""
        super().__init__(world.timers, world.wires, *ends, options, seed=seed)
        self.name = name

    def __repr__(self) -> str:
        """What it is and its name."""
        return f"<link {self.name}>"


class LabSwitch(Switch):
    """A switch with a name."""

    def __init__(self, name: str, world: World) -> None:
        """A switch without ports."""
        super().__init__(world.timers)
        self.name = name

    def __repr__(self) -> str:
        """What it is and its name."""
        return f"<switch {self.name}>"
