"""The specification: features, status, rings, headers and configuration. Knows no Linux, no packet and no I/O."""
