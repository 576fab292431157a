"""Put VLAN tags on every frame that ``eth0`` sends, and take as many off what it receives, until told to stop.

``vlan_tag.py 8100:000a`` tags with VLAN 10; several arguments, each an EtherType and a tag in hexadecimal, go from the
inside out. record.py runs it in its namespaces. The kernel does the tagging (``skb_vlan_push``, ``skb_vlan_pop``), so
frames look as below a VLAN interface, but none is needed: not every kernel is built with them.

Two small BPF programs do it, attached to TCX, the hook that Linux has since 6.6 before the queueing layer. They are
detached when their descriptors are closed, at the latest when this ends.

Sources: RFC 9669 (the instructions); linux/bpf.h (``union bpf_attr``, the helper functions, attach types).
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import socket
import struct
import sys

SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
BPF_PROG_LOAD, BPF_LINK_CREATE = 5, 28
BPF_PROG_TYPE_SCHED_CLS = 3
BPF_TCX_INGRESS, BPF_TCX_EGRESS = 46, 47
SKB_VLAN_PUSH, SKB_VLAN_POP = 18, 19  # numbers of the helper functions

LET_IT_PASS = 0  # TC_ACT_OK, for the queueing layer


def bpf(command: int, attributes: bytes) -> int:
    """The system call: a new file descriptor, or OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(SYS_BPF[platform.machine()], command, attributes, len(attributes))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"bpf command {command}: {os.strerror(number)}")
    return descriptor


def move(register: int, value: int) -> bytes:
    """Instruction: a 64-bit register becomes a constant."""
    return struct.pack("=BBhi", 0xB7, register, 0, value)


def move_register(to: int, source: int) -> bytes:
    """Instruction: a 64-bit register becomes another's value."""
    return struct.pack("=BBhi", 0xBF, source << 4 | to, 0, 0)


def call(helper: int) -> bytes:
    """Instruction: call a helper; registers 1 to 5 are lost, 6 to 9 are kept."""
    return struct.pack("=BBhi", 0x85, 0, 0, helper)


EXIT = struct.pack("=BBhi", 0x95, 0, 0, 0)


def program(body: bytes) -> bytes:
    """A whole program: keep the packet in register 6, do ``body``, let the packet pass."""
    return move_register(6, 1) + body + move(0, LET_IT_PASS) + EXIT


def push(ethertype: int, tag: int) -> bytes:
    """Put a tag on the packet."""
    arguments = move_register(1, 6) + move(2, socket.htons(ethertype)) + move(3, tag)
    return arguments + call(SKB_VLAN_PUSH)


def pop() -> bytes:
    """Take the outermost tag off the packet; one without a tag stays as it is."""
    return move_register(1, 6) + call(SKB_VLAN_POP)


def attach(instructions: bytes, hook: int) -> int:
    """Load a program and attach it to ``eth0``, where it stays until the returned descriptor is closed."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    addresses = struct.pack("=QQ", ctypes.addressof(code), ctypes.addressof(licence))
    loaded = bpf(BPF_PROG_LOAD, struct.pack("=II", BPF_PROG_TYPE_SCHED_CLS, len(instructions) // 8) + addresses)
    return bpf(BPF_LINK_CREATE, struct.pack("=IIII", loaded, socket.if_nametoindex("eth0"), hook, 0))


def main() -> None:
    """Attach, say so, wait to be ended."""
    tags = [tuple(int(part, 16) for part in argument.split(":")) for argument in sys.argv[1:]]
    attach(program(b"".join(push(ethertype, tag) for ethertype, tag in tags)), BPF_TCX_EGRESS)
    attach(program(b"".join(pop() for _ in tags)), BPF_TCX_INGRESS)
    print("attached", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
