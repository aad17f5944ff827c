"""Polling: ask every server for its meetings at every tick.

`poller` asks a fleet through clients of `collector.bbb`, and returns one result for every server.
`parser` turns the bytes of an answer into meetings: `layout` reads the layouts of BigBlueButton
and of load balancers, `lenient` any other. `attendees` removes the attendees before parsing.
`ambiguity` handles answers that a client's data make readable in several ways. `bounds` has the
largest numbers that an answer may contain.
"""
