"""The benchmark of netemu: how it compares with other programs on the same machine, in the same minute.

Run ``python -m bench`` from the root of the repository; ``python -m bench --list`` names the rows. What each row
compares, and how to read the figures, is on the page docs/performance.md.
"""
