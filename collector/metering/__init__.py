"""The rules that turn poll results into figures. They use memory only, and do no I/O.

`pipeline` turns a poll result into rows. `attribution` finds a session's tenant and room. `gapfill`
interpolates between two polls.
"""
