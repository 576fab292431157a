"""RSS and hash reports set up as a user asks, by the commands that ethtool has the driver send."""

from __future__ import annotations

from netemu.device.net import NetDevice
from netemu.driver.probe import VirtioNet
from netemu.errors import ConfigError
from netemu.offer import RssOptions


def configure_hashing(device: NetDevice, driver: VirtioNet, rss: RssOptions | None, *, hash_report: bool) -> None:
    """What a user sets with ethtool; raises `ConfigError` where driver or device do not go along."""
    of_driver = driver.rss
    for wanted, there, name in (
        (rss is not None, of_driver.has_rss, "RSS"),
        (hash_report, of_driver.has_rss_hash_report, "HASH_REPORT"),
    ):
        if wanted and not there:
            raise ConfigError(f"{name} was not negotiated: {driver.facts.name} does not know it, or refused it")
    done = True
    if rss is not None and (rss.table is not None or rss.key is not None):
        done = of_driver.virtnet_set_rxfh(rss.table, rss.key)
    if rss is not None and rss.types is not None:
        done = done and of_driver.virtnet_set_hashflow(rss.types)
    if (rss is not None or hash_report) and driver.control.rss is None:
        done = of_driver.virtnet_commit_rss_command()  # kernels that leave it to the user
    if not done:
        why = device.control.last_refusal or "a hash type that driver or device does not have"
        raise ConfigError(f"hashing cannot be set up so: {why}")
