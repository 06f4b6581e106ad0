"""Whether a new task is worth moving what the older tasks read.

TERACON trains the whole network with every task, and most of what a task learns may be in its own head and mask. Both
are compared on the task's validation users: the network as it was trained, and the parent's network with the head and
the mask that were trained. Decided (not in the paper): the network moves where those users' labels are likelier by it
by more than ``least_gain`` standard errors of the difference, those of a user standing and falling together. Otherwise
the older tasks stay bit for bit as they were. It needs no data of theirs.
"""

from __future__ import annotations

from imsr_core.lifelong.evaluation import ranks_and_likelihood
from imsr_core.lifelong.evidence import error_of_sum
from imsr_core.lifelong.problems import TaskProblem
from imsr_core.lifelong.view import View


def is_worth_moving(problem: TaskProblem, moved: View, still: View, least_gain: float) -> bool:
    """Whether the new task is clearly better served by the network that moved for it.

    Args:
        moved: the new task as the trained network serves it.
        still: as the parent's network does, with the task's own parts.
        least_gain: in standard errors of the gain in log-likelihood.
    """
    with_it, without = (
        ranks_and_likelihood(problem.served(view), problem.validation)[1].double().numpy() for view in (moved, still)
    )
    gain = with_it - without
    return float(gain.sum()) > least_gain * error_of_sum(gain, problem.validation.users)
