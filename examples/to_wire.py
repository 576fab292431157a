"""A capture from a host with offloads, finished for the wire: what `netemu to-wire` does, from Python.

python examples/to_wire.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from netemu import read_capture
from netemu.offload import Finisher
from netemu.wire import WireJob

SOURCE = Path(__file__).parent.parent / "pcaps" / "web.pcapng"


def main() -> None:
    """Segment what is larger than the MTU, and compute the checksums that were left to hardware."""
    source = sys.argv[1] if len(sys.argv) > 1 else str(SOURCE)
    job = WireJob(Finisher(mtu=1500), "wire.pcapng")
    job.play([source])
    figures = job.summary()
    print(figures["frames_in"], "frames became", figures["frames_out"])
    print(figures["segmented"], "of them were cut into", figures["segments"], "segments")
    print("longest before:", max(len(frame.data) for frame in read_capture(source)))
    print("longest after:", max(len(frame.data) for frame in read_capture("wire.pcapng")))


if __name__ == "__main__":
    main()
