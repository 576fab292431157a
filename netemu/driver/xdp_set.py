"""Attaching an XDP program to an interface, and taking it off: virtnet_xdp_set."""

from __future__ import annotations

from netemu.driver.probe import VirtioNet
from netemu.driver.refill import XDP_HEADROOM, XDP_ROOM
from netemu.driver.virtnet import MODE_BIG, MODE_MERGEABLE, NAPI_POLL_WEIGHT, SQ_SIZE
from netemu.driver.xdp import receive_xdp
from netemu.driver.xdp_verdict import RECORD_SIZE, XdpQueue, flush_xdp
from netemu.errors import ConfigError
from netemu.jit import Buffer, StructArray, allocate, array_of, hook, load64, load_together
from netemu.pages import PAGE_SIZE, Pages
from netemu.skb import MAX_SKB_FRAGS, Frag
from netemu.virtio import features as f
from netemu.virtio.control import OFFLOAD_BITS
from netemu.xdp import ETH_HLEN, XdpBuff, XdpProgram

REDIRECTS_SIZE = 8 << 20
"""Bytes of a queue's redirected frames between two looks at them."""
_FREE_PAGES = 2 * NAPI_POLL_WEIGHT

_OFFLOADS = (f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO)
_OFFLOADS_5_0 = (*_OFFLOADS, f.GUEST_CSUM, f.GUEST_USO4, f.GUEST_USO6)


class VirtnetXdp:
    """The program of one interface, and what its queues need for it."""

    def __init__(self, driver: VirtioNet) -> None:
        self._driver = driver
        self.program: XdpProgram | None = None
        pairs = driver.vi.max_queue_pairs
        self.queues: StructArray[XdpQueue] = array_of(XdpQueue, pairs)
        self._buffs: StructArray[XdpBuff] = array_of(XdpBuff, pairs)
        self._frags: StructArray[Frag] = array_of(Frag, pairs * MAX_SKB_FRAGS)
        self._owned: list[Pages | Buffer] = []
        self._offloads_before = 0

    def virtnet_xdp_set(self, program: XdpProgram | None) -> None:
        """Attach a program, replace it by another, or with None take it off.

        Raises `ConfigError` where the kernel refuses: offloads that the driver cannot switch off, buffers or an MTU
        that do not go with XDP, send queues that are missing; and for a program that cannot be compiled.
        """
        if program is None:
            if self.program is not None:
                self._take_off()
            return
        self._check(program)
        pairs = 0 if self.program is not None else self._spare_pairs()
        prog = program.hook()
        if self.program is None:
            load_together(receive_xdp, flush_xdp)
            self._give_memory()
            self._add_queues(pairs)
            self._clear_guest_offloads()
        self.program = program
        self._connect(prog, program)

    def _check(self, program: XdpProgram) -> None:
        driver = self._driver
        vi, facts, features = driver.vi, driver.facts, driver.features
        blocking = [bit for bit in (_OFFLOADS_5_0 if facts.xdp_refuses_csum else _OFFLOADS) if bit in features]
        if blocking and f.CTRL_GUEST_OFFLOADS not in features:
            names = ", ".join(f.NAMES[bit] for bit in blocking)
            raise ConfigError(f"no XDP while the host may use {names}: without CTRL_GUEST_OFFLOADS they stay on")
        if vi.mode == MODE_MERGEABLE and vi.any_header_sg == 0:
            raise ConfigError("XDP expects header and data in one buffer: ANY_LAYOUT or VERSION_1 is missing")
        if facts.xdp_mtu_by_room:
            largest = PAGE_SIZE - XDP_ROOM - ETH_HLEN
            limited = not program.frags
        else:
            largest = PAGE_SIZE - facts.padded_vnet_hdr
            limited = True
        if limited and vi.mtu > largest:
            more = ", or a program for frames of several buffers" if facts.xdp_mtu_by_room else ""
            raise ConfigError(f"XDP requires an MTU of at most {largest}, not {vi.mtu}{more}")

    def _spare_pairs(self) -> int:
        """Queue pairs for XDP_TX, one per CPU: as many as are in use; 0 where they are to be shared."""
        vi, facts = self._driver.vi, self._driver.facts
        wanted = 2 * vi.curr_queue_pairs
        if wanted <= vi.max_queue_pairs:
            return vi.curr_queue_pairs
        if not facts.xdp_shares_queues:
            raise ConfigError(f"{facts.name} wants {wanted} queue pairs for XDP, but there are {vi.max_queue_pairs}")
        return 0

    def _give_memory(self) -> None:
        """Pages for frames that are put together, and room for those that are redirected; kept from then on."""
        if self._owned:
            return
        for n, xq in enumerate(self.queues):
            pages = Pages(self._driver.memory, _FREE_PAGES, 0)
            redirects = allocate(REDIRECTS_SIZE)
            self._owned += [pages, redirects]
            xq.pages = pages.pool.address
            xq.redirects = redirects.address
            xq.redirects_size = REDIRECTS_SIZE
            xq.buff = self._buffs[n].address
            self._buffs[n].frags = self._frags.address + n * MAX_SKB_FRAGS * Frag.dtype.itemsize

    def _add_queues(self, pairs: int) -> None:
        vi = self._driver.vi
        first = vi.curr_queue_pairs if pairs else 0
        for n, xq in enumerate(self.queues):
            xq.sq = vi.sq + (first + n % vi.curr_queue_pairs) * SQ_SIZE
        if pairs and not self._driver.control.virtnet_set_queues(vi.curr_queue_pairs + pairs):
            raise ConfigError("the device does not agree to the queue pairs that XDP needs")
        vi.xdp_queue_pairs = pairs

    def _clear_guest_offloads(self) -> None:
        """virtnet_clear_guest_offloads: none, but for checksums in v4.19."""
        control = self._driver.control
        self._offloads_before = control.guest_offloads
        keeps = not self._driver.facts.xdp_refuses_csum and f.GUEST_CSUM in self._driver.features
        if self._offloads_before:
            control.virtnet_set_guest_offloads(1 << OFFLOAD_BITS[f.GUEST_CSUM] if keeps else 0)

    def _connect(self, prog: int, program: XdpProgram) -> None:
        """From here on buffers have headroom, and frames are shown to the program."""
        vi = self._driver.vi
        if vi.mode == MODE_BIG:
            return
        vi.xdp_headroom = XDP_HEADROOM
        for n, rq in enumerate(self._driver.receive_queues):
            xq = self.queues[n]
            xq.prog, xq.has_frags = prog, int(program.frags)
            rq.xdp_queue = xq.address
            rq.xdp_flush = hook(flush_xdp)
            rq.xdp = hook(receive_xdp)

    def _take_off(self) -> None:
        vi, control = self._driver.vi, self._driver.control
        self.program = None
        vi.xdp_headroom = 0
        for rq in self._driver.receive_queues:
            rq.xdp = 0
        if self._offloads_before:
            control.virtnet_set_guest_offloads(self._offloads_before)
        if vi.xdp_queue_pairs:
            control.virtnet_set_queues(vi.curr_queue_pairs - vi.xdp_queue_pairs)
            vi.xdp_queue_pairs = 0

    @property
    def sent_away(self) -> int:
        """Frames that programs had sent back or elsewhere."""
        return sum(xq.sent_back + xq.redirected for xq in self.queues)

    def take_redirected(self) -> list[tuple[int, int, int, int, bytes]]:
        """Frame number, time, queue, target and bytes of the frames that were redirected since it was last asked."""
        taken = []
        for n, xq in enumerate(self.queues):
            at = 0
            while at < xq.redirects_flushed:
                number, tstamp, queue, target, length = (load64(xq.redirects + at + 8 * field) for field in range(5))
                at += RECORD_SIZE
                taken.append((number, tstamp, queue, target, self._bytes(n, at, length)))
                at += length + -length % 8
        self.forget_redirected()
        return sorted(taken)

    def forget_redirected(self) -> None:
        """Make room for more redirected frames; between polls all of them have left the driver."""
        for xq in self.queues:
            xq.redirects_used = xq.redirects_flushed = 0

    def _bytes(self, queue: int, at: int, length: int) -> bytes:
        redirects = self._owned[2 * queue + 1]
        assert isinstance(redirects, Buffer)
        return redirects.array[at : at + length].tobytes()
