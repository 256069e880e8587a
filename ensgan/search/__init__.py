"""The search for Pareto-optimal ensembles.

Only :func:`search` is bound at once, with nothing heavy, because ``import ensgan`` binds it as
``ensgan.search``; what else is public is in :mod:`ensgan.search.api`, loaded when one of its names
is first used.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensgan.search.api import *  # noqa: F403
    from ensgan.search.constraints import Budget
    from ensgan.search.optuna import EnsembleSampler
    from ensgan.search.tables import ObjectiveTables
    from ensgan.types import Front, PoolScores


def search(
    scores: PoolScores | str | Path,
    *,
    sampler: str = "pareto-local",
    trials: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    objectives: str | ObjectiveTables | None = None,
    inter: str = "symmetric",
    third: str | None = None,
    costs: Mapping[str, float] | None = None,
    min_size: int = 2,
    max_size: int | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    max_per_gan: int | None = None,
    budget: Budget | None = None,
    warm_start: bool = False,
    resume: Front | str | Path | None = None,
    study_storage: str | Path | None = None,
    record: str | Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Front:
    """Search the Pareto front of a scored pool: maximise Intra-d, minimise Inter-d.

    Args:
        scores: the pool, or its ``scores.npz``.
        sampler: one of :func:`ensgan.search.samplers`.
        trials, seconds: the budget in evaluations and wall time; something is always evaluated.
            Without either, ``pareto-local`` stops by itself, most others after 1,000 trials.
        seed: the same seed and ``trials`` give the same front.
        objectives: name of their form, or tables (:func:`ensgan.search.frechet_tables`, say).
        inter: ``symmetric``: mean of both directions; ``directed``: the later member has the balls.
        third, costs: a third objective, minimised: ``members``, or the sum of each member's cost
            by what is counted: ``cost``, ``parameters`` or ``seconds``.
        min_size, max_size: bounds of the number of members, at least 2.
        include, exclude: members or globs (``StyleGAN2*``, ``*@100000``) that must be in or out.
        max_per_gan, budget: most snapshots of one GAN; limit on the members' summed cost.
        warm_start: begin with the front of a short ``pareto-local`` search.
        resume: begin with the points of an earlier front of this pool, or of its file.
        study_storage: Optuna storage: ``sqlite:///FILE``, or a file name for a journal; a stored
            study of the same search goes on. None keeps the trials in memory.
        record: CSV of the trials (``pareto-local``: of those that entered the front).
        on_progress: called with (done, total).

    Raises:
        InputError: unknown names, impossible constraints, a budget ≤ 0, a front of another pool.
        DataError: scores that cannot be used, or a file that cannot be read.
        StoreError: the study's storage cannot be used.
        SearchInterrupted: Ctrl-C; carries the front found so far.
    """
    started = time.perf_counter()
    from ensgan.search.constraints import Constraints
    from ensgan.search.evaluator import Evaluator
    from ensgan.search.ledger import SearchLedger
    from ensgan.search.sampler import run
    from ensgan.search.tables import ThirdObjective
    from ensgan.types import DEFAULT_FORM, PoolScores

    pool = scores if isinstance(scores, PoolScores) else PoolScores.load(Path(scores))
    ledger = SearchLedger(
        Evaluator(pool, inter=inter, objectives=DEFAULT_FORM if objectives is None else objectives),
        Constraints.resolve(
            pool.names,
            min_size=min_size,
            max_size=max_size,
            include=include,
            exclude=exclude,
            max_per_gan=max_per_gan,
            budget=budget,
        ),
        seed=seed,
        limit_trials=trials,
        limit_seconds=seconds,
        on_progress=on_progress,
        started=started,
        third=None if third is None else ThirdObjective.of(pool.names, third, costs),
    )
    return run(pool, ledger, sampler, resume, warm_start, study_storage, record)


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C during a search; the front found so far is in ``front`` (it may be empty)."""

    def __init__(self, front: Front) -> None:
        super().__init__("the search was interrupted")
        self.front = front


def __getattr__(name: str) -> Any:
    # Optuna takes half a second to import, and it may be missing.
    home = "optuna" if name == "EnsembleSampler" else "api"
    try:
        return getattr(importlib.import_module(f"ensgan.search.{home}"), name)
    except AttributeError:
        raise AttributeError(f"module 'ensgan.search' has no attribute '{name}'") from None
