"""What a guest sent, in words: a part of the report of ``netemu replay``."""

from __future__ import annotations

from typing import Any

from netemu.cli.jobs import stage_in_words

_TITLES = ("packets", "descriptors", "kicks", "interrupts", "stop", "wake", "timeouts")
_WORTH_TELLING = ("segmented", "fragmented", "completed", "handed_on")


def sent_in_words(sent: dict[str, Any]) -> list[str]:
    """The lines about ``sent`` of a summary; none for a guest that does not send."""
    if not sent:
        return []
    lines = ["", f"sent         {sent['frames']:>13,}   {sent['bytes']:>17,} bytes"]
    lines.append("queue" + "".join(f"{name[:9]:>10}" for name in _TITLES))
    for n, queue in enumerate(sent["queues"]):
        lines.append(f"{n:>5}" + "".join(f"{queue[name]:>10}" for name in _TITLES))
    for key, title in (("stack", "in the guest's stack"), ("wire", "behind the device")):
        if any(sent[key][name] for name in _WORTH_TELLING):
            lines += ["", title, *stage_in_words(sent[key])]
    return lines
