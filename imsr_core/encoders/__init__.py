"""Encoders of a user's item sequence: `protocol` says what they share, `build` makes one by name.

A new one is one class in one file and one line in `imsr_core.parts`.
"""
