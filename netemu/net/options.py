"""What a user says of a link: `LinkOptions`, one field for each word."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from netemu.errors import ConfigError
from netemu.net.netem_words import FLAGS, SYNONYMS, WORDS, Tables, parse_value, parse_words
from netemu.net.red_tuning import tuning
from netemu.net.units import nearest, parse_int, parse_rate, parse_time
from netemu.net.values import PACKETS_MAX, Delay, Loss, Odds, Queue, Rate, Red, Reorder, Slot


def _numbers(word: str, value: float) -> Any:
    """What a number that is no text means for a word: ns, bit/s, percent, packets, bytes."""
    if word == "delay":
        return Delay(parse_time(value))
    if word == "loss":
        return Loss("random", (float(value),))
    if word in ("duplicate", "corrupt"):
        return Odds(float(value))
    if word == "reorder":
        return Reorder(float(value))
    if word == "rate":
        return Rate(parse_rate(value))
    if word == "slot":
        return Slot(parse_time(value))
    if word == "queue":
        return Queue(packets=parse_int(int(value), "a queue's number of packets", 0, PACKETS_MAX - 1))
    return parse_value(word, str(value))


_KINDS: dict[str, Any] = {
    "delay": Delay,
    "loss": Loss,
    "duplicate": Odds,
    "corrupt": Odds,
    "reorder": Reorder,
    "rate": Rate,
    "slot": Slot,
    "queue": Queue,
}


def checked(word: str, value: Any, tables: Tables | None = None) -> Any:
    """The value of a field: what is one already, else what the text of a word's arguments, or a number, says.

    Raises `ConfigError`.
    """
    if value is None or isinstance(value, _KINDS.get(word, ())):
        return value
    if isinstance(value, str):
        return parse_value(word, value, tables)
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return _numbers(word, value)
        except ConfigError as error:
            raise ConfigError(f"{word}: {error}") from None
    raise ConfigError(f"{word}: {value!r} is neither a text nor a number")


@dataclass(frozen=True)
class LinkOptions:
    """One direction of a link, or both. A field left out (None) is as on a perfect wire.

    A field takes the arguments of its word as text (``loss="gemodel 1% 10%"``), the value itself
    (``loss=Loss(...)``), or, where one number says it all, that: ns for times, bit/s for rates, percent for chances,
    packets for a queue. Raises `ConfigError`.
    """

    delay: Delay | str | int | None = None
    loss: Loss | str | float | None = None
    ecn: bool = False
    """Mark packets in place of losing them, where they are able to carry the mark."""
    duplicate: Odds | str | float | None = None
    corrupt: Odds | str | float | None = None
    reorder: Reorder | str | float | None = None
    rate: Rate | str | int | None = None
    slot: Slot | str | int | None = None
    limit: int | str | None = None
    """Most frames that the link holds, those under way included. Without it there is no bound but the queue's, or
    1000 where there are slots; netem always has one, and takes 1000."""
    queue: Queue | str | int | None = None
    """What waits for a link with a rate; 1000 packets and tail drop if nothing is said."""
    mtu: int | str | None = None
    """Most bytes of a packet behind its Ethernet header."""
    gso: str | None = None
    """``whole``: a large frame is one frame to the link (the default, as in Linux). ``segments``: it is cut first."""
    seed: int | str | None = None
    """Of all chances of the link; without it, the lab's seed and the link's number."""

    def __post_init__(self) -> None:
        """Read and check all fields."""
        for word in WORDS:
            object.__setattr__(self, word, checked(word, getattr(self, word)))
        if not isinstance(self.ecn, bool):
            raise ConfigError(f"ecn: true or false, not {self.ecn!r}")
        if self.ecn and self.loss is None:
            raise ConfigError("ecn: packets are marked in place of being lost: it needs a loss")
        queue: Any = self.queue
        if queue is not None and isinstance(queue.policy, Red):
            tuning(queue.policy, queue, self.rate.rate if isinstance(self.rate, Rate) else 0)
        if self.reorder is not None and self.reorder.percent and (self.delay is None or self.delay.time == 0):  # type: ignore[union-attr]
            raise ConfigError("reorder: needs a delay, which the packets that go ahead do not have")

    @classmethod
    def of(cls, text: str = "", *, tables: Tables | None = None, **words: Any) -> LinkOptions:
        """Options from a text of words, from keywords, or from both; a keyword overrules the text.

        ``tables`` gives the numbers of a distribution that is named and not known. Raises `ConfigError`.
        """
        return cls().changed(text, tables=tables, **words)

    def changed(self, text: str = "", *, tables: Tables | None = None, **words: Any) -> LinkOptions:
        """These options with the words that are named; the others stay. None takes a word away."""
        values = parse_words(text, tables)
        names = {field.name for field in fields(self)}
        for name, value in words.items():
            word = SYNONYMS.get(name, name)
            if word not in names:
                raise ConfigError(f"{name}: no word of a link{nearest(name, names)}")
            values[word] = value if word in FLAGS else checked(word, value, tables)
        return replace(self, **values)

    def __str__(self) -> str:
        """The options in words, which are read back as the same options."""
        words = []
        for word in WORDS:
            value = getattr(self, word)
            if value is not None:
                words.append(f"{word} {value}")
            if word == "loss" and self.ecn:
                words.append("ecn")
        return " ".join(words)
