"""Polling: ask every server for its meetings at every tick.

`poller` asks a fleet through clients of `collector.bbb`, one result a server, always. `parser`
turns an answer's bytes into meetings, with `attendees` (cut out before parsing) and `ambiguity`
(answers that a client's data make readable in several ways).
"""
