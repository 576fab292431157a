"""What the words of a link say, as values: one frozen class a word, checked when it is made.

Times are in ns, rates in bit/s, sizes in bytes, chances in percent. ``str`` of a value gives the arguments of its word
as tc writes them; `netemu.net.netem_words` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from netemu.errors import ConfigError
from netemu.net.units import format_percent, format_rate, format_size, format_time, nearest

DISTRIBUTIONS = ("uniform", "normal", "pareto", "paretonormal")
TABLE_MAX = 16384
"""Most numbers in a table (NETEM_DIST_MAX)."""
SPREAD_MAX = 1 << 38
"""A jitter, and a time between slots, is less than this: some four minutes."""
RATE_MAX = 10**14
"""bit/s."""
PACKETS_MAX = 1 << 31

SLOT_LIMIT = 1000
"""Most frames that a link with slots holds if nothing is said: netem's limit."""

Distribution = str | tuple[int, ...]
"""The name of one of DISTRIBUTIONS, or a table of one's own: 8192ths of the jitter, in ascending order."""


def _check_percents(value: object, *names: str) -> None:
    for name in names:
        percent = getattr(value, name)
        if not 0 <= percent <= 100:
            raise ConfigError(f"{name}: a chance is from 0% to 100%, not {percent:g}%")


def _check_distribution(distribution: Distribution) -> None:
    if isinstance(distribution, tuple):
        if not 0 < len(distribution) <= TABLE_MAX or not all(-32768 <= number <= 32767 for number in distribution):
            raise ConfigError(f"a table has 1 to {TABLE_MAX} numbers from -32768 to 32767")
    elif distribution not in DISTRIBUTIONS:
        known = ", ".join(DISTRIBUTIONS)
        raise ConfigError(f"no distribution {distribution!r}{nearest(distribution, DISTRIBUTIONS)}; there are {known}")


def _distribution_words(distribution: Distribution) -> str:
    """A table of one's own has no name, and is written as its numbers."""
    return distribution if isinstance(distribution, str) else ",".join(map(str, distribution))


@dataclass(frozen=True)
class Delay:
    """``delay TIME [JITTER [CORRELATION]] [distribution NAME]``."""

    time: int
    jitter: int = 0
    correlation: float = 0.0
    distribution: Distribution = "uniform"

    def __post_init__(self) -> None:
        """Check it."""
        if not 0 <= self.time < 1 << 62 or not 0 <= self.jitter < SPREAD_MAX:
            raise ConfigError(f"a jitter is from 0 to {format_time(SPREAD_MAX)}, not {self.jitter} ns")
        _check_percents(self, "correlation")
        _check_distribution(self.distribution)
        if self.distribution != "uniform" and self.jitter == 0:
            raise ConfigError("a distribution needs a jitter: delay 10ms 2ms distribution normal")

    def __str__(self) -> str:
        """The word's arguments."""
        text = format_time(self.time)
        if self.jitter:
            text += f" {format_time(self.jitter)}"
            if self.correlation:
                text += f" {format_percent(self.correlation)}"
            if self.distribution != "uniform":
                text += f" distribution {_distribution_words(self.distribution)}"
        return text


LOSS_MODELS = {
    "random": ("percent",),
    "state": ("p13", "p31", "p32", "p23", "p14"),
    "gemodel": ("p", "r", "1-h", "1-k"),
}
"""What the chances of each model of loss are called."""


@dataclass(frozen=True)
class Loss:
    """``loss [random] PERCENT [CORRELATION]``, ``loss state P13 ...`` or ``loss gemodel P ...``.

    ``chances`` holds all of the model's, in the order of LOSS_MODELS; those left out in words get tc's defaults.
    """

    model: str
    chances: tuple[float, ...]
    correlation: float = 0.0

    def __post_init__(self) -> None:
        """Fill in what was left out, and check it."""
        names = LOSS_MODELS.get(self.model)
        if names is None:
            raise ConfigError(f"no model of loss {self.model!r}{nearest(self.model, LOSS_MODELS)}")
        if not 1 <= len(self.chances) <= len(names):
            raise ConfigError(f"loss {self.model} takes 1 to {len(names)} chances: {' '.join(names)}")
        first = self.chances[0]
        defaults = {"random": (), "state": (100 - first, 0.0, 100.0, 0.0), "gemodel": (100 - first, 100.0, 0.0)}
        missing = defaults[self.model][len(self.chances) - 1 :]
        object.__setattr__(self, "chances", tuple(float(chance) for chance in self.chances) + missing)
        for name, chance in zip(names, self.chances, strict=True):
            if not 0 <= chance <= 100:
                raise ConfigError(f"loss {self.model}: {name} is from 0% to 100%, not {chance:g}%")
        if self.model == "state" and (self.chances[0] + self.chances[4] > 100 or sum(self.chances[1:3]) > 100):
            raise ConfigError("loss state: the ways out of a state, p13 and p14, p31 and p32, are 100% at most")
        _check_percents(self, "correlation")

    def __str__(self) -> str:
        """The word's arguments."""
        words = [] if self.model == "random" else [self.model]
        words += [format_percent(chance) for chance in self.chances]
        if self.correlation:
            words.append(format_percent(self.correlation))
        return " ".join(words)


@dataclass(frozen=True)
class Odds:
    """``duplicate PERCENT [CORRELATION]``, ``corrupt PERCENT [CORRELATION]``."""

    percent: float
    correlation: float = 0.0

    def __post_init__(self) -> None:
        """Check it."""
        _check_percents(self, "percent", "correlation")

    def __str__(self) -> str:
        """The word's arguments."""
        return format_percent(self.percent) + (f" {format_percent(self.correlation)}" if self.correlation else "")


@dataclass(frozen=True)
class Reorder:
    """``reorder PERCENT [CORRELATION] [gap DISTANCE]``; it needs a delay that others have."""

    percent: float
    correlation: float = 0.0
    gap: int = 1

    def __post_init__(self) -> None:
        """Check it."""
        _check_percents(self, "percent", "correlation")
        if not 1 <= self.gap < PACKETS_MAX:
            raise ConfigError(f"a gap is at least 1 packet, not {self.gap}")

    def __str__(self) -> str:
        """The word's arguments."""
        text = format_percent(self.percent) + (f" {format_percent(self.correlation)}" if self.correlation else "")
        return text + (f" gap {self.gap}" if self.gap != 1 else "")


@dataclass(frozen=True)
class Rate:
    """``rate RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]``; a rate of 0: sending takes no time."""

    rate: int
    overhead: int = 0
    cell: int = 0
    cell_overhead: int = 0

    def __post_init__(self) -> None:
        """Check it."""
        if not 0 <= self.rate <= RATE_MAX:
            raise ConfigError(f"a rate is at most {format_rate(RATE_MAX)}")
        if not -(1 << 15) <= self.overhead < 1 << 15 or not 0 <= self.cell < 1 << 16:
            raise ConfigError("packet overhead is from -32768 to 32767 bytes, a cell has 0 to 65535")
        if not -(1 << 15) <= self.cell_overhead < 1 << 15 or (self.cell and self.cell + self.cell_overhead <= 0):
            raise ConfigError("cell overhead is from -32768 to 32767 bytes, and leaves something of the cell")

    def __str__(self) -> str:
        """The word's arguments."""
        words = [format_rate(self.rate)]
        rest = [self.overhead, self.cell, self.cell_overhead]
        while rest and rest[-1] == 0:
            rest.pop()
        return " ".join(words + [str(number) for number in rest])


@dataclass(frozen=True)
class Slot:
    """``slot MIN [MAX] [packets N] [bytes N]`` or ``slot distribution NAME DELAY JITTER ...``.

    With a ``distribution``, ``least`` is the mean time between slots and ``most`` its jitter.
    """

    least: int
    most: int = 0
    distribution: Distribution | None = None
    packets: int = 0
    bytes: int = 0

    def __post_init__(self) -> None:
        """Check it; without a maximum it is the minimum."""
        if self.distribution is not None:
            _check_distribution(self.distribution)
        else:
            object.__setattr__(self, "most", self.most or self.least)
            if self.most < self.least:
                raise ConfigError("a slot's longest time is not below its shortest")
        if not 0 <= self.least < SPREAD_MAX or not 0 <= self.most < SPREAD_MAX:
            raise ConfigError(f"times between slots are at most {format_time(SPREAD_MAX)}")
        if not 0 <= self.packets < PACKETS_MAX or not 0 <= self.bytes < 1 << 40:
            raise ConfigError("a slot carries a number of packets and of bytes that is not negative; 0: any")

    def __str__(self) -> str:
        """The word's arguments."""
        text = format_time(self.least)
        if self.distribution is not None:
            text = f"distribution {_distribution_words(self.distribution)} {text} {format_time(self.most)}"
        elif self.most != self.least:
            text += f" {format_time(self.most)}"
        text += f" packets {self.packets}" if self.packets else ""
        return text + (f" bytes {self.bytes}" if self.bytes else "")


@dataclass(frozen=True)
class Red:
    """Random early detection: ``red [min SIZE] [max SIZE] [avpkt SIZE] [burst N] [probability P] [bandwidth RATE]...``.

    What is left out, or 0, is as tc has it: max a quarter of the queue's bytes, min a third of max, burst
    (2 min + max) / (3 avpkt), bandwidth the link's rate. ``gentle`` is Floyd's: above max the chance grows on to 100%
    at twice max; without it all above max is dropped, as in Linux.
    """

    min: int = 0
    max: int = 0
    avpkt: int = 1000
    burst: int = 0
    probability: float = 0.02
    bandwidth: int = 0
    ecn: bool = False
    harddrop: bool = False
    nodrop: bool = False
    adaptive: bool = False
    gentle: bool = False

    def __post_init__(self) -> None:
        """Check it."""
        if not 0 < self.probability <= 1:
            raise ConfigError(f"red: probability is above 0 and at most 1, not {self.probability}")
        if not 1 <= self.avpkt < 1 << 16 or not 0 <= self.burst < 1 << 20 or not 0 <= self.min < 1 << 32:
            raise ConfigError("red: avpkt is the size of a packet, burst a number of packets, min a size")
        if self.max and not self.min < self.max < 1 << 32:
            raise ConfigError("red: max is above min")

    def __str__(self) -> str:
        """The policy in words."""
        words = ["red"]
        for name in ("min", "max"):
            words += [name, format_size(getattr(self, name))] if getattr(self, name) else []
        words += ["avpkt", str(self.avpkt)] if self.avpkt != 1000 else []
        words += ["burst", str(self.burst)] if self.burst else []
        words += ["probability", repr(self.probability)] if self.probability != 0.02 else []
        words += ["bandwidth", format_rate(self.bandwidth)] if self.bandwidth else []
        return " ".join(words + [field.name for field in fields(self) if getattr(self, field.name) is True])


@dataclass(frozen=True)
class Codel:
    """Controlled delay (RFC 8289): ``codel [target TIME] [interval TIME] [ecn] [ce_threshold TIME]``."""

    target: int = 5_000_000
    interval: int = 100_000_000
    ecn: bool = False
    ce_threshold: int = 0

    def __post_init__(self) -> None:
        """Check it."""
        if not 0 < self.interval <= 3_000_000_000 or not 0 <= self.target <= self.interval:
            raise ConfigError("codel: interval is above 0 and at most 3s, target at most the interval")

    def __str__(self) -> str:
        """The policy in words."""
        words = ["codel"]
        words += ["target", format_time(self.target)] if self.target != 5_000_000 else []
        words += ["interval", format_time(self.interval)] if self.interval != 100_000_000 else []
        words += ["ecn"] if self.ecn else []
        words += ["ce_threshold", format_time(self.ce_threshold)] if self.ce_threshold else []
        return " ".join(words)


QUEUE_PACKETS = 1000
"""Packets of a queue of which nothing is said, as tc's queues have."""


@dataclass(frozen=True)
class Queue:
    """``queue [PACKETSp | SIZE] [tail | red ... | codel ...]``: what waits for a link with a rate. 0: without bound."""

    packets: int = QUEUE_PACKETS
    bytes: int = 0
    policy: Red | Codel | None = None

    def __post_init__(self) -> None:
        """Check it."""
        if not 0 <= self.packets < PACKETS_MAX or not 0 <= self.bytes < 1 << 40:
            raise ConfigError("a queue holds a number of packets or bytes that is not negative")

    def __str__(self) -> str:
        """The word's arguments."""
        size = format_size(self.bytes) if self.bytes else f"{self.packets}p"
        return f"{size} {self.policy}" if self.policy is not None else size


GSO_WORDS = ("whole", "segments")
