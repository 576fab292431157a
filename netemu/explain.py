"""What a feature set means: names, rules, header, ring, and what each kernel would make of it; as plain values."""

from __future__ import annotations

from typing import Any

from netemu.device.config import config_advice
from netemu.driver.eras import ERAS, EraFacts
from netemu.driver.features import MODE_NAMES, SUPPORTED, choose, receive_mode
from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio.features import ADVICE, NAMES, REQUIRES, FeatureSet
from netemu.virtio.meanings import MEANINGS
from netemu.virtio.net import NetConfig, header_layout, header_length


def explain_bit(bit: int) -> dict[str, Any]:
    """A feature by itself.

    ``requires`` is a list of groups, of each of which one bit has to be there, ``should_have`` the same without must;
    ``interface`` says where it means something: "any", "legacy", "pci", or "none" for a bit that is not described.
    """
    interface = "legacy" if bit in f.LEGACY_ONLY else "pci" if bit in f.PCI_ONLY else "any"
    return {
        "bit": bit,
        "name": NAMES.get(bit, str(bit)),
        "meaning": MEANINGS.get(bit, "not described by the specification"),
        "requires": [[NAMES[one] for one in group] for group in REQUIRES.get(bit, ())],
        "should_have": [[NAMES[one] for one in group] for group in ADVICE.get(bit, ())],
        "interface": interface if bit in NAMES else "none",
    }


def explain_set(features: FeatureSet) -> dict[str, Any]:
    """A set: its features, what is wrong with it, and the header and ring that follow from it once negotiated."""
    return {
        "features": [explain_bit(bit) for bit in features],
        "mask": f"{features.mask:#x}",
        "unmet": features.unmet(),
        "advice": features.unadvised(),
        "undescribed": names(features.undescribed()),
        "interface": "modern" if f.VERSION_1 in features else "legacy",
        "ring": ring_kind(features),
        "header_length": header_length(features),
        "header": [{"field": name, "offset": offset, "size": size} for name, offset, size in header_layout(features)],
    }


def explain_driver(
    kernel: EraFacts, offered: FeatureSet, wanted: FeatureSet | None = None, mtu: int = 1500
) -> dict[str, Any]:
    """What a kernel takes of an offer, and the shape its queues get; or why it refuses the device.

    ``wanted`` limits what it takes (None: all it knows). ``not_here`` are features that the kernel takes and netemu's
    driver does not.
    """
    try:
        chosen = choose(kernel, offered, offered if wanted is None else wanted, mtu)
    except ConfigError as error:
        return {"driver": kernel.name, "refuses": str(error)}
    mode = receive_mode(chosen, kernel, mtu if f.MTU in chosen else 0)
    return {
        "driver": kernel.name,
        "refuses": None,
        "takes": names(chosen),
        "leaves": names(offered - chosen),
        "not_here": names(chosen - SUPPORTED),
        "mode": MODE_NAMES[mode],
        "header_length": header_length(chosen),
        "ring": ring_kind(chosen),
    }


def explain(
    offered: FeatureSet, accepted: FeatureSet | None = None, drivers: tuple[str, ...] = tuple(ERAS), mtu: int = 1500
) -> dict[str, Any]:
    """An offer, what a driver accepts of it where that is given, and what each of ``drivers`` would make of it.

    ``refused`` says why a device would leave FEATURES_OK clear for the accepted set; empty where it would not.
    """
    whole: dict[str, Any] = {"offer": explain_set(offered)}
    whole["offer"]["advice"] += config_advice(NetConfig(mtu=mtu), offered)
    if accepted is not None:
        extra = accepted - offered
        refused = ([f"not offered: {extra}"] if extra else []) + accepted.unmet()
        whole["accept"] = explain_set(accepted) | {"refused": refused}
    whole["drivers"] = [explain_driver(ERAS[name], offered, accepted, mtu) for name in drivers]
    return whole


def names(features: FeatureSet) -> list[str]:
    """The names of a set, bits without one as numbers."""
    return [NAMES.get(bit, str(bit)) for bit in features]


def ring_kind(features: FeatureSet) -> str:
    """The rings' layout and manners, in words."""
    words = ["packed" if f.RING_PACKED in features else "split"]
    words += [word for bit, word in _RING_WORDS if bit in features]
    return ", ".join(words)


_RING_WORDS = (
    (f.INDIRECT_DESC, "indirect tables"),
    (f.EVENT_IDX, "event index"),
    (f.IN_ORDER, "in order"),
    (f.NOTIFICATION_DATA, "notification data"),
    (f.RING_RESET, "reset alone"),
)
