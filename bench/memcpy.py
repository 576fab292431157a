"""How long this machine takes to copy so many bytes in memory: ``python -m bench.memcpy BYTES`` prints seconds.

A process of its own: the memory it takes must not show in what the benchmark measures (see `bench.measure.run`).
"""

from __future__ import annotations

import sys
import time

import numpy as np

BLOCK_BYTES = 256_000_000
"""Far more than any cache holds."""


def seconds_to_copy(total: int) -> float:
    """Copy ``total`` bytes with NumPy, from pages to pages that are both present already, and return the seconds."""
    block = min(total, BLOCK_BYTES)
    source, target = np.ones(block, np.uint8), np.zeros(block, np.uint8)
    target[:] = source
    start = time.perf_counter()
    for done in range(0, total, block):
        length = min(block, total - done)
        target[:length] = source[:length]
    return time.perf_counter() - start


if __name__ == "__main__":
    print(seconds_to_copy(int(sys.argv[1])))
