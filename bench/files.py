"""Rows from file to file, whole processes: against editcap, mode against mode, and against what the machine can do."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.inputs import Capture
from bench.measure import in_turn, run
from bench.results import Limit, Line
from bench.session import Session, check_size, cores

REPOSITORY = Path(__file__).resolve().parent.parent

MODES = {
    "small mode": ("--mode", "small"),
    "big mode": ("--mode", "big"),
    "four queues": ("--queues", "4"),
    "pcapng output": (),
}

RINGS = {
    "packed ring": ("--ring", "packed"),
    "packed ring, in order": ("--ring", "packed", "--features", "+IN_ORDER"),
    "split ring, in order": ("--features", "+IN_ORDER"),
    "ring of 32,768": ("--queue-size", "32768"),
}

CHAINS = {"big mode, chains in the ring": ("--mode", "big", "--features", "-INDIRECT_DESC")}

STEERED = ("--queues", "4", "--rss", "on")
THREADS = {"RSS on four queues, a thread each": (*STEERED, "--threads")}


def work(capture: Capture) -> str:
    """Say in words what a capture holds."""
    return f"{capture.frames:,} x {capture.frame_bytes} bytes"


def editcap_64(session: Session) -> list[Line]:
    """Copy 64-byte frames through mergeable buffers, against editcap copying the same file; whole processes."""
    return _editcap(session, "editcap-64", session.capture(session.frames, 64))


def editcap_1500(session: Session) -> list[Line]:
    """Copy 1500-byte frames through mergeable buffers, against editcap copying the same file; whole processes."""
    return _editcap(session, "editcap-1500", session.capture(session.frames // 10, 1500))


def _editcap(session: Session, row: str, capture: Capture) -> list[Line]:
    def editcap() -> float:
        output = session.output()
        seconds = run(["editcap", "-F", "pcap", capture.path, output]).seconds
        check_size(output, capture.file_bytes)
        return seconds

    seconds = in_turn(
        session.turns,
        {"netemu": lambda: session.replay(capture, "--mode", "mergeable").whole.seconds, "editcap": editcap},
    )
    return [
        Line(
            row,
            work(capture),
            "s",
            ours=seconds["netemu"],
            rival="editcap",
            theirs=seconds["editcap"],
            limit=Limit("at most", 1.5, "x"),
            judged=session.full,
        )
    ]


def modes(session: Session) -> list[Line]:
    """Replay in small and in big mode, through four queues, and into pcapng, against mergeable buffers and pcap."""
    return _variants(session, "modes", MODES, "mergeable, pcap", ())


def rings(session: Session) -> list[Line]:
    """Replay through packed rings, through rings used in order and through a very large one, against a split of 256."""
    return _variants(session, "rings", RINGS, "split ring of 256", ())


def indirect(session: Session) -> list[Line]:
    """Replay in big mode with chains of 19 descriptors in the ring itself, against one indirect descriptor each."""
    return _variants(session, "indirect", CHAINS, "big mode, indirect tables", ("--mode", "big"))


def threads(session: Session) -> list[Line]:
    """Replay through four queues chosen by RSS with a thread each, against one thread; reading and writing stay one."""
    cores(2)
    return _variants(session, "threads", THREADS, "one thread", STEERED, limit=None)


def _variants(
    session: Session,
    row: str,
    variants: Mapping[str, Sequence[str]],
    rival: str,
    base: Sequence[str],
    limit: Limit | None = Limit("at most", 2.0, "x"),  # noqa: B008 - it cannot be changed
) -> list[Line]:
    """A line for each variant of a replay of 64-byte frames, against one with the options ``base``."""
    capture = session.capture(session.frames, 64)

    def seconds_of(variant: str) -> float:
        suffix = ".pcapng" if variant == "pcapng output" else ".pcap"
        return session.replay(capture, *variants[variant], suffix=suffix).whole.seconds

    contenders = {variant: (lambda variant=variant: seconds_of(variant)) for variant in variants}
    seconds = in_turn(session.turns, {"base": lambda: session.replay(capture, *base).whole.seconds, **contenders})
    return [
        Line(
            row,
            f"{work(capture)}, {variant}",
            "s",
            ours=seconds[variant],
            rival=rival,
            theirs=seconds["base"],
            limit=limit,
            judged=session.full,
        )
        for variant in variants
    ]


def floor(session: Session) -> list[Line]:
    """See how far the replay is from ``cat`` of the same file, and from copying its bytes once in memory."""
    capture = session.capture(session.frames, 64)

    def cat() -> float:
        output = session.output()
        seconds = run(["cat", capture.path], stdout=output).seconds
        check_size(output, capture.file_bytes)
        return seconds

    def memory_copy() -> float:
        return float(run([sys.executable, "-m", "bench.memcpy", str(capture.file_bytes)], cwd=REPOSITORY).output)

    seconds = in_turn(
        session.turns,
        {"netemu": lambda: session.replay(capture).whole.seconds, "cat": cat, "memory copy": memory_copy},
    )
    copied = f"{work(capture)}, {capture.file_bytes / 1e6:.0f} MB"
    return [
        Line("floor", copied, "s", ours=seconds["netemu"], rival=rival, theirs=seconds[rival])
        for rival in ("cat", "memory copy")
    ]
