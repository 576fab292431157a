"""The figures of ``netemu replay`` in words: what came, what became of it, and every counter that moved."""

from __future__ import annotations

from typing import Any

from netemu.cli.jobs import columns, stage_in_words, wrapped

_SENT_TITLES = ("packets", "descriptors", "kicks", "interrupts", "stop", "wake", "timeouts")
_WORTH_TELLING = ("segmented", "fragmented", "completed", "handed_on")


def report(figures: dict[str, Any]) -> str:
    """The figures as a short report of at most 80 columns."""
    rate = figures["frames_per_second"]
    unsent = {key: count for key, count in figures["dropped"].items() if key.startswith("tx_")}
    dropped = {key: count for key, count in figures["dropped"].items() if key not in unsent}
    lines = [
        f"frames in    {figures['frames_in']:>13,}   {figures['bytes_in']:>17,} bytes",
        f"delivered    {figures['frames_out']:>13,}   {figures['bytes_out']:>17,} bytes",
        f"dropped      {sum(dropped.values()):>13,}",
        *_reasons(dropped),
    ]
    if unsent:
        lines += [f"not sent     {sum(unsent.values()):>13,}", *_reasons(unsent)]
    if figures["sent_by_xdp"]:
        lines.append(f"sent by XDP  {figures['sent_by_xdp']:>13,}   back to the host, or redirected")
    if figures["merged"]:
        lines.append(f"merged       {figures['merged']:>13,}   by GRO, into frames before them")
    lines.append(f"time         {figures['seconds']:>13.3f} s {rate:>17,} frames/s")
    if figures["interrupted"]:
        lines.append("interrupted: the figures and the capture end where it stopped")
    rings = "packed rings" if "RING_PACKED" in figures["features"] else "rings"
    lines += ["", f"{figures['driver']}, {figures['mode']} buffers, {rings} of {figures['queue_size']}"]
    titles = ("packets", "buffers", "descriptors", "interrupts", "polls", "refills")
    lines.append("queue" + "".join(f"{name:>12}" for name in titles))
    for n, queue in enumerate(figures["queues"]):
        lines.append(f"{n:>5}" + "".join(f"{queue[name]:>12}" for name in titles))
    lines += _sent_in_words(figures["sent"])
    for kind, times in figures["refused"].items():
        lines.append(f"refused: {times:,} allocations of {kind}")
    for name, times in figures["quirks"].items():
        lines.append(f"quirk {name}: {times:,} times")
    if figures["made_up"]:
        lines.append(f"made up: {figures['made_up']:,} frames came of buffers that a quirk confused")
    for text in figures["broken"]:
        lines += wrapped(f"broken: {text}", indent=8)
    for key, stage in figures["offloads"].items():
        lines += ["", f"{key} at the host", *stage_in_words(stage)]
    for title, key in (("ethtool -S", "ethtool"), ("ip -s link", "netdev"), ("nstat", "snmp")):
        counters = {name: value for name, value in figures[key].items() if value}
        lines += ["", f"{title} (counters that moved)"]
        lines += columns(counters) if counters else ["  none"]
    return "\n".join(lines)


def _reasons(counts: dict[str, int]) -> list[str]:
    """Lines for drop reasons, each with its words."""
    from netemu.reasons import DropReason  # noqa: PLC0415

    lines = []
    for key, count in counts.items():
        lines += wrapped(f"  {count:>11,}  {key}: {DropReason[key.upper()].words}", indent=15)
    return lines


def _sent_in_words(sent: dict[str, Any]) -> list[str]:
    """The lines about ``sent`` of a summary; none for a guest that does not send."""
    if not sent:
        return []
    lines = ["", f"sent         {sent['frames']:>13,}   {sent['bytes']:>17,} bytes"]
    lines.append("queue" + "".join(f"{name:>{_width(name)}}" for name in _SENT_TITLES))
    for n, queue in enumerate(sent["queues"]):
        lines.append(f"{n:>5}" + "".join(f"{queue[name]:>{_width(name)}}" for name in _SENT_TITLES))
    for key, title in (("stack", "in the guest's stack"), ("wire", "behind the device")):
        if any(sent[key][name] for name in _WORTH_TELLING):
            lines += ["", title, *stage_in_words(sent[key])]
    return lines


def _width(title: str) -> int:
    """Columns for the figures under a title."""
    return max(9, len(title) + 2)
