"""The table of goodput over loss, delay and buffer that `tests/tcp_goodput.txt` keeps.

``python -m tests.tcp_goodput`` writes the file anew; the commit that changes it says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path as File

from tests.tcp_path_kit import MS, Path

TABLE = File(__file__).with_suffix(".txt")
SECONDS = 10
LOSSES = ("0%", "0.1%", "1%", "5%")
DELAYS = (1, 10, 100)
QUEUES = (10, 50, 250)
ALGORITHMS = ("reno", "cubic")

HEAD = f"""\
TCP between two hosts over a link of 20 Mbit/s, {SECONDS} s from the SYN on, without offloads.
Loss is of data only, delay is one way, in ms, the queue is in packets of 1514 bytes; goodput is what
was acknowledged, in kbit/s; in brackets are segments retransmitted and timeouts.

"""


def cell(algorithm: str, loss: str, delay: int, queue: int) -> str:
    """What a transfer comes to."""
    path = Path(f"loss {loss}", delay=delay * MS, rate="20mbit", queue=f"{queue}p", settings={"congestion": algorithm})
    path.start()
    path.run(SECONDS)
    counters = path.a.stack.snmp()
    kbit = path.acked * 8 // (SECONDS * 1000)
    return f"{kbit} ({counters['TcpRetransSegs']}/{counters['TcpExtTCPTimeouts']})"


def lines() -> Iterator[str]:
    """The table, line by line."""
    yield f"{'loss':>5} {'delay':>6} {'queue':>6}" + "".join(f"{algorithm:>20}" for algorithm in ALGORITHMS)
    for loss in LOSSES:
        for delay in DELAYS:
            for queue in QUEUES:
                cells = "".join(f"{cell(algorithm, loss, delay, queue):>20}" for algorithm in ALGORITHMS)
                yield f"{loss:>5} {delay:>6} {queue:>6}{cells}"


def table() -> str:
    """The whole file."""
    return HEAD + "\n".join(lines()) + "\n"


if __name__ == "__main__":
    TABLE.write_text(table())
