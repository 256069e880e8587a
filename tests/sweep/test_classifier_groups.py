"""Classifiers of an evaluation on GPUs: groups, shared images, and groups that fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ensgan import downstream
from ensgan.downstream import ClassifierSettings, Repeat, RepeatResult, Strategy
from ensgan.errors import TrainingError
from ensgan.sweep import classifier_job
from ensgan.sweep.classifier_job import Classifiers, EvaluateJob
from ensgan.sweep.executor import LocalExecutor, Needs
from ensgan.sweep.inputs import FileBank
from ensgan.sweep.records import DatasetFiles
from ensgan.types import Dataset, Samples


class OnGPUs(LocalExecutor):
    """As if classifiers ran on two shares of GPUs."""

    def on_gpus(self, needs: Needs) -> int:
        assert needs == Needs.on("auto")
        return 2


@pytest.fixture
def groups(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Numbers of the repeats that are trained together; number 3 fails."""
    seen: list[list[int]] = []

    def run(repeats: Sequence[Repeat], **_: Any) -> list[RepeatResult]:
        seen.append([each.number for each in repeats])
        assert len({id(each.bank) for each in repeats}) == 1, "images are loaded several times"
        if 3 in seen[-1]:
            raise TrainingError("the loss became non-finite")
        values = [dict.fromkeys(("auc", "accuracy_class_0", "accuracy_class_1"), 0.5)] * 2
        return [RepeatResult(r.strategy, r.number, *values, 1, 1, 1, 1, 1, (1,)) for r in repeats]

    monkeypatch.setattr(downstream, "run_repeats", run, raising=False)
    return seen


def classifiers(folder: Path, done: list[Any]) -> Classifiers:
    images = Samples(np.zeros((2, 8, 8), np.uint8), np.arange(2))
    data = DatasetFiles.write(Dataset("d", images, images, images, ("a", "b")), folder)
    settings = ClassifierSettings(device="auto")
    return Classifiers(
        dataset=data,
        members={},
        settings=settings,
        seed=0,
        folder=folder,
        executor=OnGPUs,
        on_done=lambda trained, count, total: done.append(count),
    )


def jobs(of: Classifiers, numbers: Sequence[int]) -> list[EvaluateJob]:
    strategy = Strategy("real", kind="real")
    where = of.dataset, FileBank({}), of.settings, 0, of.folder
    return [EvaluateJob(strategy, number, *where) for number in numbers]


def test_results_in_a_named_precision_are_their_own(tmp_path: Path) -> None:
    """What ``auto`` made is found again wherever it is asked for, as before there was a choice."""
    of = classifiers(tmp_path, [])
    (auto,) = jobs(of, [0])
    assert "precision" not in repr(of.settings)
    named = [
        replace(auto, settings=replace(of.settings, precision=precision))
        for precision in ("float32", "tf32", "bfloat16")
    ]
    assert len({job.key for job in (auto, *named)}) == 4


def test_a_group_for_every_share_and_no_more_than_twenty(
    groups: list[list[int]], tmp_path: Path
) -> None:
    done: list[Any] = []
    of = classifiers(tmp_path, done)
    numbers = [number for number in range(6) if number != 3]
    results = of.run(jobs(of, numbers))
    assert groups == [[0, 1, 2], [4, 5]] and [each.repeat for each in results] == numbers
    assert done == [1, 2, 3, 4, 5]
    of.run(jobs(of, [*numbers, *range(10, 60)]))
    assert [len(group) for group in groups[2:]] == [20, 20, 10], "what is known is not trained"


def test_a_classifier_that_fails_leaves_the_results_of_the_others(
    groups: list[list[int]], tmp_path: Path
) -> None:
    of = classifiers(tmp_path, [])
    every = jobs(of, range(6))
    with pytest.raises(TrainingError, match="non-finite"):
        classifier_job.evaluate(classifier_job.EvaluateJobs(tuple(every)))
    assert groups == [[0, 1, 2, 3, 4, 5], [0, 1, 2], [3, 4, 5], [3], [4, 5]]
    known = [classifier_job.known_result(job) is not None for job in every]
    assert known == [True, True, True, False, True, True]
