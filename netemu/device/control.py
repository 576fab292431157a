"""The device's control queue: commands taken, judged, done and answered (VIRTIO 1.4, section 5.1.6.5).

Theory of operation
-------------------
`Control.service` takes every chain that waits, copies what the driver wrote, and only then looks at it (a driver may
change its memory at any time). `Control.execute` is the command itself, bytes in and bytes out: whatever is wrong with
one, from an unknown class to a byte too many, ends as an ERR acknowledgement and changes nothing. Effects come
before the chain is used (MAC-D-02, MAC-D-03, ANN-D-01).

What commands set belongs to others: receive filter, coalescing, statistics, hashing. Here is only who may ask for what.
RSS contexts are not offered, so their class is unknown like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from netemu.device.queue import (
    SEGMENT_SIZE,
    DeviceQueue,
    Segment,
    chain_at,
    enable_kicks,
    flush,
    notify,
    pop_chain,
    segment_at,
    take_kick,
)
from netemu.errors import ConfigError
from netemu.jit import allocate, memcpy
from netemu.virtio import control as c
from netemu.virtio import features as f
from netemu.virtio.features import FeatureSet
from netemu.virtio.rss import HashConfig, RssConfig

if TYPE_CHECKING:
    from netemu.device.net import NetDevice

COMMAND_MAX = 1 << 18
"""Bytes of the longest command that is looked at; the largest RSS configuration has half of it."""

_MODES = {
    c.RX_PROMISC: "promisc",
    c.RX_ALLMULTI: "allmulti",
    c.RX_ALLUNI: "alluni",
    c.RX_NOMULTI: "nomulti",
    c.RX_NOUNI: "nouni",
    c.RX_NOBCAST: "nobcast",
}


class Control:
    """The commands of one device, and the queue they come through."""

    def __init__(self, device: NetDevice) -> None:
        """Serve ``device``; it has to have its other parts already."""
        self._device = device
        self._scratch = allocate(COMMAND_MAX)
        self.last_refusal = ""
        """Why the last command that was refused was, in words."""
        self._commands: dict[tuple[int, int], Callable[[bytes, int], bytes]] = {
            **{(c.CTRL_RX, command): self._mode(name) for command, name in _MODES.items()},
            (c.CTRL_MAC, c.MAC_TABLE_SET): self._mac_table_set,
            (c.CTRL_MAC, c.MAC_ADDR_SET): self._mac_addr_set,
            (c.CTRL_VLAN, c.VLAN_ADD): self._vlan(member=True),
            (c.CTRL_VLAN, c.VLAN_DEL): self._vlan(member=False),
            (c.CTRL_ANNOUNCE, c.ANNOUNCE_ACK): self._announce_ack,
            (c.CTRL_MQ, c.MQ_VQ_PAIRS_SET): self._vq_pairs_set,
            (c.CTRL_MQ, c.MQ_RSS_CONFIG): self._rss_config,
            (c.CTRL_MQ, c.MQ_HASH_CONFIG): self._hash_config,
            (c.CTRL_HASH_TUNNEL, c.HASH_TUNNEL_SET): self._hash_tunnel_set,
            (c.CTRL_GUEST_OFFLOADS, c.GUEST_OFFLOADS_SET): self._guest_offloads_set,
            (c.CTRL_NOTF_COAL, c.NOTF_COAL_TX_SET): self._coal_set(direction=1),
            (c.CTRL_NOTF_COAL, c.NOTF_COAL_RX_SET): self._coal_set(direction=0),
            (c.CTRL_NOTF_COAL, c.NOTF_COAL_VQ_SET): self._coal_vq_set,
            (c.CTRL_NOTF_COAL, c.NOTF_COAL_VQ_GET): self._coal_vq_get,
            (c.CTRL_STATS, c.STATS_QUERY): self._stats_query,
            (c.CTRL_STATS, c.STATS_GET): self._stats_get,
        }

    # The queue.

    def service(self, dq: DeviceQueue) -> int:
        """Take, do and answer all commands that wait in the queue; how many."""
        take_kick(dq)
        served = 0
        while dq.num and not dq.broken:
            while pop_chain(dq) > 0:
                self._serve_chain(dq)
                flush(dq)
                notify(dq)
                served += 1
            if dq.broken or enable_kicks(dq, 0) <= 0:
                break
        return served

    def _serve_chain(self, dq: DeviceQueue) -> None:
        """Do the command in the one chain taken; a chain without a byte for the acknowledgement is only given back."""
        chain = chain_at(dq.chains)
        segments = [segment_at(dq.segments + (chain.first + n) * SEGMENT_SIZE) for n in range(chain.count)]
        if chain.writable_bytes == 0:
            return
        request = self._copy_in([segment for segment in segments if not segment.writable])
        reply = self.execute(request, chain.writable_bytes)
        chain.written = self._copy_out([segment for segment in segments if segment.writable], reply)

    def _copy_in(self, segments: list[Segment]) -> bytes:
        """What the driver wrote, however it is spread (CTRL-D-02); nothing if that is longer than any command."""
        if sum(segment.length for segment in segments) > COMMAND_MAX:
            return b""
        size = 0
        for segment in segments:
            memcpy(self._scratch.address + size, segment.address, segment.length)
            size += segment.length
        return self._scratch.array[:size].tobytes()

    def _copy_out(self, segments: list[Segment], data: bytes) -> int:
        """Write the answer into a chain's writable bytes, first to last; how many."""
        block = allocate(len(data))
        block.array[:] = bytearray(data)
        done = 0
        for segment in segments:
            part = min(segment.length, len(data) - done)
            memcpy(segment.address, block.address + done, part)
            done += part
        return done

    # The commands.

    def execute(self, request: bytes, room: int) -> bytes:
        """Do one command: class, command and data in ``request``; the acknowledgement and the result, if there is one.

        The answer has at most ``room`` bytes, of which there is at least one.
        """
        counts = self._device.stats
        counts.commands += 1
        try:
            result = self._dispatch(request, room - 1)
        except ConfigError as error:
            self.last_refusal = str(error)
            return bytes([c.ERR])
        counts.commands_ok += 1
        return bytes([c.OK]) + result

    def _dispatch(self, request: bytes, room: int) -> bytes:
        if len(request) < c.HEADER.size:
            raise ConfigError("a command has at least a class and a number, and at most 262144 bytes")
        kind = c.HEADER.unpack_from(request)
        command = self._commands.get(kind)
        if command is None or c.NEEDS[kind] not in self._features:
            raise ConfigError(f"command {kind[1]} of class {kind[0]} is unknown, or its feature was not negotiated")
        return command(request[c.HEADER.size :], room)

    @property
    def _features(self) -> FeatureSet:
        return self._device.features

    def _mode(self, name: str) -> Callable[[bytes, int], bytes]:
        def set_mode(data: bytes, _room: int) -> bytes:
            if data not in (b"\0", b"\1"):
                raise ConfigError(f"a receive mode is switched by one byte, 0 or 1, not {data[:8].hex()}")
            self._device.filter.set_mode(name, on=data == b"\1")
            return b""

        return set_mode

    def _mac_table_set(self, data: bytes, _room: int) -> bytes:
        self._device.filter.set_table(*c.unpack_mac_table(data))
        return b""

    def _mac_addr_set(self, data: bytes, _room: int) -> bytes:
        if len(data) != c.ETH_ALEN:
            raise ConfigError(f"a MAC address has {c.ETH_ALEN} bytes, not {len(data)}")
        self._device.set_mac(data)
        return b""

    def _vlan(self, *, member: bool) -> Callable[[bytes, int], bytes]:
        def set_vlan(data: bytes, _room: int) -> bytes:
            (vid,) = c.fields(c.LE16, data)
            if vid >= c.VLAN_IDS:
                raise ConfigError(f"a VLAN id is at most {c.VLAN_IDS - 1}, not {vid}")
            self._device.filter.set_vlan(vid, member=member)
            return b""

        return set_vlan

    def _announce_ack(self, data: bytes, _room: int) -> bytes:
        if data:
            raise ConfigError("an announcement is acknowledged without data")
        self._device.announced()
        return b""

    def _vq_pairs_set(self, data: bytes, _room: int) -> bytes:
        (pairs,) = c.fields(c.LE16, data)
        if not c.MQ_PAIRS_MIN <= pairs <= self._device.pairs:
            raise ConfigError(f"{pairs} queue pairs were asked for; there are {self._device.pairs}")
        self._device.set_pairs(pairs)
        return b""

    def _rss_config(self, data: bytes, _room: int) -> bytes:
        self._device.steering.configure_rss(RssConfig.unpack(data))
        return b""

    def _hash_config(self, data: bytes, _room: int) -> bytes:
        self._device.steering.configure_hash(HashConfig.unpack(data))
        return b""

    def _hash_tunnel_set(self, data: bytes, _room: int) -> bytes:
        (mask,) = c.fields(c.LE32, data)
        self._device.steering.configure_tunnels(mask)
        return b""

    def _guest_offloads_set(self, data: bytes, _room: int) -> bytes:
        (mask,) = c.fields(c.LE64, data)
        # Linux sets the bit of GUEST_HDRLEN as well, which is no offload: where it was negotiated it does no harm.
        harmless = 1 << f.GUEST_HDRLEN if f.GUEST_HDRLEN in self._features else 0
        if mask & ~(c.offload_mask(self._features) | harmless):
            raise ConfigError(f"offloads {mask:#x} were asked for, negotiated are {c.offload_mask(self._features):#x}")
        self._device.guest_offloads = c.offload_features(mask)
        return b""

    def _coal_set(self, *, direction: int) -> Callable[[bytes, int], bytes]:
        def set_parameters(data: bytes, _room: int) -> bytes:
            self._device.coalescing.set_direction(direction, c.Coalesce.unpack(data))
            return b""

        return set_parameters

    def _coal_vq_set(self, data: bytes, _room: int) -> bytes:
        index = self._coalesced_queue(data)
        self._device.coalescing.set_queue(index, c.Coalesce.unpack(data[c.VQ_INDEX.size :]))
        return b""

    def _coal_vq_get(self, data: bytes, room: int) -> bytes:
        # A driver may lay the parameters out behind the queue's index, as the structure has them.
        index = self._coalesced_queue(data)
        if len(data) not in (c.VQ_INDEX.size, c.VQ_INDEX.size + c.Coalesce.LAYOUT.size):
            raise ConfigError(f"{len(data)} bytes name no queue")
        result = self._device.coalescing.get_queue(index).pack()
        if len(result) > room:
            raise ConfigError(f"the answer has {len(result)} bytes, and there is room for {room}")
        return result

    def _coalesced_queue(self, data: bytes) -> int:
        """The queue that a command is about; its reserved word is not looked at (COAL-D-01)."""
        index, _reserved = c.fields(c.VQ_INDEX, data[: c.VQ_INDEX.size])
        if index >= 2 * self._device.pairs or self._device.queues[index].num == 0:
            raise ConfigError(f"virtqueue {index} is not a receive or transmit queue that is enabled")
        return index

    def _stats_query(self, data: bytes, room: int) -> bytes:
        if data:
            raise ConfigError("the query has no data")
        if room < c.LE64.size:
            raise ConfigError(f"the answer has {c.LE64.size} bytes, and there is room for {room}")
        return c.LE64.pack(self._device.stats.supported(self._features))

    def _stats_get(self, data: bytes, room: int) -> bytes:
        return self._device.stats.get(data, self._features, 2 * self._device.pairs, room)
