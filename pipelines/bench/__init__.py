"""Methods side by side on one log, each as in production: tested on a span before it learns it.

Begin with `log` (`imsr bench` as a whole), then `grid`, `chain` (one cell), `summary`; `floors` and `picks` are what
needs no model. `tuning` is `imsr tune`.
"""
