"""The other stage: segments of a flow are merged into large frames, as Linux's GRO does it.

Theory of operation
-------------------
`coalesce` goes through a batch of frames in *cycles*, which stand for polls of a network card: a cycle ends after
``budget`` frames, or with the first frame that comes more than ``flush_ns`` after the cycle's first. At its end all
that waits goes up.

A packet that may be merged waits in a slot of the table: a bucket by the hash of its flow, eight slots each. The next
packet of the flow joins it, or sends it up and takes its place; a bucket that is full sends up the oldest. Packets that
may not be merged go up at once, past those of other flows that wait, as they do in Linux. What waits is kept in memory
of the stage's own, and copied once more when it goes up.

A merged frame goes up with a virtio-net header, and with the sum of the pseudo-header in its checksum field: it counts
as verified, and whoever sends it on can have it cut again (tcp_gro_complete, udp_gro_complete, inet_gro_complete).
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import (
    Struct,
    entry,
    i64,
    kernel,
    load8,
    load16be,
    load32,
    load32be,
    load64,
    memcpy,
    pointer,
    store8,
    store16,
    store16be,
    store64,
    struct,
)
from netemu.offload.batch import DONE, FULL, TEMPLATE_BYTES, Batch, arena_take, batch_at, emit, emit_new, has_room
from netemu.offload.dissect import TCP, UDP, Layers, dissect, layers_at
from netemu.offload.flows import (
    CWR,
    FIN,
    FLOW_SIZE,
    LONGEST_PACKET,
    PSH,
    SLOT_BYTES,
    Flow,
    flow_at,
    has_checksum,
    same_flow,
    tcp_ends,
    tcp_joins,
    tcp_waits,
    udp_ends,
    udp_joins,
)
from netemu.offload.judge import PARTIAL, RIGHT, checksum_state, name_checksum
from netemu.offload.reasons import (
    NEVER_MERGED,
    NO_CHECKSUM,
    SNAPPED,
    WHOLE,
    WRONG_CHECKSUM,
    WRONG_IP_CHECKSUM,
)
from netemu.offload.sums import check_at, packet_pseudo_sum, set_ipv4_length
from netemu.offload.vnet import VnetHeader, clear_vnet, load_vnet, store_vnet, vnet_at
from netemu.virtio.net import GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM

FLOWS_PER_BUCKET = 8
"""MAX_GRO_SKBS."""
MAY_MERGE = 64
"""What `_fit` returns beside the reasons why not."""
ALONE = 65
"""The same: it is merged with nothing, but what waits of its flow goes up before it."""
_MIX = 0x9E3779B1
_IP_FLAGS_BUT_DF = 0xBFFF
_LONGEST_LINK_HEADER = SLOT_BYTES - LONGEST_PACKET


@struct
class CoalesceJob(Struct):
    """What the stage is to do, what waits, and what it has done."""

    batch: i64
    """Address of the `Batch`."""
    layers: i64
    """Address of the `Layers` of the frame at hand."""
    held: i64
    """Address of the `Layers` of what goes up."""
    header: i64
    """Address of a `VnetHeader`."""
    flows: i64
    """Address of ``buckets`` times FLOWS_PER_BUCKET `Flow` structs."""
    buckets: i64
    budget: i64
    flush_ns: i64
    udp: i64
    """1: UDP is merged too."""
    cycle: i64
    """Frames of the cycle so far."""
    cycle_start: i64
    """When its first frame came, ns."""
    flushing: i64
    """All that waits is on its way up."""
    ages: i64
    reasons: i64
    """Address of a counter for each `Why`, of frames that may never be merged."""
    merged: i64
    """Frames that went into larger ones, and these."""
    large: i64


coalesce_job_at = pointer(CoalesceJob)


@kernel
def _held_layers(flow: Flow, d: Layers) -> None:
    """The layers of a packet that waits."""
    d.network = flow.network
    d.version = flow.version
    d.transport = flow.transport
    d.payload = flow.payload
    d.protocol = flow.protocol
    d.end = flow.len


@kernel
def _send_up(job: CoalesceJob, b: Batch, flow: Flow) -> None:
    """napi_gro_complete: what waits in a slot goes out; a packet that stayed alone is as it came."""
    address = arena_take(b, flow.len)
    memcpy(address, flow.bytes, flow.len)
    flow.used = 0
    vnet = 0
    d = layers_at(job.held)
    _held_layers(flow, d)
    if flow.count == 1 and flow.flags != 0:
        h = vnet_at(job.header)
        clear_vnet(h)
        h.flags = flow.flags
        if h.flags & NEEDS_CSUM:
            name_checksum(d, h)
        vnet = arena_take(b, TEMPLATE_BYTES)
        store_vnet(vnet, h)
    elif flow.count > 1:
        if d.version == 4:
            set_ipv4_length(address, d.network, 20, flow.len - d.network)
        else:
            store16be(address + d.network + 4, flow.len - d.network - 40)
        h = vnet_at(job.header)
        clear_vnet(h)
        h.flags = NEEDS_CSUM
        h.gso_size = flow.size
        h.hdr_len = d.payload
        h.csum_start = d.transport
        h.csum_offset = check_at(d.protocol)
        if d.protocol == UDP:
            h.gso_type = GSO_UDP_L4
            store16be(address + d.transport + 4, flow.len - d.transport)
        else:
            h.gso_type = GSO_TCPV4 if d.version == 4 else GSO_TCPV6
            if load8(address + d.transport + 13) & CWR:
                h.gso_type |= GSO_ECN
        store16(address + h.csum_start + h.csum_offset, csum_fold(packet_pseudo_sum(address, d)))
        vnet = arena_take(b, TEMPLATE_BYTES)
        store_vnet(vnet, h)
        job.merged += flow.count
        job.large += 1
    emit_new(b, address, flow.len, vnet, flow.tstamp, flow.interface, flow.id)


@kernel
def _pass_by(job: CoalesceJob, b: Batch, frame: Frame, why: i64) -> None:
    """GRO_NORMAL: the frame goes up at once, as it came."""
    at = job.reasons + why * 8
    store64(at, load64(at) + 1)
    emit(b, frame, frame.address, frame.len, frame.vnet, why)


@kernel
def _bucket(job: CoalesceJob, frame: i64, d: Layers) -> i64:
    """The bucket of a frame's flow, as by the hash that a network card reports."""
    if job.buckets == 1:
        return 0
    total = load32(frame + d.transport)
    at = frame + d.network + (12 if d.version == 4 else 8)
    end = frame + d.network + (20 if d.version == 4 else 40)
    while at < end:
        total = ((total ^ load32(at)) * _MIX) & 0xFFFFFFFF
        total ^= total >> 15
        at += 4
    return (((total * _MIX) & 0xFFFFFFFF) >> 16) % job.buckets


@kernel
def _oldest(job: CoalesceJob, first: i64, count: i64) -> i64:
    """The address of the flow that waits longest among ``count`` slots; 0 if none is used."""
    best = 0
    age = 0
    for n in range(first, first + count):
        address = job.flows + n * FLOW_SIZE
        flow = flow_at(address)
        if flow.used and (best == 0 or flow.age < age):
            best = address
            age = flow.age
    return best


@kernel
def _hold(job: CoalesceJob, b: Batch, bucket: i64, frame: Frame, d: Layers, flags: i64) -> None:
    """GRO_HELD: the frame waits in its bucket, if need be in the place of the oldest."""
    first = bucket * FLOWS_PER_BUCKET
    place = 0
    for n in range(first, first + FLOWS_PER_BUCKET):
        if flow_at(job.flows + n * FLOW_SIZE).used == 0:
            place = job.flows + n * FLOW_SIZE
            break
    if place == 0:
        place = _oldest(job, first, FLOWS_PER_BUCKET)
        _send_up(job, b, flow_at(place))
    flow = flow_at(place)
    memcpy(flow.bytes, frame.address, frame.len)
    flow.used = 1
    job.ages += 1
    flow.age = job.ages
    flow.len = frame.len
    flow.tstamp = frame.tstamp
    flow.interface = frame.interface
    flow.id = frame.id
    flow.network = d.network
    flow.version = d.version
    flow.transport = d.transport
    flow.payload = d.payload
    flow.protocol = d.protocol
    flow.flags = flags
    flow.count = 1
    flow.size = d.end - d.payload
    flow.fixed_id = 0
    flow.next_seq = (load32be(frame.address + d.transport + 4) + flow.size) & 0xFFFFFFFF


@kernel
def _join(flow: Flow, frame: i64, d: Layers) -> None:
    """GRO_MERGED: the payload goes behind what waits."""
    part = d.end - d.payload
    memcpy(flow.bytes + flow.len, frame + d.payload, part)
    flow.len += part
    flow.count += 1
    flow.next_seq = (flow.next_seq + part) & 0xFFFFFFFF
    if d.protocol == TCP:
        flags = flow.bytes + d.transport + 13
        store8(flags, load8(flags) | (load8(frame + d.transport + 13) & (FIN | PSH)))


@kernel
def _fit(job: CoalesceJob, frame: Frame, d: Layers, h: VnetHeader) -> i64:
    """Whether a frame can be merged with others: MAY_MERGE, ALONE, or why it passes by."""
    address = frame.address
    if frame.wire_len > frame.len:
        return SNAPPED
    why = dissect(address, frame.len, d)
    if why != WHOLE:
        return why
    if d.protocol == UDP and (job.udp == 0 or d.end == d.payload):
        return NEVER_MERGED
    at = address + d.network
    size = frame.len - d.network
    alone = 1 if size > LONGEST_PACKET or d.network > _LONGEST_LINK_HEADER else 0
    if d.version == 4:
        if d.transport != d.network + 20:
            return NEVER_MERGED
        if csum_fold(csum_partial(at, 20, 0)) != 0xFFFF:
            return WRONG_IP_CHECKSUM
        if load16be(at + 2) != size or load16be(at + 6) & _IP_FLAGS_BUT_DF:
            alone = 1
    elif load16be(at + 4) != size - 40:
        alone = 1
    if has_checksum(address, d) == 0:
        return NO_CHECKSUM
    clear_vnet(h)
    if frame.vnet != 0:
        load_vnet(frame.vnet, h)
        if h.gso_type != GSO_NONE:
            alone = 1
    if alone:
        return ALONE
    state = checksum_state(address, d, 0)
    if state == RIGHT:
        return MAY_MERGE
    if state == PARTIAL:
        # From a wire it cannot come, unless its header says so.
        return MAY_MERGE if h.flags & NEEDS_CSUM else ALONE
    return WRONG_CHECKSUM


@kernel
def _find(job: CoalesceJob, bucket: i64, frame: i64, d: Layers) -> i64:
    """The address of what waits of a frame's flow; 0: nothing does."""
    first = bucket * FLOWS_PER_BUCKET
    for n in range(first, first + FLOWS_PER_BUCKET):
        flow = flow_at(job.flows + n * FLOW_SIZE)
        if flow.used and same_flow(flow, frame, d):
            return job.flows + n * FLOW_SIZE
    return 0


@kernel
def _receive(job: CoalesceJob, b: Batch, frame: Frame) -> None:
    """dev_gro_receive."""
    d = layers_at(job.layers)
    address = frame.address
    h = vnet_at(job.header)
    what = _fit(job, frame, d, h)
    if what < MAY_MERGE:
        _pass_by(job, b, frame, what)
        return
    flags = h.flags
    is_tcp = d.protocol == TCP
    bucket = _bucket(job, address, d)
    waiting = _find(job, bucket, address, d)
    if waiting != 0:
        flow = flow_at(waiting)
        if what == MAY_MERGE and (tcp_joins(flow, address, d) if is_tcp else udp_joins(flow, address, d)) != 0:
            _join(flow, address, d)
            if (tcp_ends(flow, address, d) if is_tcp else udp_ends(flow, d)) != 0:
                _send_up(job, b, flow)
            return
        _send_up(job, b, flow)
    if what == ALONE or (is_tcp and tcp_waits(address, d) == 0):
        _pass_by(job, b, frame, WHOLE)
        return
    _hold(job, b, bucket, frame, d, flags)


@kernel
def _flush(job: CoalesceJob, b: Batch) -> i64:
    """napi_gro_flush: all that waits goes up, bucket by bucket, the oldest first: DONE or FULL."""
    for bucket in range(job.buckets):
        while True:
            address = _oldest(job, bucket * FLOWS_PER_BUCKET, FLOWS_PER_BUCKET)
            if address == 0:
                break
            if has_room(b, SLOT_BYTES) == 0:
                return FULL
            _send_up(job, b, flow_at(address))
    job.flushing = 0
    job.cycle = 0
    return DONE


@entry
def coalesce(address: i64, last: i64) -> i64:
    """Run the job at ``address`` over its batch: DONE when all frames were taken, FULL when there is no room.

    With ``last`` nothing waits any more when it is DONE.
    """
    job = coalesce_job_at(address)
    b = batch_at(job.batch)
    while True:
        if job.flushing and _flush(job, b) == FULL:
            return FULL
        if b.next == b.count:
            if last and job.cycle > 0:
                job.flushing = 1
                continue
            return DONE
        frame = frame_at(b.frames + b.next * FRAME_SIZE)
        if job.cycle > 0 and (job.cycle >= job.budget or frame.tstamp - job.cycle_start > job.flush_ns):
            job.flushing = 1
            continue
        if b.made + 3 > b.capacity or has_room(b, 2 * SLOT_BYTES) == 0:
            return FULL
        if job.cycle == 0:
            job.cycle_start = frame.tstamp
        job.cycle += 1
        b.frames_in += 1
        b.bytes_in += frame.len
        _receive(job, b, frame)
        b.next += 1
