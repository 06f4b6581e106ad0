"""Data and state, in rooms; a room imports only from floors below its own (docs/architecture.md shows them).

From an event to a list: `lake` -> `sequences` -> `interests`, led by `nights`; `workspace` keeps all of it whole.
"""
