"""The host: a device that fills receive buffers, takes what is sent, and trusts nothing it reads. Knows no driver."""
