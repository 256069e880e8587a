"""Optuna: studies over a pool, and a sampler that brings the local search into their loop.

One binary parameter a member, named exactly as the member (``SNGAN@20000``): 1 takes it in.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import sqlalchemy.event
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from ensgan.errors import InputError, StoreError
from ensgan.search.constraints import Constraints
from ensgan.search.evaluator import Evaluator
from ensgan.search.local import LocalSearch
from ensgan.search.pareto import Archive, hypervolume
from ensgan.search.run import SearchRun
from ensgan.types import PoolScores

DIRECTIONS = ("maximize", "minimize")
_LOOKAHEAD = 2000
_LOCK_PATIENCE_SECONDS = 3.0


class EnsembleSampler(BaseSampler):  # type: ignore[misc]
    """An Optuna sampler for studies that choose a subset of a scored pool.

    Between two trials it spends ``lookahead`` exact evaluations (milliseconds) on a Pareto local
    search over the scores and proposes the subset that adds most hypervolume to what the study
    has already tried. When the front is used up it proposes untried neighbours of it.

    Put it into any study whose trials suggest one binary parameter a member, named as the member
    is: ``trial.suggest_int(name, 0, 1)`` or ``trial.suggest_categorical(name, [False, True])``.
    Members that a trial does not ask for stay out; parameters of other names are sampled at
    random. The study's objectives may be others than Intra-d and Inter-d (a downstream score,
    for example): proposals come from the scores alone. Safe with ``n_jobs`` threads, though only
    one thread is reproducible.

    Args:
        scores: the pool, or an evaluator over it.
        inter: form of Inter-d (ignored with an evaluator).
        seed: seed of the local search.
        constraints: which subsets may be proposed; None allows all of two and more.
        lookahead: exact evaluations between two trials.

    Raises:
        InputError: unknown form of Inter-d, or a lookahead below 1.
        DataError: scores no ensemble can be scored with.
    """

    def __init__(
        self,
        scores: PoolScores | Evaluator,
        *,
        inter: str = "symmetric",
        seed: int = 0,
        constraints: Constraints | None = None,
        lookahead: int = _LOOKAHEAD,
    ) -> None:
        if lookahead < 1:
            raise InputError(f"lookahead {lookahead}: at least 1 evaluation")
        evaluator = scores if isinstance(scores, Evaluator) else Evaluator(scores, inter=inter)
        self._evaluator = evaluator
        self._position = {name: index for index, name in enumerate(evaluator.names)}
        self._run = SearchRun(
            evaluator, constraints or Constraints.resolve(evaluator.names), seed=seed
        )
        self._local = LocalSearch(self._run)
        self._lookahead = lookahead
        self._others = optuna.samplers.RandomSampler(seed=seed % 2**32)
        self._tried: set[tuple[int, ...]] = set()
        self._told = Archive()
        self._read: set[int] = set()
        self._proposals: dict[int, frozenset[int]] = {}
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
            self._catch_up(study)
            if "fixed_params" not in trial.system_attrs:  # else enqueued by the user
                self._proposals[trial.number] = frozenset(self._propose())

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
        proposal = self._proposals.get(trial.number, frozenset())
        return _as_binary(param_name, param_distribution, index in proposal)

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
            self._remember(trial)

    def reseed_rng(self) -> None:
        """Give a copy of this sampler (one a thread or process) its own random numbers."""
        self._others.reseed_rng()
        self._run.random = np.random.default_rng()

    def _catch_up(self, study: Study) -> None:
        """Read, once, the trials a stored study already has."""
        if self._read:
            return
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                self._remember(trial)
        self._read.add(-1)

    def _remember(self, trial: FrozenTrial) -> None:
        if trial.number in self._read:
            return
        self._read.add(trial.number)
        members = tuple(
            sorted(self._position[n] for n, v in trial.params.items() if n in self._position and v)
        )
        self._tried.add(members)
        if len(members) >= 2:
            intra, inter, _, _ = self._evaluator.evaluate(members)
            self._told.insert(intra, inter, members)

    def _propose(self) -> tuple[int, ...]:
        goal = self._run.trials + self._lookahead
        while self._run.trials < goal and not self._local.complete:
            self._local.step()
        pending = set(map(tuple, self._proposals.values()))
        best, best_gain = None, -1.0
        told = np.column_stack((self._told.intra, self._told.inter))
        found = self._run.archive
        for intra, inter, members in zip(found.intra, found.inter, found.members, strict=True):
            if members in self._tried or members in pending:
                continue
            gain = hypervolume(np.vstack((told, (intra, inter))))
            if gain > best_gain:
                best, best_gain = members, gain
        return self._neighbour() if best is None else best

    def _neighbour(self) -> tuple[int, ...]:
        """An untried subset near the front; any near subset when all seem tried."""
        members = self._local.perturbed()
        for _ in range(100):
            if members not in self._tried:
                break
            members = self._local.perturbed()
        return members


def _as_binary(name: str, distribution: BaseDistribution, chosen: bool) -> Any:
    """``chosen`` in the values of a binary parameter."""
    if isinstance(distribution, IntDistribution) and (distribution.low, distribution.high) == (
        0,
        1,
    ):
        return int(chosen)
    if isinstance(distribution, CategoricalDistribution):
        fitting = [choice for choice in distribution.choices if bool(choice) == chosen]
        if len(distribution.choices) == 2 and len(fitting) == 1:
            return fitting[0]
        if len(distribution.choices) == 1:
            return distribution.choices[0]
    raise InputError(
        f"parameter '{name}' must be binary, suggest_int(name, 0, 1) or "
        f"suggest_categorical(name, [False, True]), not {distribution}"
    )


SAMPLERS: dict[str, Callable[[SearchRun, int], BaseSampler]] = {
    "ensemble": lambda run, seed: EnsembleSampler(
        run.evaluator, seed=seed, constraints=run.constraints
    ),
    "nsga2": lambda run, seed: optuna.samplers.NSGAIISampler(seed=seed),
    "nsga3": lambda run, seed: optuna.samplers.NSGAIIISampler(seed=seed),
    # The paper's setting; Optuna's own default is univariate.
    "tpe": lambda run, seed: optuna.samplers.TPESampler(seed=seed, multivariate=True),
    "gp": lambda run, seed: optuna.samplers.GPSampler(seed=seed),
    "random": lambda run, seed: optuna.samplers.RandomSampler(seed=seed),
}
"""Makes a sampler for a run from a seed below 2³²."""


def search_with_optuna(
    run: SearchRun,
    sampler: str,
    *,
    starts: Sequence[Sequence[int]] = (),
    storage: str | None = None,
    study_name: str = "ensgan",
) -> Study:
    """Run an Optuna study until the run's budget ends or every allowed subset is tried.

    Args:
        run: the ledger.
        sampler: a key of ``SAMPLERS``.
        starts: subsets to try first.
        storage: ``sqlite:///FILE`` or another database URL, a journal's file name, or None.
        study_name: name in the storage; a study of this name is continued.

    Raises:
        StoreError: the storage is locked or cannot be used.
    """
    with _quiet_optuna(), _storage_errors(storage):
        study = optuna.create_study(
            directions=list(DIRECTIONS),
            storage=None if storage is None else _open_storage(storage),
            study_name=study_name,
            load_if_exists=True,
        )
        trials = _Trials(run, study)
        trials.replay()
        # A study that goes on must not draw the same numbers again.
        study.sampler = SAMPLERS[sampler](run, (run.seed + len(study.trials)) % 2**32)
        for members in starts:
            study.enqueue_trial(trials.parameters(members), skip_if_exists=True)
        # Of a small pool every subset may have been tried before the budget ends.
        every = run.constraints.at_most()
        while not run.finished and trials.feasible < every:
            trials.one()
    return study


class _Trials:
    """Trials of a study as evaluations of a run."""

    def __init__(self, run: SearchRun, study: Study) -> None:
        self.run = run
        self.study = study
        self.free = [(int(i), run.evaluator.names[i]) for i in run.constraints.free]
        self.required = run.constraints.required.tolist()
        self.known: dict[tuple[int, ...], tuple[float, float]] = {}
        self.feasible = 0
        """Different subsets tried that meet every constraint."""

    def parameters(self, members: Sequence[int]) -> dict[str, int]:
        """A subset as the values of the study's parameters."""
        return {name: int(index in members) for index, name in self.free}

    def replay(self) -> None:
        """Count the trials a stored study already has."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.COMPLETE:
                self._evaluate([i for i, name in self.free if trial.params.get(name)])

    def one(self) -> None:
        """Ask, evaluate, tell."""
        trial = self.study.ask()
        chosen = [index for index, name in self.free if trial.suggest_int(name, 0, 1)]
        values = self._evaluate(chosen, trial)
        if values is None:
            self.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.tell(trial, values)

    def _evaluate(
        self, chosen: list[int], trial: Trial | None = None
    ) -> tuple[float, float] | None:
        members = tuple(sorted([*chosen, *self.required]))
        row = self.run.evaluator.subsets([members])
        violation = self.run.constraints.violation(row)[0]
        if trial is not None and violation > 0:
            trial.set_constraint("ensemble", violation)
        if members in self.known:
            self.run.repeat(members, *self.known[members])
        elif len(members) < 2:
            self.run.repeat(members)
            return None
        else:
            values = self.run.offer(row, keep_all=True)
            if violation > 0:
                self.run.repeat(members)
            else:
                self.feasible += 1
            self.known[members] = float(values.intra_d[0]), float(values.inter_d[0])
        return self.known[members]


def _open_storage(storage: str) -> BaseStorage:
    if "://" in storage:
        return _open_database(storage)
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(path.name + ".lock")
    waited = time.monotonic()
    while lock.is_symlink() or lock.exists():
        if time.monotonic() - waited > _LOCK_PATIENCE_SECONDS:
            raise StoreError(
                f"the Optuna journal {path} is locked by another process ({lock}): wait for it "
                "to end, use another file, or delete the lock if that process is gone"
            )
        time.sleep(0.05)
    return JournalStorage(JournalFileBackend(str(path)))


def _open_database(url: str) -> BaseStorage:
    database = RDBStorage(url)
    if database.engine.dialect.name == "sqlite":
        # A trial writes one row a member. Without a disk flush at every row a crash of the
        # machine can lose the last trials, never the database.
        def relax(connection: Any, record: object) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        sqlalchemy.event.listen(database.engine, "connect", relax)
        database.engine.dispose()
    return database


@contextmanager
def _storage_errors(storage: str | None) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        cause = error.__cause__ or error
        text = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        if "locked" in str(error) or "locked" in text:
            raise StoreError(
                f"the Optuna storage {storage} is locked by another process: wait for it to end "
                "or use another storage"
            ) from error
        raise StoreError(f"the Optuna storage {storage} cannot be used: {text}") from error


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep Optuna's line per trial and its notices about experimental samplers off stderr."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
