"""The decisions, one file each: pure, so the same steps run in agents, simulation and replay.

A step knows no clock, no randomness and no I/O; time comes from the records and from ticks. A row
that is handed to a step is the step's own: it was decoded for it and is dropped when it throws.
"""
