"""Whether kernels are compiled or interpreted in this process."""

from __future__ import annotations

import os

JIT: bool = os.environ.get("NETEMU_JIT", "1") != "0"
"""False when the environment says ``NETEMU_JIT=0``: kernels then run as plain Python with every access checked."""
