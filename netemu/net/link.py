"""A link: two ports, and a direction each way. See `netemu.net.direction` for the way of a frame through it."""

from __future__ import annotations

from typing import Any

from netemu.errors import ConfigError
from netemu.jit import hook
from netemu.net.direction import Direction
from netemu.net.impairing import Impairing
from netemu.net.line import line_due, single_due
from netemu.net.link_send import link_send, lose_all
from netemu.net.netem_words import Tables
from netemu.net.options import LinkOptions
from netemu.net.policies import policy_of
from netemu.net.port import Port
from netemu.net.stats import LinkStats
from netemu.net.transmitter import frame_sent
from netemu.net.values import SLOT_LIMIT, Queue, Rate
from netemu.net.wire_frame import WireFrames
from netemu.timers import TimerQueue


class LinkDirection:
    """One direction of a link; ``struct`` is what kernels see of it.

    What is set holds from the next frame on: frames in the queue stay there, and those under way arrive when they were
    to arrive.
    """

    def __init__(self, timers: TimerQueue, frames: WireFrames, to: Port, options: LinkOptions, seed: int) -> None:
        """Frames will arrive at ``to``. ``seed`` is that of its chances, unless ``options`` has one."""
        self._timers = timers
        self.struct = Direction(
            timers=timers.struct.address,
            pool=frames.pool.address,
            port=to.address,
            up=1,
            on_sent=hook(frame_sent),
            on_due=hook(line_due),
            on_single=hook(single_due),
        )
        self.options = LinkOptions()
        self._seed = seed
        self._impairing = Impairing(self.struct)
        self._impairing.seed(seed)
        self._policy = policy_of(Queue(), 0, seed)
        self._use(options)

    def set(self, text: str = "", *, tables: Tables | None = None, **words: Any) -> None:
        """Change what the words name; the rest stays as it is. Raises `ConfigError`, and then changes nothing."""
        self._use(self.options.changed(text, tables=tables, **words))

    def reset(self, options: LinkOptions) -> None:
        """Have ``options`` and nothing else, as a link that is made with them."""
        self._use(options)

    def up(self) -> None:
        """Let frames through."""
        self.struct.up = 1

    def down(self) -> None:
        """Let nothing through; what is on its way is lost."""
        self.struct.up = 0
        lose_all(self.struct.address)

    @property
    def is_up(self) -> bool:
        """Whether frames get through."""
        return self.struct.up != 0

    def stats(self) -> LinkStats:
        """What it has counted."""
        return LinkStats.of(self.struct)

    def _use(self, new: Any) -> None:
        """Put options into the struct that kernels read."""
        old: Any = self.options
        s = self.struct
        rate = new.rate or Rate(0)
        queue = new.queue or Queue()
        if queue != (old.queue or Queue()) or (queue.policy is not None and rate.rate != s.rate):
            self._policy = policy_of(queue, rate.rate, self._seed)
            s.admit, s.pick, s.policy = self._policy.hooks() if self._policy is not None else (0, 0, 0)
        s.limit = SLOT_LIMIT if new.limit is None and new.slot is not None else new.limit or 0
        s.mtu = new.mtu or 0
        s.rate, s.overhead, s.cell, s.cell_overhead = rate.rate, rate.overhead, rate.cell, rate.cell_overhead
        s.rest = 0
        s.queue_limit, s.queue_limit_bytes = queue.packets, queue.bytes
        s.delay = new.delay.time if new.delay else 0
        if new.seed is not None and new.seed != old.seed:
            self._seed = new.seed
            self._impairing.seed(new.seed)
        self._impairing.use(old, new)
        self.options = new


class Link:
    """Two ports joined: what one sends the other receives, after what the link does to it.

    Example::

        timers, frames = TimerQueue(), WireFrames()
        link = Link(timers, frames, port_a, port_b, LinkOptions.of("delay 10ms loss 1%", rate="100mbit", queue="100p"))
        link.set("loss 0%")
        link.forward.set(rate="1mbit")
    """

    def __init__(
        self,
        timers: TimerQueue,
        frames: WireFrames,
        a: Port,
        b: Port,
        options: LinkOptions | None = None,
        *,
        forward: LinkOptions | None = None,
        backward: LinkOptions | None = None,
        seed: int = 1,
    ) -> None:
        """Plug ``a`` and ``b`` in.

        ``options`` are those of both directions, unless ``forward`` (from ``a`` to ``b``) or ``backward`` has others.
        ``seed`` is the link's own: two links with the same seed have the same chances. Raises `ConfigError` if a port
        has a link already.
        """
        if a.link or b.link:
            raise ConfigError("a port takes one link: unplug the other one first")
        both = options or LinkOptions()
        self.ports = (a, b)
        self.forward = LinkDirection(timers, frames, b, forward or both, 2 * seed)
        self.backward = LinkDirection(timers, frames, a, backward or both, 2 * seed + 1)
        send = hook(link_send)
        for port, direction in ((a, self.forward), (b, self.backward)):
            port.link, port.send = direction.struct.address, send

    @property
    def directions(self) -> tuple[LinkDirection, LinkDirection]:
        """Forward, backward."""
        return self.forward, self.backward

    def set(self, text: str = "", *, tables: Tables | None = None, **words: Any) -> None:
        """Change what the words name, both ways. Raises `ConfigError`, and then changes nothing."""
        changed = [direction.options.changed(text, tables=tables, **words) for direction in self.directions]
        for direction, options in zip(self.directions, changed, strict=True):
            direction.reset(options)

    def up(self) -> None:
        """Let frames through, both ways."""
        for direction in self.directions:
            direction.up()

    def down(self) -> None:
        """Let nothing through; what is on its way is lost, both ways."""
        for direction in self.directions:
            direction.down()

    @property
    def is_up(self) -> bool:
        """Whether frames get through, one way at least."""
        return any(direction.is_up for direction in self.directions)

    def unplug(self) -> None:
        """Take the link out of its ports; what is on its way is lost."""
        self.down()
        for port in self.ports:
            port.link, port.send = 0, 0
