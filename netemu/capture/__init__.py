"""Capture files: pcap and pcapng, in and out, at millions of frames a second."""

from __future__ import annotations

from netemu.capture.formats import FLAG_INBOUND, FLAG_OUTBOUND, MAX_FRAME, link_type_name
from netemu.capture.frames import CapturedFrame, FrameBatch
from netemu.capture.packets import PacketRecord, read_packets
from netemu.capture.parsing import Interface
from netemu.capture.reader import CaptureReader, open_capture, read_capture
from netemu.capture.sink import SINK_NONE, SINK_PCAP, SINK_PCAPNG, Sink, sink_at, sink_count, sink_record
from netemu.capture.writer import CaptureWriter, InterfaceInfo, InterfaceStatistics, same_file

__all__ = [
    "open_capture",
    "read_capture",
    "read_packets",
    "PacketRecord",
    "CaptureReader",
    "Interface",
    "FrameBatch",
    "CapturedFrame",
    "CaptureWriter",
    "InterfaceInfo",
    "InterfaceStatistics",
    "same_file",
    "Sink",
    "SINK_NONE",
    "SINK_PCAP",
    "SINK_PCAPNG",
    "sink_at",
    "sink_count",
    "sink_record",
    "FLAG_INBOUND",
    "FLAG_OUTBOUND",
    "MAX_FRAME",
    "link_type_name",
]
