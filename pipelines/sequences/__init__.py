"""Ids as numbers that never move, and one sequence a user and span, made by a Beam job.

Begin with `build`; `vocabulary` numbers ids, `chain` says which spans continue which, `loader` reads for the models.
"""
