"""The rules by which facts become figures: pure functions and memory, no I/O.

`pipeline` turns a poll's result into the rows that are stored; `attribution` says whose a meeting
is, and which room; `gapfill` interpolates between two polls.
"""
