"""Dynamic interrupt moderation: how long a receive queue's interrupts are held back follows from its traffic.

After Linux's lib/dim (net_dim) and virtio_net's use of it (virtnet_rx_dim_update, virtnet_rx_dim_work; v6.8).

Theory of operation
-------------------
A `Dim` walks along five profiles, from little to much coalescing. After every 64 interrupts (`DIM_NEVENTS`) it looks at
what they brought: bytes, packets and interrupts per millisecond, in this order of importance. Better than the last time
means one more step the same way, anything else a turn. When it has come over a top it parks there until the traffic
changes; when it has walked to and fro for too long it rests.

Samples are taken when a poll really completes, by a hook (`virtnet_rx_dim_update`), since only few want it. A new
profile is sent to the device by a work item, which `RxDim.run_work` is the turn of.
"""

from __future__ import annotations

from netemu.driver.control import VirtnetControl
from netemu.driver.virtnet import ReceiveQueue, rq_at, vi_at
from netemu.jit import Struct, StructArray, array_of, entry, hook, i64, kernel, pointer, struct
from netemu.virtio.control import Coalesce

DIM_NEVENTS = 64
PROFILES = tuple(Coalesce(max_packets=256, max_usecs=usecs) for usecs in (1, 8, 64, 128, 256))
"""Receive profiles where the period starts with an event (DIM_CQ_PERIOD_MODE_START_FROM_EQE)."""
_PROFILE_COUNT = len(PROFILES)

# Dim.state
START_MEASURE = 0
MEASURE_IN_PROGRESS = 1
APPLY_NEW_PROFILE = 2

# Dim.tune_state
PARKING_ON_TOP = 0
PARKING_TIRED = 1
GOING_RIGHT = 2
GOING_LEFT = 3

_SAME = 0
_WORSE = 1
_BETTER = 2

_STEPPED = 0
_ON_EDGE = 1
_TOO_TIRED = 2


@struct
class Dim(Struct):
    """struct dim of one receive queue."""

    state: i64
    tune_state: i64
    profile_ix: i64
    steps_right: i64
    steps_left: i64
    tired: i64
    """Steps since it last parked, up to twice the number of profiles."""
    start_time: i64
    start_events: i64
    start_packets: i64
    start_bytes: i64
    """The sample that the measurement began with; time in ns."""
    bpms: i64
    ppms: i64
    epms: i64
    """Bytes, packets and events per millisecond of the last measurement that counted."""


dim_at = pointer(Dim)
_DIM_SIZE = Dim.dtype.itemsize


@kernel
def _compare(now: i64, before: i64) -> i64:
    """_BETTER for more, _WORSE for less, _SAME within ten per cent."""
    if before == 0:
        return _BETTER if now != 0 else _SAME
    if 100 * abs(now - before) // before <= 10:
        return _SAME
    return _BETTER if now > before else _WORSE


@kernel
def net_dim_stats_compare(dim: Dim, bpms: i64, ppms: i64, epms: i64) -> i64:
    """How a measurement compares with the last: by bytes, if these are the same by packets, then by few events."""
    result = _compare(bpms, dim.bpms)
    if result != _SAME or dim.bpms == 0:
        return result
    result = _compare(ppms, dim.ppms)
    if result != _SAME or dim.ppms == 0:
        return result
    if dim.epms == 0:
        return _SAME
    result = _compare(epms, dim.epms)
    return _SAME if result == _SAME else _WORSE if result == _BETTER else _BETTER


@kernel
def _step(dim: Dim) -> i64:
    """One profile on in the direction at hand, if there is one and strength for it."""
    if dim.tired == 2 * _PROFILE_COUNT:
        return _TOO_TIRED
    if dim.tune_state == GOING_RIGHT:
        if dim.profile_ix == _PROFILE_COUNT - 1:
            return _ON_EDGE
        dim.profile_ix += 1
        dim.steps_right += 1
    elif dim.tune_state == GOING_LEFT:
        if dim.profile_ix == 0:
            return _ON_EDGE
        dim.profile_ix -= 1
        dim.steps_left += 1
    dim.tired += 1
    return _STEPPED


@kernel
def _turn(dim: Dim) -> None:
    """Walk the other way from now on."""
    if dim.tune_state == GOING_RIGHT:
        dim.tune_state = GOING_LEFT
        dim.steps_left = 0
    else:
        dim.tune_state = GOING_RIGHT
        dim.steps_right = 0


@kernel
def _on_top(dim: Dim) -> i64:
    """1 if it came here by one step back after several forward: the profile before this one was the best."""
    if dim.tune_state == GOING_RIGHT:
        return 1 if dim.steps_left > 1 and dim.steps_right == 1 else 0
    return 1 if dim.steps_right > 1 and dim.steps_left == 1 else 0


@kernel
def _park(dim: Dim, where: i64) -> None:
    """Stay at this profile: until the traffic changes (PARKING_ON_TOP), or for a while (PARKING_TIRED)."""
    dim.steps_right = dim.steps_left = 0
    if where == PARKING_ON_TOP:
        dim.tired = 0
    dim.tune_state = where


@kernel
def _exit_parking(dim: Dim) -> None:
    """Walk again: to less coalescing first, where there is less."""
    dim.tune_state = GOING_LEFT if dim.profile_ix != 0 else GOING_RIGHT
    _step(dim)


@kernel
def net_dim_decision(dim: Dim, bpms: i64, ppms: i64, epms: i64) -> i64:
    """Judge a measurement; 1 if another profile is to be applied."""
    before = dim.profile_ix
    was = dim.tune_state
    if was == PARKING_ON_TOP:
        if net_dim_stats_compare(dim, bpms, ppms, epms) != _SAME:
            _exit_parking(dim)
    elif was == PARKING_TIRED:
        dim.tired -= 1
        if dim.tired == 0:
            _exit_parking(dim)
    else:
        if net_dim_stats_compare(dim, bpms, ppms, epms) != _BETTER:
            _turn(dim)
        if _on_top(dim) != 0:
            _park(dim, PARKING_ON_TOP)
        else:
            result = _step(dim)
            if result == _ON_EDGE:
                _park(dim, PARKING_ON_TOP)
            elif result == _TOO_TIRED:
                _park(dim, PARKING_TIRED)
    if was != PARKING_ON_TOP or dim.tune_state != PARKING_ON_TOP:
        dim.bpms, dim.ppms, dim.epms = bpms, ppms, epms
    return 1 if dim.profile_ix != before else 0


@kernel
def _per_ms(count: i64, usecs: i64) -> i64:
    return (count * 1000 + usecs - 1) // usecs


@kernel
def net_dim(dim: Dim, now: i64, events: i64, packets: i64, size: i64) -> None:
    """Take a sample: counters of events, packets and bytes at time ``now`` (ns). What is due is left in ``state``."""
    if dim.state == APPLY_NEW_PROFILE:
        return
    if dim.state == MEASURE_IN_PROGRESS:
        if (events - dim.start_events) & 0xFFFF < DIM_NEVENTS:
            return
        usecs = ((now - dim.start_time) // 1000) & 0xFFFFFFFF
        if usecs == 0:
            return
        bpms = _per_ms((size - dim.start_bytes) & 0xFFFFFFFF, usecs)
        ppms = _per_ms((packets - dim.start_packets) & 0xFFFFFFFF, usecs)
        if net_dim_decision(dim, bpms, ppms, _per_ms(DIM_NEVENTS, usecs)) != 0:
            dim.state = APPLY_NEW_PROFILE
            return
    dim.start_time = now
    dim.start_events = events
    dim.start_packets = packets
    dim.start_bytes = size
    dim.state = MEASURE_IN_PROGRESS


@entry
def virtnet_rx_dim_update(rq_address: i64) -> i64:
    """A poll of a receive queue has completed: sample it, if it received anything; always 0."""
    rq = rq_at(rq_address)
    if rq.packets_in_napi != 0:
        net_dim(dim_at(rq.dim), vi_at(rq.vi).now, rq.interrupts, rq.packets, rq.bytes)
        rq.packets_in_napi = 0
    return 0


class RxDim:
    """Moderation of all receive queues of an interface."""

    def __init__(self, queues: StructArray[ReceiveQueue], control: VirtnetControl) -> None:
        """Moderation is off at first (adaptive-rx off)."""
        self._queues = queues
        self._control = control
        self.dims: StructArray[Dim] = array_of(Dim, len(queues))
        self.enabled = False

    def enable(self, *, on: bool) -> None:
        """Switch it; queues keep the last parameters it chose. The device has to have VQ_NOTF_COAL."""
        self.enabled = on
        for n, rq in enumerate(self._queues):
            rq.dim = self.dims.address + n * _DIM_SIZE
            rq.dim_update = hook(virtnet_rx_dim_update) if on else 0
            rq.packets_in_napi = 0

    def run_work(self) -> None:
        """virtnet_rx_dim_work: send the new profile of each queue that has one."""
        if not self.enabled:
            return
        for n, dim in enumerate(self.dims):
            if dim.state == APPLY_NEW_PROFILE:
                profile = PROFILES[dim.profile_ix]
                if profile != self._control.coalesce_of(2 * n, transmit=False):
                    self._control.virtnet_send_ctrl_coal_vq_cmd(2 * n, profile)
                dim.state = START_MEASURE
