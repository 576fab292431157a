"""What a guest has turned on beside its driver: GRO, XDP, and the log of what became of frames that did not come up."""

from __future__ import annotations

from dataclasses import dataclass

from netemu.driver.probe import VirtioNet
from netemu.driver.xdp_set import VirtnetXdp
from netemu.fates import Fate, Fates
from netemu.gro import GroState, gro_at, napi_gro_flush, napi_gro_receive
from netemu.jit import hook, load_together
from netemu.outstanding import Outstanding
from netemu.xdp import XdpProgram


@dataclass(frozen=True, slots=True)
class Redirected:
    """A frame that an XDP program redirected: its number, time (ns), receive queue, the target it named, its bytes."""

    frame_id: int
    tstamp: int
    queue: int
    target: int
    data: bytes


class Guest:
    """Hooks on the receive queues of one driver; `netemu.nic.Nic` has one."""

    def __init__(self, driver: VirtioNet, *, gro: bool) -> None:
        """With ``gro`` segments of a TCP flow are merged as the driver's kernel does it."""
        self._driver = driver
        self._fates: list[Fates] = []
        self._gro: list[GroState] = []
        self.gro = gro
        self.outstanding: Outstanding | None = None
        """Frames that a ring may lose; see `keep_count`."""
        self.xdp: VirtnetXdp | None = None
        """There once a program was attached."""
        if gro:
            self._turn_gro_on()

    def _turn_gro_on(self) -> None:
        load_together(napi_gro_receive, napi_gro_flush)
        facts = self._driver.facts
        for rq in self._driver.receive_queues:
            state = GroState(
                hop_limit_is_flow=facts.gro_hop_limit_is_flow,
                compares_cwr=facts.gro_compares_cwr,
                fixed_id_without_df=facts.gro_fixed_id_without_df,
            )
            rq.gro, rq.gro_receive, rq.gro_flush = state.address, hook(napi_gro_receive), hook(napi_gro_flush)
            self._gro.append(state)

    def attach_xdp(self, program: XdpProgram | None) -> None:
        """Have a program see each frame first; None takes it off. Raises `ConfigError` where the driver refuses."""
        if self.xdp is None:
            self.xdp = VirtnetXdp(self._driver)
        self.xdp.virtnet_xdp_set(program)

    def take_redirected(self) -> list[Redirected]:
        """The frames that programs redirected since it was last asked, in order of arrival."""
        return [Redirected(*one) for one in self.xdp.take_redirected()] if self.xdp is not None else []

    def forget_redirected(self) -> None:
        """Make room for more redirected frames without looking at those there are."""
        if self.xdp is not None:
            self.xdp.forget_redirected()

    @property
    def sent_away(self) -> int:
        """Frames that XDP programs had sent back or elsewhere."""
        return self.xdp.sent_away if self.xdp is not None else 0

    @property
    def merged(self) -> int:
        """Frames that GRO merged into others."""
        return sum(state.struct.merged for state in self._gro)

    def keep_count(self) -> int:
        """Follow each frame through the rings, as these may lose some; the address of the book, for the loop."""
        self.outstanding = Outstanding()
        self.log_fates(0)
        return self.outstanding.address

    def log_fates(self, capacity: int) -> None:
        """Note what becomes of frames that do not come up; 0: do not. There is room for ``capacity`` per queue.

        A ring's worth more fits, since a frame may lie in the ring when the log is emptied.
        """
        self._fates = []
        for n, rq in enumerate(self._driver.receive_queues):
            rq.fates = 0
            if capacity or self.outstanding is not None:
                size = capacity + self._driver.rings[2 * n].num if capacity else 0
                self._fates.append(Fates(size, self.outstanding.address if self.outstanding is not None else 0))
                rq.fates = self._fates[n].address
            if rq.gro:
                gro_at(rq.gro).fates = rq.fates

    def take_fates(self) -> list[tuple[int, Fate, int]]:
        """(frame number, fate, what belongs to it) of those noted since it was last asked."""
        return [entry for fates in self._fates for entry in fates.take()]
