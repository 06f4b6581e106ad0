"""The nightly line: versions of the interests model, from training to recommendations.

Begin with `version` (what a folder holds) and `training`, then `evaluation`, `gate`, `promotion`; `recommend` is what
comes of it.
"""
