"""What both lines of models share: where a version comes from, and which one is live.

Begin with `lineage` (a version's own record) and `pointer` (every move of "current"); `candidates` makes versions.
"""
