"""Hosts, links and what joins them, on one clock: the lab that scenarios and scripts build."""
