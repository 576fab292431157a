"""Device status bits (VIRTIO 1.4, section "Device Status Field")."""

from __future__ import annotations

ACKNOWLEDGE = 1
DRIVER = 2
DRIVER_OK = 4
FEATURES_OK = 8
SUSPEND = 16
DEVICE_NEEDS_RESET = 64
FAILED = 128
