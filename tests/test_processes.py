"""Work shared by processes."""

from __future__ import annotations

import sys
from contextlib import closing

import crashing
import pytest

from fader.errors import FaderError
from fader.processes import WorkerPool

ways = pytest.mark.parametrize(
    "forked",
    [
        False,
        pytest.param(
            True, marks=pytest.mark.skipif(sys.platform != "linux", reason="forks are Linux's")
        ),
    ],
)


def answers(tasks, forked, lost=lambda task: "lost", workers=2):
    with closing(WorkerPool(crashing.make, tasks, workers, lost, forked=forked)) as pool:
        return dict(pool)


@ways
def test_a_process_that_dies_takes_only_its_own_task_along(forked):
    tasks = ["a", "deadly", "b", "c", "deadly too", "d"]
    assert answers(tasks, forked) == {
        task: "lost" if task.startswith("deadly") else f"{task} done" for task in tasks
    }


@ways
def test_what_is_raised_in_a_process_is_raised_here(forked):
    with pytest.raises(FaderError, match="refuses bad news"):
        answers(["a", "bad news", "b"], forked)


def test_what_a_lost_task_raises_ends_the_work():
    def lost(task):
        raise FaderError(f"{task} was lost")

    with pytest.raises(FaderError, match="deadly was lost"):
        answers(["a", "deadly"], False, lost)


def test_one_worker_works_here():
    assert answers(["a", "b"], False, workers=1) == {"a": "a done", "b": "b done"}
