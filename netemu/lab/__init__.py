"""Hosts, links and what joins them, on one clock: the lab that scenarios and scripts build."""

from __future__ import annotations

from netemu.lab.cpu import Cpu
from netemu.lab.guest import Guest
from netemu.lab.lab import Lab
from netemu.lab.router import Router

__all__ = ["Cpu", "Guest", "Lab", "Router"]
