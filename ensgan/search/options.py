"""How a pool is searched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ensgan.errors import InputError
from ensgan.search.constraints import Budget, Constraints
from ensgan.search.objectives import ObjectiveTables
from ensgan.search.run import ReportProgress
from ensgan.types import Front

DEFAULT_TRIALS = 1000


@dataclass(frozen=True)
class SearchOptions:
    """What :func:`ensgan.search.search` takes beside the scores.

    Attributes:
        sampler: one of :func:`samplers`. ``pareto-local`` searches directly; ``ensemble`` is an
            Optuna study driven by :class:`ensgan.search.EnsembleSampler`; ``nsga2``, ``nsga3``,
            ``tpe``, ``gp`` and ``random`` are Optuna's own samplers.
        trials, seconds: the budget in evaluations and wall time. Without either, ``pareto-local``
            stops when it no longer finds anything and the others after 1,000 trials.
        seed: the same seed and ``trials`` give the same front.
        inter: ``symmetric`` (mean of both directions) or ``directed`` (the later member in pool
            order carries the balls).
        objectives: other objectives of the same members (:func:`frechet_tables`,
            :func:`tables_from_precision_recall`); ``inter`` does not matter then.
        third: a third objective, minimised: ``members``, or a sum of ``costs`` (one a member by
            name): ``cost``, ``parameters`` or ``seconds``, by what is counted.
        min_size, max_size, include, exclude, max_per_gan, budget: constraints, see
            :meth:`Constraints.resolve`.
        warm_start: begin with the members of a short ``pareto-local`` search (Optuna samplers).
        resume: begin with the points of an earlier front of the same pool.
        study_storage: Optuna storage: ``sqlite:///FILE``, or a file name for a journal; a stored
            study of the same search is continued. None keeps the trials in memory.
        record: write the trials as CSV (number, members, intra_d, inter_d, seconds);
            ``pareto-local`` records those that entered the front.
        kernel: see :class:`Evaluator`.
        on_progress: called with (done, total).

    Raises:
        InputError: a negative seed, or a budget that is not positive.
    """

    sampler: str = "pareto-local"
    trials: int | None = None
    seconds: float | None = None
    seed: int = 0
    inter: str = "symmetric"
    objectives: ObjectiveTables | None = None
    third: str | None = None
    costs: Mapping[str, float] | None = None
    min_size: int = 2
    max_size: int | None = None
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    max_per_gan: int | None = None
    budget: Budget | None = None
    warm_start: bool = False
    resume: Front | None = None
    study_storage: str | None = None
    record: Path | None = None
    kernel: str = "auto"
    on_progress: ReportProgress | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: must not be negative")
        if self.trials is not None and self.trials < 1:
            raise InputError(f"trials {self.trials}: at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds {self.seconds}: must be above 0")

    def constraints(self, names: Sequence[str]) -> Constraints:
        """The constraints, resolved to members.

        Raises:
            InputError: no ensemble can meet them.
        """
        return Constraints.resolve(
            names,
            min_size=self.min_size,
            max_size=self.max_size,
            include=self.include,
            exclude=self.exclude,
            max_per_gan=self.max_per_gan,
            budget=self.budget,
        )

    def trials_of(self, *, ends_by_itself: bool) -> int | None:
        """The limit of trials of a strategy that ends by itself, or of one that does not."""
        if self.trials is None and self.seconds is None and not ends_by_itself:
            return DEFAULT_TRIALS
        return self.trials
