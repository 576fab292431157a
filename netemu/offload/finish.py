"""The first stage: what a sender left undone is done, unless the receiver takes it over.

Theory of operation
-------------------
`finish` goes through a batch of frames. What is left to do to a frame says its virtio-net header, if it brings one,
else the frame itself (`netemu.offload.judge`), if the job says so. Then one of these happens:

* the receiver accepts it as it is: it goes on, with a header that says what is undone;
* a checksum is finished, in a copy;
* it is cut (`netemu.offload.segment`), piece by piece, for as long as there is room; the plan stays in the job;
* there is nothing to do, or nothing that can be done: it goes on as it is, with the reason in its note;
* its header is one that must not be accepted: it is dropped, and counted by reason.

All state is in `FinishJob`, so that the stage goes on at the same frame, and at the same piece of it.
"""

from __future__ import annotations

from netemu.checksum import csum_fold, csum_partial
from netemu.frame import FRAME_SIZE, Frame, frame_at
from netemu.jit import (
    Struct,
    entry,
    i64,
    kernel,
    load16,
    load64,
    memcpy,
    pointer,
    store16,
    store64,
    struct,
)
from netemu.offload.accepts import (
    ACCEPT_CSUM,
    ACCEPT_ECN,
    ACCEPT_TSO4,
    ACCEPT_TSO6,
    ACCEPT_TUNNEL,
    ACCEPT_TUNNEL_CSUM,
    ACCEPT_UFO,
    ACCEPT_USO4,
    ACCEPT_USO6,
)
from netemu.offload.batch import DONE, FULL, TEMPLATE_BYTES, Batch, arena_take, batch_at, emit, has_room
from netemu.offload.dissect import UDP, Layers, layers_at, outermost
from netemu.offload.judge import LARGE, UNFINISHED, judge
from netemu.offload.reasons import BAD_CSUM_START, BAD_TUNNEL, NO_NEED, SNAPPED, WHOLE
from netemu.offload.segment import left, next_segment, piece_bytes, plan_at, start_plan
from netemu.offload.sums import (
    CHECK_AT_UDP,
    complement,
    length_sum,
    not_zero,
    packet_pseudo_sum,
    pseudo_sum,
    set_ipv4_length,
)
from netemu.offload.template import read_template
from netemu.offload.vnet import GSO_BITS, GSO_TUNNELS, VnetHeader, clear_vnet, load_vnet, store_vnet, vnet_at
from netemu.virtio.net import (
    DATA_VALID,
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP,
    NEEDS_CSUM,
    UDP_TUNNEL_CSUM,
)

LONGEST_LARGE = 65535
"""Bytes of an IP packet up to which a receiver takes it uncut; longer ones are BIG TCP, which virtio does not know."""


@struct
class FinishJob(Struct):
    """What the stage is to do, and what it has done."""

    batch: i64
    """Address of the `Batch`."""
    layers: i64
    header: i64
    plan: i64
    """Addresses of the structs of the frame at hand: `Layers`, `VnetHeader`, `Plan`."""
    mtu: i64
    """Most bytes of an IP packet on the receiver's link, for frames that are judged."""
    accepts: i64
    """What the receiver takes over, a mask of ACCEPT_..."""
    judging: i64
    """1: frames without a header are judged; 0: they are complete."""
    udp_size: i64
    """Bytes of the datagrams that a judged UDP packet over the MTU holds; 0: it is a single one."""
    fragment_id: i64
    """Identification of the next IPv6 datagram that is cut into fragments."""
    reasons: i64
    """Address of a counter for each `Why`."""
    cutting: i64
    """The frame at hand is being cut."""
    segmented: i64
    """Frames cut into segments, and these."""
    segments: i64
    fragmented: i64
    """Datagrams cut into fragments, and these."""
    fragments: i64
    completed: i64
    """Frames whose checksum was finished, those that were cut aside."""
    handed_on: i64
    """Frames that went on with something undone that the receiver takes over."""
    over_mtu: i64
    """Frames longer than the MTU that were judged and nevertheless went on as they are."""


finish_job_at = pointer(FinishJob)


@kernel
def _leave(job: FinishJob, b: Batch, frame: Frame, why: i64) -> None:
    """The frame goes on as it is."""
    at = job.reasons + why * 8
    store64(at, load64(at) + 1)
    vnet = 0
    if why == WHOLE and job.judging and job.accepts & ACCEPT_CSUM:
        # RX-D-34, RX-D-35: the checksum, the outermost one, was looked at; the receiver need not do so again.
        h = vnet_at(job.header)
        clear_vnet(h)
        h.flags = DATA_VALID
        vnet = arena_take(b, TEMPLATE_BYTES)
        store_vnet(vnet, h)
    emit(b, frame, frame.address, frame.len, vnet, why)


@kernel
def _refuse(job: FinishJob, why: i64) -> None:
    """The frame is dropped."""
    at = job.reasons + why * 8
    store64(at, load64(at) + 1)


@kernel
def _accepted(job: FinishJob, d: Layers, h: VnetHeader, address: i64) -> i64:
    """Whether the receiver takes a large frame uncut."""
    if h.flags & NEEDS_CSUM == 0 or job.accepts & ACCEPT_CSUM == 0:
        return 0
    if d.jumbo != 0 or d.end - outermost(d) > LONGEST_LARGE:
        return 0
    base = h.gso_type & ~GSO_BITS
    if base == GSO_TCPV4:
        wanted = ACCEPT_TSO4
    elif base == GSO_TCPV6:
        wanted = ACCEPT_TSO6
    elif base == GSO_UDP:
        wanted = ACCEPT_UFO
    else:
        wanted = ACCEPT_USO4 if d.version == 4 else ACCEPT_USO6
    if h.gso_type & GSO_ECN:
        wanted |= ACCEPT_ECN
    if h.gso_type & GSO_TUNNELS:
        wanted |= ACCEPT_TUNNEL
        if load16(address + d.outer_transport + CHECK_AT_UDP) != 0:
            wanted |= ACCEPT_TUNNEL_CSUM
    return 1 if job.accepts & wanted == wanted else 0


@kernel
def _store_pseudo(address: i64, transport: i64, check: i64, total: i64) -> None:
    store16(address + transport + check, csum_fold(total))


@kernel
def _mend_ipv4(address: i64, d: Layers) -> None:
    """Give IPv4 headers the length and checksum that their sender left out."""
    if d.version == 4 and (load16(address + d.network + 2) == 0 or load16(address + d.network + 10) == 0):
        set_ipv4_length(address, d.network, d.transport - d.network, d.end - d.network)
    if d.outer_version == 4 and d.outer_network != 0:
        at = d.outer_network
        if load16(address + at + 2) == 0 or load16(address + at + 10) == 0:
            set_ipv4_length(address, at, d.outer_transport - at, d.end - at)


@kernel
def _as_header_says(address: i64, d: Layers, h: VnetHeader) -> i64:
    """Whether a large frame's checksum fields hold what its header claims: sums of the pseudo-headers."""
    if load16(address + h.csum_start + h.csum_offset) != csum_fold(packet_pseudo_sum(address, d)):
        return 0
    if d.version == 4 and (load16(address + d.network + 2) == 0 or load16(address + d.network + 10) == 0):
        return 0
    if h.flags & UDP_TUNNEL_CSUM:
        total = pseudo_sum(address, d.outer_network, d.outer_version, UDP) + length_sum(d.end - d.outer_transport)
        return 1 if load16(address + d.outer_transport + CHECK_AT_UDP) == csum_fold(total) else 0
    return 1


@kernel
def _hand_on(job: FinishJob, b: Batch, frame: Frame, d: Layers, h: VnetHeader) -> None:
    """Give a large frame to a receiver that takes it, with sums of pseudo-headers in it (RX-D-19, RX-D-38)."""
    address = frame.address
    if _as_header_says(address, d, h) == 0:
        address = arena_take(b, frame.len)
        memcpy(address, frame.address, frame.len)
        _mend_ipv4(address, d)
        store16(address + h.csum_start + h.csum_offset, csum_fold(packet_pseudo_sum(address, d)))
        if h.flags & UDP_TUNNEL_CSUM:
            total = pseudo_sum(address, d.outer_network, d.outer_version, UDP) + length_sum(d.end - d.outer_transport)
            store16(address + d.outer_transport + CHECK_AT_UDP, csum_fold(total))
    vnet = arena_take(b, TEMPLATE_BYTES)
    h.flags &= NEEDS_CSUM | UDP_TUNNEL_CSUM
    store_vnet(vnet, h)
    job.handed_on += 1
    emit(b, frame, address, frame.len, vnet, WHOLE)


@kernel
def _complete(job: FinishJob, b: Batch, frame: Frame, d: Layers, h: VnetHeader, judged: i64) -> None:
    """Finish the checksum that ``h`` names, in a copy.

    As Linux does it, a result of zero goes out as 0xffff, whatever the protocol: that is right for UDP, and no less so
    for the others. The sum takes in the field itself, which holds that of the pseudo-header (trap T10 of the sheet).
    """
    address = arena_take(b, frame.len)
    memcpy(address, frame.address, frame.len)
    end = frame.len
    if judged:
        _mend_ipv4(address, d)
        end = d.end
        if h.flags & NEEDS_CSUM:
            # Whatever the sender left there.
            _store_pseudo(address, h.csum_start, h.csum_offset, packet_pseudo_sum(address, d))
    if h.flags & NEEDS_CSUM:
        total = csum_partial(address + h.csum_start, end - h.csum_start, 0)
        store16(address + h.csum_start + h.csum_offset, not_zero(complement(total)))
    if judged and d.outer_network != 0:
        size = d.end - d.outer_transport
        total = pseudo_sum(address, d.outer_network, d.outer_version, UDP) + length_sum(size)
        field = address + d.outer_transport + CHECK_AT_UDP
        if load16(field) == csum_fold(total):
            store16(field, not_zero(complement(csum_partial(address + d.outer_transport, size, 0))))
    job.completed += 1
    emit(b, frame, address, frame.len, 0, WHOLE)


@kernel
def _cut(job: FinishJob, b: Batch, frame: Frame) -> i64:
    """Make as many pieces of the frame at hand as there is room for: DONE or FULL."""
    plan = plan_at(job.plan)
    while left(plan) > 0 or plan.index == 0:
        size = piece_bytes(plan)
        if has_room(b, size) == 0:
            return FULL
        address = arena_take(b, size)
        emit(b, frame, address, next_segment(plan, address), 0, WHOLE)
        if plan.fragment:
            job.fragments += 1
        else:
            job.segments += 1
    job.cutting = 0
    return DONE


@kernel
def _start_cutting(job: FinishJob, b: Batch, frame: Frame, d: Layers, h: VnetHeader) -> i64:
    """Begin with the pieces of a frame: DONE or FULL."""
    plan = plan_at(job.plan)
    why = start_plan(plan, frame.address, d, h, job.fragment_id)
    if why != WHOLE:
        job.over_mtu += 1
        _leave(job, b, frame, why)
        return DONE
    if plan.fragment:
        job.fragmented += 1
        job.fragment_id = (job.fragment_id + 1) & 0xFFFFFFFF
    else:
        job.segmented += 1
    job.cutting = 1
    return _cut(job, b, frame)


@kernel
def _take(job: FinishJob, b: Batch, frame: Frame) -> i64:
    """Do to one frame what is to be done: DONE or FULL, and then with ``cutting`` set."""
    d = layers_at(job.layers)
    h = vnet_at(job.header)
    judged = 0
    if frame.vnet != 0:
        load_vnet(frame.vnet, h)
        what = read_template(frame.address, frame.len, d, h)
        if BAD_CSUM_START <= what <= BAD_TUNNEL:
            _refuse(job, what)
            return DONE
        if what == WHOLE:
            what = NO_NEED
    elif job.judging == 0:
        what = NO_NEED
    elif frame.wire_len > frame.len:
        what = SNAPPED
    else:
        judged = 1
        what = judge(frame.address, frame.len, job.mtu, job.udp_size, d, h)
        if what < UNFINISHED and frame.len - outermost(d) > job.mtu and d.end - outermost(d) > job.mtu:
            job.over_mtu += 1
    if what == LARGE:
        if _accepted(job, d, h, frame.address):
            _hand_on(job, b, frame, d, h)
            return DONE
        return _start_cutting(job, b, frame, d, h)
    if what == UNFINISHED:
        plain = judged == 0 or (h.flags & NEEDS_CSUM and d.outer_network == 0 and _as_header_says(frame.address, d, h))
        if plain and job.accepts & ACCEPT_CSUM:
            h.gso_type = 0
            h.gso_size = 0
            h.flags = NEEDS_CSUM
            vnet = arena_take(b, TEMPLATE_BYTES)
            store_vnet(vnet, h)
            job.handed_on += 1
            emit(b, frame, frame.address, frame.len, vnet, WHOLE)
        else:
            _complete(job, b, frame, d, h, judged)
        return DONE
    _leave(job, b, frame, what)
    return DONE


@entry
def finish(address: i64) -> i64:
    """Run the job at ``address`` over its batch: DONE when all frames were taken, FULL when there is no room."""
    job = finish_job_at(address)
    b = batch_at(job.batch)
    while b.next < b.count:
        frame = frame_at(b.frames + b.next * FRAME_SIZE)
        if job.cutting:
            if _cut(job, b, frame) == FULL:
                return FULL
            b.next += 1
            continue
        if has_room(b, frame.len) == 0:
            return FULL
        b.frames_in += 1
        b.bytes_in += frame.len
        if _take(job, b, frame) == FULL:
            return FULL
        b.next += 1
    return DONE
