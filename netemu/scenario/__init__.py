"""Scenarios: a lab, its traffic and what is expected of it, in a TOML file, checked as a whole before it is run."""
