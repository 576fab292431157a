"""Peers that are not netemu: what joins a lab to the machine it runs on. Time is real then, and there is I/O."""
