"""One score out of terms, with weights that are fitted out of sample; see `imsr_core.score.score`."""

from __future__ import annotations

from imsr_core.score.content import Categories
from imsr_core.score.interest import InterestTerm
from imsr_core.score.score import MONTH, Score
from imsr_core.score.serving import Scorer
from imsr_core.score.weights import SETS, Evidence, Weights

__all__ = ["MONTH", "SETS", "Categories", "Evidence", "InterestTerm", "Score", "Scorer", "Weights"]
