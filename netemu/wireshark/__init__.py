"""Wireshark support for ring captures: a dissector in Lua, a profile, and the code that installs both."""
