"""What the driver takes of the features a device offers: virtnet_validate, and steps 1 to 6 of initialisation.

Which features a kernel knows is a fact of its era (`EraFacts.features`); of those the driver half here takes what it
really does (`SUPPORTED`), and of those what its user wants.
"""

from __future__ import annotations

from netemu.driver.config import cread
from netemu.driver.eras import EraFacts
from netemu.driver.virtnet import MODE_BIG, MODE_MERGEABLE, MODE_SMALL
from netemu.errors import ConfigError
from netemu.virtio import features as f
from netemu.virtio import status
from netemu.virtio.features import FeatureSet
from netemu.virtio.transport import Transport

SUPPORTED = FeatureSet.of(
    f.MAC, f.STATUS, f.MTU, f.MRG_RXBUF, f.MQ,
    f.CTRL_VQ, f.CTRL_RX, f.CTRL_VLAN, f.CTRL_MAC_ADDR, f.CTRL_GUEST_OFFLOADS, f.NOTF_COAL, f.VQ_NOTF_COAL,
    f.DEVICE_STATS, f.GUEST_ANNOUNCE, f.RSS, f.HASH_REPORT,
    f.GUEST_CSUM, f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO,
    f.CSUM, f.GSO, f.HOST_TSO4, f.HOST_TSO6, f.HOST_ECN, f.HOST_UFO, f.HOST_USO, f.GUEST_HDRLEN,
    f.HOST_UDP_TUNNEL_GSO, f.HOST_UDP_TUNNEL_GSO_CSUM,
    f.INDIRECT_DESC, f.EVENT_IDX, f.VERSION_1, f.ACCESS_PLATFORM, f.ORDER_PLATFORM, f.STANDBY, f.SPEED_DUPLEX,
    f.ANY_LAYOUT, f.RING_RESET, f.RING_PACKED, f.IN_ORDER, f.NOTIFICATION_DATA,
    f.GUEST_USO4, f.GUEST_USO6, f.GUEST_UDP_TUNNEL_GSO, f.GUEST_UDP_TUNNEL_GSO_CSUM,
)  # fmt: skip
"""The features of which this driver has the code; it takes those of its era that are offered."""

MTU_MIN = 68
ETH_DATA_LEN = 1500
MODE_NAMES = {MODE_SMALL: "small", MODE_BIG: "big", MODE_MERGEABLE: "mergeable"}


def receives_gso(features: FeatureSet, facts: EraFacts) -> bool:
    """virtnet_check_guest_gso: whether frames longer than a segment may come; of USO only both together say so."""
    uso = facts.usogso and f.GUEST_USO4 in features and f.GUEST_USO6 in features
    return uso or features.has_any(f.GUEST_TSO4, f.GUEST_TSO6, f.GUEST_ECN, f.GUEST_UFO)


def receive_mode(features: FeatureSet, facts: EraFacts, mtu: int) -> int:
    """Which buffers the driver posts: MODE_MERGEABLE, MODE_BIG or MODE_SMALL."""
    if f.MRG_RXBUF in features:
        return MODE_MERGEABLE
    return MODE_BIG if receives_gso(features, facts) or mtu > ETH_DATA_LEN else MODE_SMALL


def known_features(facts: EraFacts, offered: FeatureSet) -> FeatureSet:
    """What a kernel takes of an offer before virtnet_validate: of a legacy device by a list of its own (LEG-V-01)."""
    known = FeatureSet.of(*facts.features)
    if f.VERSION_1 in offered:
        known |= FeatureSet.of(*facts.features_modern)
    else:
        known |= FeatureSet.of(*facts.features_legacy)
    return offered & known


def virtnet_validate(facts: EraFacts, known: FeatureSet) -> None:
    """Raise `ConfigError` for a device that Linux refuses: features of the control queue without one."""
    if f.CTRL_VQ in known:
        return
    for bit in facts.need_ctrl_vq:
        if bit in known:
            raise ConfigError(f"the device offers {f.NAMES[bit]} without CTRL_VQ: Linux refuses it")


def choose(facts: EraFacts, offered: FeatureSet, wanted: FeatureSet, mtu: int) -> FeatureSet:
    """The features a driver would accept of ``offered``, where the device's MTU field says ``mtu``.

    Raises `ConfigError` where it would refuse the device.
    """
    known = known_features(facts, offered)
    virtnet_validate(facts, known)
    chosen = known & wanted
    if f.MTU in chosen and mtu < MTU_MIN:
        chosen -= FeatureSet.of(f.MTU)
    if facts.standby_needs_mac and f.MAC not in chosen:
        chosen -= FeatureSet.of(f.STANDBY)
    return chosen.closed()


def negotiate(transport: Transport, facts: EraFacts, wanted: FeatureSet) -> FeatureSet:
    """Steps 1 to 6 of device initialisation (INIT-V-01 to INIT-V-09); the features that hold from now on.

    A legacy device has no say in the choice, and no FEATURES_OK (LEG-V-04). Raises `ConfigError` for a device that the
    driver refuses, and for one that refuses the driver.
    """
    greet(transport)
    offered = transport.get_features()
    mtu = cread(transport, "mtu") if f.MTU in offered else 0  # CFG-V-04
    chosen = choose(facts, offered, wanted & SUPPORTED, mtu)
    confirm(transport, chosen)
    return chosen


def greet(transport: Transport) -> None:
    """Steps 1 to 3: reset the device, and say that somebody has seen it and knows how to drive it."""
    reset(transport)
    transport.set_status(status.ACKNOWLEDGE)
    transport.set_status(status.ACKNOWLEDGE | status.DRIVER)


def confirm(transport: Transport, chosen: FeatureSet) -> None:
    """Tell the device the choice, and see that it agrees; raises `ConfigError` where it does not (INIT-V-09)."""
    transport.set_features(chosen)
    if f.VERSION_1 not in chosen:
        return
    transport.set_status(transport.get_status() | status.FEATURES_OK)
    if not transport.get_status() & status.FEATURES_OK:
        raise ConfigError(f"the device refuses the feature set {chosen}")


def reset(transport: Transport) -> None:
    """virtio_reset_device: it is over when the status reads 0 (RST-V-01). Raises `ConfigError` where it never does."""
    transport.set_status(0)
    for _ in range(RESET_READS):
        if transport.get_status() == 0:
            return
    raise ConfigError(f"the device does not reset: its status stays {transport.get_status():#x}")


RESET_READS = 1000
"""Times the status is read after a reset; a device in one process needs one."""
