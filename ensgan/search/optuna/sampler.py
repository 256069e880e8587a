"""``EnsembleSampler``: the local search as an Optuna sampler."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from ensgan.errors import InputError
from ensgan.search.constraints import Constraints
from ensgan.search.evaluator import Evaluator
from ensgan.search.ledger import SearchLedger
from ensgan.search.own_samplers import PATIENCE, LocalSearch
from ensgan.search.pareto import Archive, CostArchive
from ensgan.search.tables import ThirdObjective
from ensgan.types import DEFAULT_FORM, Float64Array, PoolScores

_LOOKAHEAD = 2000
_EXPANSIONS = 20


class EnsembleSampler(BaseSampler):  # type: ignore[misc]
    """An Optuna sampler for studies that choose a subset of a scored pool.

    Between two trials it spends ``lookahead`` exact evaluations (milliseconds) on a Pareto local
    search over the scores and proposes the subset that adds most hypervolume to what the study
    has already tried. When the front is used up it proposes untried subsets beside it, the
    nearest to the front first.

    Put it into any study whose trials suggest one binary parameter per member, named as the member
    is: ``trial.suggest_int(name, 0, 1)`` or ``trial.suggest_categorical(name, [False, True])``.
    Members that a trial does not ask for stay out; parameters of other names are sampled at
    random. The study's objectives may be others than Intra-d and Inter-d (a downstream score,
    for example): proposals come from the scores alone. Safe with ``n_jobs`` threads, though only
    one thread is reproducible; processes that share a storage see each other's trials.

    Args:
        scores: the pool, or an evaluator over it.
        inter, objectives: form of Inter-d and of both objectives (ignored with an evaluator).
        seed: seed of the local search.
        constraints: which subsets may be proposed; None allows all of two and more.
        lookahead: exact evaluations between two trials.
        third: a third objective of the search for proposals, minimised.

    Raises:
        InputError: an unknown form, or a lookahead below 1.
        DataError: scores no ensemble can be scored with.
    """

    def __init__(
        self,
        scores: PoolScores | Evaluator,
        *,
        inter: str = "symmetric",
        objectives: str = DEFAULT_FORM,
        seed: int = 0,
        constraints: Constraints | None = None,
        lookahead: int = _LOOKAHEAD,
        third: ThirdObjective | None = None,
    ) -> None:
        if lookahead < 1:
            raise InputError(f"lookahead {lookahead}: at least 1 evaluation")
        evaluator = scores
        if not isinstance(evaluator, Evaluator):
            evaluator = Evaluator(evaluator, inter=inter, objectives=objectives)
        self._evaluator = evaluator
        self._position = {name: index for index, name in enumerate(evaluator.names)}
        self._ledger = SearchLedger(
            evaluator, constraints or Constraints.resolve(evaluator.names), seed=seed, third=third
        )
        self._local = LocalSearch(self._ledger)
        self._neighbours = _UntriedNeighbours(self._ledger)
        self._lookahead = lookahead
        self._others = optuna.samplers.RandomSampler(seed=seed % 2**32)
        self._tried: set[tuple[int, ...]] = set()
        self._told = Archive() if third is None else CostArchive()
        self._read: set[int] = set()
        self._proposals: dict[int, tuple[int, ...]] = {}
        self._lock = threading.Lock()

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """No relative parameters: a proposal answers whatever the trial asks for."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing: see :meth:`sample_independent`."""
        return {}

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Look ahead and settle what this trial will try."""
        with self._lock:
            elsewhere = self._catch_up(study, trial.number)
            if "fixed_params" not in trial.system_attrs:  # else enqueued by the user
                self._proposals[trial.number] = self._next(elsewhere)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The proposal's bit for a member; a random value for any other parameter.

        Raises:
            InputError: a member's parameter is not binary.
        """
        index = self._position.get(param_name)
        if index is None:
            return self._others.sample_independent(study, trial, param_name, param_distribution)
        return _as_binary(
            param_name, param_distribution, index in self._proposals.get(trial.number, ())
        )

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Remember what was tried."""
        with self._lock:
            self._proposals.pop(trial.number, None)
            self._read.add(trial.number)
            self._remember(self._members(trial))

    def reseed_rng(self) -> None:
        """Give a copy of this sampler (one per thread or process) its own random numbers."""
        self._others.reseed_rng()
        self._ledger.random = np.random.default_rng()

    def propose(self, study: Study) -> tuple[int, ...]:
        """The next subset as pool positions, for loops that add finished trials to the study.

        ``study.add_trial`` takes a tenth of the time of asking for every member's parameter in
        turn. What is proposed counts as tried from now on.
        """
        with self._lock:
            members = self._next(self._catch_up(study))
            self._remember(members)
        return members

    def _catch_up(self, study: Study, current: int = -1) -> frozenset[tuple[int, ...]]:
        """Read the trials that others finished; returns what others are trying just now."""
        running = set()
        for trial in study.get_trials(deepcopy=False):
            if trial.number in self._read or trial.number == current:
                continue
            if trial.state.is_finished():
                self._read.add(trial.number)
                self._remember(self._members(trial))
            elif trial.state == TrialState.RUNNING and trial.number not in self._proposals:
                running.add(self._members(trial))
        return frozenset(running)

    def _members(self, trial: FrozenTrial) -> tuple[int, ...]:
        position = self._position
        chosen = {position[n] for n, v in trial.params.items() if v and n in position}
        # A study need not ask for the members that are always in.
        return tuple(sorted(chosen.union(self._ledger.constraints.required.tolist())))

    def _remember(self, members: tuple[int, ...]) -> None:
        if members in self._tried:
            return
        self._tried.add(members)
        if len(members) >= 2:
            first, second, _, _ = self._evaluator.evaluate(members)
            self._told.insert(first, second, members, float(self._costs([members])[0]))

    def _next(self, elsewhere: frozenset[tuple[int, ...]]) -> tuple[int, ...]:
        """Look ahead, then the untried front point that adds most, or one beside the front."""
        local, goal = self._local, self._ledger.trials + self._lookahead
        while self._ledger.trials < goal and local.fruitless < PATIENCE and not local.complete:
            local.step()
        taken = elsewhere.union(self._proposals.values())
        archive = self._ledger.archive
        untried = [
            place
            for place, members in enumerate(archive.members)
            if members not in self._tried and members not in taken
        ]
        if not untried:
            return self._neighbours.next(self._tried, taken) or self._local.perturbed()
        costs = self._costs([archive.members[place] for place in untried])
        gains = self._told.gains(archive.first[untried], archive.second[untried], costs)
        return archive.members[untried[int(np.argmax(gains))]]

    def _costs(self, members: Sequence[tuple[int, ...]]) -> Float64Array:
        return self._ledger.costs_of(self._evaluator.subsets(members))


def _as_binary(name: str, distribution: BaseDistribution, chosen: bool) -> Any:
    """``chosen`` in the values of a binary parameter."""
    if isinstance(distribution, IntDistribution):
        if (distribution.low, distribution.high) == (0, 1):
            return int(chosen)
    elif isinstance(distribution, CategoricalDistribution):
        choices = {bool(choice): choice for choice in distribution.choices}
        if len(distribution.choices) == 1:
            return distribution.choices[0]
        if len(distribution.choices) == len(choices):
            return choices[chosen]
    raise InputError(
        f"parameter '{name}' must be binary, suggest_int(name, 0, 1) or "
        f"suggest_categorical(name, [False, True]), not {distribution}"
    )


class _UntriedNeighbours:
    """Walks outwards from a run's front by additions, removals and swaps.

    Every front point, then every subset it returned, is expanded once. So it ends only when no
    allowed subset that can be reached by single moves is left.

    Args:
        ledger: whose front and constraints count; nothing is written to it.
    """

    def __init__(self, ledger: SearchLedger) -> None:
        self._ledger = ledger
        self._expanded: set[tuple[int, ...]] = set()
        self._returned: list[tuple[int, ...]] = []
        self._waiting: list[tuple[float, tuple[int, ...]]] = []  # the nearest last
        self._known: set[tuple[int, ...]] = set()

    def next(
        self, tried: AbstractSet[tuple[int, ...]], taken: AbstractSet[tuple[int, ...]]
    ) -> tuple[int, ...] | None:
        """The nearest subset that is neither tried nor taken; None when all are."""
        while True:
            while self._waiting:
                _, members = self._waiting.pop()
                if members not in tried and members not in taken:
                    self._returned.append(members)
                    return members
            # A few at once: those beside one front point alone are much alike.
            near = (*self._ledger.archive.members, *self._returned)
            sources = [members for members in near if members not in self._expanded][:_EXPANSIONS]
            if not sources:
                return None
            self._expanded.update(sources)
            self._waiting = sorted(
                (entry for members in sources for entry in self._neighbours(members, tried)),
                reverse=True,
            )

    def _neighbours(
        self, members: tuple[int, ...], tried: AbstractSet[tuple[int, ...]]
    ) -> list[tuple[float, tuple[int, ...]]]:
        ledger = self._ledger
        inside = np.array(members, np.int64)
        outside = ledger.constraints.outside(inside)
        near = ledger.evaluator.moves(members, outside)
        fits = ledger.constraints.moves(inside, outside)
        fits[0, 0] = False
        rows, columns = np.nonzero(fits)
        first, second = near.values.first[fits], near.values.second[fits]
        short = ledger.archive.shortfall(first, second, ledger.move_costs(near)[fits])
        scored = []
        for row, column, gap in zip(rows.tolist(), columns.tolist(), short.tolist(), strict=True):
            subset = near.subset(row, column)
            if subset not in tried and subset not in self._known:
                self._known.add(subset)
                scored.append((gap, subset))
        return scored
