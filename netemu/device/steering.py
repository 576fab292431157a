"""Which receive queue a frame goes to: automatic steering, or RSS (sections 5.1.6.5.6 and 5.1.6.5.6.7).

Theory of operation
-------------------
*Automatic* is what VQ_PAIRS_SET turns on (MQ-D-04). A flow that the guest sends goes where it sends it (MQ-D-05); any
other goes by a hash of its addresses and ports, the same in both directions, as Linux's tun does it. A queue that is
being reset is passed over (MQ-D-07): ``places`` says for each queue which one takes its frames.

*RSS* is what RSS_CONFIG turns on: the hash of `netemu.device.rss` chooses an entry of the indirection table
(RSS-D-03), a frame without one goes to the unclassified queue (RSS-D-02). Nothing is passed over: the frame of a queue
that is being reset is dropped (RSS-D-04), as `netemu.device.receive` finds no queue set up there.

A device that neither hashes nor learns from what is sent needs none of this: `select_queue` then takes the flow's own
hash, or the only queue. Everything else is behind a hook, so that only those compile it who use it.
"""

from __future__ import annotations

from collections.abc import Sequence

from netemu.device.flow_table import Flows, flow_find, flow_table_at, flow_update
from netemu.device.rss import Rss, hash_frame, rss_state_at
from netemu.errors import ConfigError
from netemu.jit import (
    Struct,
    allocate,
    call4,
    entry,
    hook,
    i64,
    kernel,
    load8,
    load16,
    load16be,
    load32,
    load64,
    pointer,
    struct,
)
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.rss import HASH_REPORT_NONE, HashConfig, RssConfig

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
_MIX = 0x9E3779B1


@struct
class Steering(Struct):
    """What the choice of a queue needs."""

    pairs: i64
    """Queue pairs that are enabled: 1, until VQ_PAIRS_SET says more (MQ-D-02)."""
    places: i64
    """Host address of a number of 16 bits for each pair: the queue that takes its frames."""
    flows: i64
    """Address of the `FlowTable`."""
    rss: i64
    """Address of the `RssState`."""
    steer: i64
    """Hook that chooses where there is more to it than the flow's own hash; 0: there is not."""


steering_at = pointer(Steering)


@kernel
def flow_hash(frame: i64, length: i64) -> i64:
    """A 32-bit number from the addresses and ports of an IP frame, else from the MAC addresses; 0 for a short frame."""
    if length < 14:
        return 0
    at = 12
    kind = load16be(frame + at)
    while kind in (0x8100, 0x88A8) and at + 6 <= length:
        at += 4
        kind = load16be(frame + at)
    at += 2
    ports = 0
    if kind == ETH_P_IP and length >= at + 20:
        total = load32(frame + at + 12) ^ load32(frame + at + 16)
        protocol = load8(frame + at + 9)
        fragment = load16be(frame + at + 6) & 0x3FFF
        ports = at + 4 * (load8(frame + at) & 0xF) if fragment == 0 else 0
    elif kind == ETH_P_IPV6 and length >= at + 40:
        both = load64(frame + at + 8) ^ load64(frame + at + 16) ^ load64(frame + at + 24) ^ load64(frame + at + 32)
        total = (both & 0xFFFFFFFF) ^ ((both >> 32) & 0xFFFFFFFF)
        protocol = load8(frame + at + 6)
        ports = at + 40
    else:
        total = load32(frame) ^ load32(frame + 6) ^ load16(frame + 4) ^ load16(frame + 10)
        protocol = kind
    if protocol in (6, 17) and 0 < ports <= length - 4:
        total ^= load16be(frame + ports) ^ load16be(frame + ports + 2)
    total = ((total ^ protocol) * _MIX) & 0xFFFFFFFF
    total ^= total >> 15
    return (total * _MIX) & 0xFFFFFFFF


@kernel
def _place(s: Steering, queue: i64) -> i64:
    return load16(s.places + 2 * queue)


@kernel
def _automatic(s: Steering, frame: i64, length: i64, now: i64) -> i64:
    """The queue that the guest sends the flow on, else one by the flow's hash (MQ-D-05, MQ-D-06)."""
    if s.pairs == 1:
        return _place(s, 0)
    flow = flow_hash(frame, length)
    queue = flow_find(flow_table_at(s.flows), flow, now)
    if not 0 <= queue < s.pairs:
        queue = (flow * s.pairs) >> 32
    return _place(s, queue)


@entry
def steer(steering: i64, frame: i64, length: i64, now: i64) -> i64:
    """Hash the frame as configured, leaving value and report in the `RssState`; the receive queue."""
    s = steering_at(steering)
    state = rss_state_at(s.rss)
    report = hash_frame(state, frame, length)
    if state.rss == 0:
        return _automatic(s, frame, length, now)
    if report == HASH_REPORT_NONE:
        return state.unclassified
    return load16(state.table + 2 * (state.hash_value & state.mask))


@kernel
def select_queue(steering: i64, frame: i64, length: i64, now: i64) -> i64:
    """The receive queue, from 0; ``steering`` is the address of a `Steering`, ``now`` the time in ns."""
    s = steering_at(steering)
    if s.steer != 0:
        return call4(s.steer, steering, frame, length, now)
    if s.pairs == 1:
        return _place(s, 0)
    return _place(s, (flow_hash(frame, length) * s.pairs) >> 32)


@kernel
def flow_learn(steering: i64, frame: i64, length: i64, queue: i64, now: i64) -> None:
    """The guest sent a frame on transmit queue ``queue`` at time ``now`` (ns): its flow comes back there (MQ-D-05)."""
    s = steering_at(steering)
    if s.pairs > 1:
        flow_update(flow_table_at(s.flows), flow_hash(frame, length), queue, now)


class Steerer:
    """A device's `Steering`, with the tables behind it; the control plane's side of it.

    Commands of the control queue come here, those about hashing too (`rss` does them).
    """

    def __init__(self, rss: Rss, pairs: int) -> None:
        """For a device with up to ``pairs`` queue pairs, of which one is enabled."""
        self.rss = rss
        self._limit = pairs
        self._flows = Flows()
        self._places = allocate(2 * pairs)
        self._resetting: frozenset[int] = frozenset()
        self._learns = False
        self.state = Steering(places=self._places.address, flows=self._flows.table.address, rss=rss.state.address)
        self.reset()

    def reset(self) -> None:
        """After a device reset only receiveq1 is used (MQ-D-02), and no flow is known."""
        self.rss.reset()
        self._flows.clear()
        self._resetting = frozenset()
        self.state.pairs = 1
        self.update()

    def start(self, features: FeatureSet) -> int:
        """The driver has negotiated ``features``: the address of the `RssState` that headers report, 0 without one."""
        self.rss.start(features)
        return self.rss.state.address if f.HASH_REPORT in features else 0

    def configure_rss(self, config: RssConfig) -> None:
        """RSS_CONFIG; raises `ConfigError` where `Rss` refuses it."""
        self.rss.configure_rss(config)
        self.update()

    def configure_hash(self, config: HashConfig) -> None:
        """HASH_CONFIG; raises `ConfigError` where `Rss` refuses it."""
        self.rss.configure_hash(config)
        self.update()

    def configure_tunnels(self, mask: int) -> None:
        """HASH_TUNNEL_SET; raises `ConfigError` where `Rss` refuses it."""
        self.rss.configure_tunnels(mask)

    def set_pairs(self, pairs: int) -> None:
        """VQ_PAIRS_SET: steer automatically over the first ``pairs`` receive queues (MQ-D-03, MQ-D-04).

        Raises `ConfigError` for a number there cannot be.
        """
        if not 1 <= pairs <= self._limit:
            raise ConfigError(f"{pairs} queue pairs of 1 to {self._limit} (MQ-V-03)")
        self.state.pairs = pairs
        self.rss.use_automatic_steering()
        self.update()

    def learn(self, *, on: bool = True) -> None:
        """Frames that the guest sends are shown to `flow_learn` from now on (or no longer)."""
        self._learns = on
        self.update()

    def set_resetting(self, queues: Sequence[int]) -> None:
        """The receive queues that are being reset, by number; automatic steering passes them over (MQ-D-07)."""
        self._resetting = frozenset(queues)
        self.update()

    def update(self) -> None:
        """Take over what was changed."""
        state = self.state
        usable = [queue for queue in range(state.pairs) if queue not in self._resetting]
        for queue in range(state.pairs):
            place = queue if queue in usable or not usable else usable[queue % len(usable)]
            self._places.array[2 * queue : 2 * queue + 2] = bytearray(place.to_bytes(2, "little"))
        wanted = self.rss.hashes or (self._learns and state.pairs > 1)
        state.steer = hook(steer) if wanted else 0
        if not self.rss.hashes:
            self.rss.state.hash_value = self.rss.state.hash_report = 0
