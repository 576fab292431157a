"""Traffic at speed: sources, sinks and answering sockets that run in kernels, and what they measured.

Nothing here wakes Python per packet: a source is an event that comes back, a sink is a socket's ``app``.
"""
