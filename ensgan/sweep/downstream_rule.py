"""G* by the rule ``downstream``: the front point whose classifiers validate best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ensgan import downstream
from ensgan.search import select
from ensgan.sweep.classifier_job import DatasetFiles, evaluation_jobs, run_jobs
from ensgan.sweep.executor import Executor
from ensgan.types import Front, Selection

RULE = "downstream"


def choose_downstream(
    front: Front,
    *,
    points: int,
    repeats: int,
    dataset: DatasetFiles,
    samples: Mapping[str, Path],
    settings: downstream.ClassifierSettings,
    seed: int,
    folder: Path,
    executor: Executor,
    on_done: Callable[[dict[str, Any]], None],
) -> Selection:
    """Train classifiers on front points and take the point with the best validation score.

    The score is the balanced accuracy on the validation split, averaged over the repeats; the
    test split has no part in it.

    Args:
        front: all points; ``points`` of them, evenly spread, are tried.
        repeats: classifiers a point.
        dataset, samples, settings, seed, folder: as :func:`evaluation_jobs` wants them.
        executor: where classifiers are trained.
        on_done: told of every classifier.
    """
    tried = downstream.spread_points(front, points)
    strategies = [
        downstream.Strategy(f"front/{index + 1}", point.members, point.weights)
        for index, point in enumerate(tried)
    ]
    jobs = evaluation_jobs(
        strategies,
        repeats,
        dataset=dataset,
        samples=samples,
        settings=settings,
        seed=seed,
        folder=folder,
    )
    results = run_jobs(jobs, executor, on_done)
    scores = [
        float(np.mean([r.val_score for r in results if r.strategy.name == strategy.name]))
        for strategy in strategies
    ]
    return select(replace(front, points=tried), RULE, validation_scores=scores)
