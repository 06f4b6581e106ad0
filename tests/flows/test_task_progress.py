"""What is said while a task is learnt, and how much longer it takes at least."""

import dataclasses

import pytest

from flows.task_progress import Pace, duration, task_progress
from imsr_core.lifelong.training import PhaseProgress, Step
from imsr_core.lifelong.wide import WIDE_PHASE


def at(done: int, **changes: object) -> PhaseProgress:
    start = PhaseProgress("T1", "train", Step(done // 10, done % 10, 10), 5.5, done, 2000, 40)
    return dataclasses.replace(start, **changes)


def test_time_left_is_the_pace_of_the_phase_times_the_fewest_steps():
    now = [100.0]
    pace = Pace(lambda: now[0])
    assert "left" not in pace.sentence(at(1))  # nothing is measured yet
    now[0] = 106.0
    line = pace.sentence(at(13, likelihood=-5.81, best_epoch=1))
    assert line == (
        "task T1, train: epoch 2, step 4 of 10, loss 5.500; best so far epoch 1, held-out log-likelihood -5.810; "
        "20 s left at least, longer while epochs get better"
    )


def test_every_phase_has_a_pace_of_its_own():
    now = [0.0]
    pace = Pace(lambda: now[0])
    pace.sentence(at(1))
    now[0] = 1000.0
    assert "left" not in pace.sentence(at(1, phase="retrain"))
    now[0] = 1001.0
    assert "40 s left" in pace.sentence(at(2, phase="retrain"))


def test_fits_of_the_linear_part_are_told_as_such():
    line = Pace().sentence(at(2, task="age", phase=WIDE_PHASE, most=10, loss=1.4412))
    assert line == "task age, linear part: fit 2 of 10 at most, held-out loss 1.441"


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89, "89 s"), (91, "2 min"), (9000, "2.5 h")])
def test_durations_are_told_in_the_unit_that_a_person_would_use(seconds, words):
    assert duration(seconds) == words


def test_without_a_terminal_a_phase_says_that_it_begins(capsys):
    with task_progress() as progress:
        progress(at(1))
        progress(at(2))  # within half a minute: nothing
        progress(at(1, task="age"))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["task T1, train", "task age, train"]
