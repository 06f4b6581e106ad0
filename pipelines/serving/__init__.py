"""The live version in memory for `imsr api`, and what `imsr export` writes for other programs.

Begin with `live` and `model`.
"""
