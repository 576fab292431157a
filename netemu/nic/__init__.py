"""A virtual network card: one device, one driver and one protocol stack, over one guest's memory.

`Nic` is what a user holds. From the bottom up: `plan` says what is to be built, `loop` joins device and driver by the
engine, `card` is the pair that runs, `nic` the frames that a user gives it and takes from it. Beside them stand what a
guest turns on (`guest`), its send side (`sending`), a thread a queue (`lanes`), what a user sets while the card runs
(`control`), and what it counted (`counters`).
"""

from netemu.nic.frames import Outgoing, ReceivedSkb
from netemu.nic.nic import Nic
from netemu.nic.plan import DEFAULT_BURST

__all__ = ["DEFAULT_BURST", "Nic", "Outgoing", "ReceivedSkb"]
