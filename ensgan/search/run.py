"""One search, from its settings to its front."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ensgan.errors import InputError
from ensgan.search.constraints import Constraints
from ensgan.search.entry import SearchInterrupted
from ensgan.search.evaluator import Evaluator
from ensgan.search.ledger import ReportProgress, SearchLedger, ThirdObjective
from ensgan.search.local_search import pareto_local
from ensgan.search.pool import check_pool, pool_key
from ensgan.search.sampler import SAMPLERS, Sampler, SamplerInputs, Strategy
from ensgan.search.tables import ObjectiveTables
from ensgan.types import Front, PoolScores

DEFAULT_TRIALS = 1000
_ENUMERABLE = 20


@dataclass(frozen=True)
class SearchRun:
    """The settings of a search, as :func:`ensgan.search` takes them, names and paths resolved.

    Raises:
        InputError: a negative seed, a budget that is not positive, an enumeration without end,
            or a front of another pool.
    """

    scores: PoolScores
    evaluator: Evaluator
    sampler: Sampler
    third: ThirdObjective | None
    constraints: Constraints
    trials: int | None
    seconds: float | None
    seed: int
    warm_start: bool
    resume: Front | None
    study_storage: str | None
    record: Path | None
    on_progress: ReportProgress | None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: must not be negative")
        if self.trials is not None and self.trials < 1:
            raise InputError(f"trials {self.trials}: at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise InputError(f"seconds {self.seconds}: must be above 0")
        free, members = len(self.constraints.free), len(self.constraints.names)
        endless = self.constraints.max_size == members and free > _ENUMERABLE
        if self.sampler.enumerates and not self._bounded and endless:
            raise InputError(
                f"exhaustive search over all sizes of {free} members does not end: "
                "give max_size, trials or seconds"
            )
        if self.resume is not None:
            check_pool(self.resume, self.scores)

    @property
    def _bounded(self) -> bool:
        return self.trials is not None or self.seconds is not None

    def front(self, started: float) -> Front:
        """Search until the budget ends.

        Args:
            started: ``time.perf_counter()`` when the clock of ``seconds`` began.

        Raises:
            InputError: no ensemble was found.
            SearchInterrupted: Ctrl-C.
        """
        strategy = self.sampler.load()
        key = pool_key(self.scores)
        ledger = self._ledger(started)
        try:
            self._search(ledger, strategy, key)
        except KeyboardInterrupt:
            raise SearchInterrupted(self._finish(ledger, key)) from None
        front = self._finish(ledger, key)
        if ledger.trials == 0:
            raise InputError(
                f"the budget of {self.seconds} s ended before the first trial: allow more"
            )
        if len(front) == 0:
            raise InputError(
                f"{self.sampler.name} met no ensemble that satisfies the constraints in "
                f"{ledger.trials} trials: loosen them or use pareto-local"
            )
        return front

    def _ledger(self, started: float) -> SearchLedger:
        endless = not self._bounded and not self.sampler.ends_by_itself
        return SearchLedger(
            self.evaluator,
            self.constraints,
            seed=self.seed,
            trials=DEFAULT_TRIALS if endless else self.trials,
            seconds=self.seconds,
            on_progress=self.on_progress,
            started=started,
            third=self.third,
        )

    def _search(self, ledger: SearchLedger, strategy: Strategy, key: str) -> None:
        starts: list[tuple[int, ...]] = []
        if self.resume is not None:
            starts = [ledger.evaluator.indices(point.members) for point in self.resume]
        if self.warm_start:
            warm = SearchLedger(
                ledger.evaluator, self.constraints, seed=self.seed, third=self.third
            )
            pareto_local(warm)
            starts += warm.archive.members
        name = self._study_name(ledger.evaluator.tables, key)
        strategy(ledger, SamplerInputs(starts, self.study_storage, name))

    def _finish(self, ledger: SearchLedger, key: str) -> Front:
        if self.record is not None:
            ledger.write_record(self.record)
        return ledger.front(self.sampler.name, key)

    def _study_name(self, tables: ObjectiveTables, key: str) -> str:
        """The same search finds its trials again, another one does not."""
        first, second = tables.axes
        form = first.key
        if form == "intra_d":
            form = "-".join(filter(None, (first.variant, second.variant)))
        third = "" if self.third is None else f"-{self.third.unit}"
        return f"ensgan-{self.sampler.name}-{form}{third}-{self.seed}-{key}"


def evaluator_for(scores: PoolScores, objectives: str | ObjectiveTables, inter: str) -> Evaluator:
    """The objectives of a pool, by the name of their form or by its tables.

    Raises:
        InputError: an unknown form, or tables of other members.
        DataError: scores no ensemble can be scored with.
    """
    if not isinstance(objectives, ObjectiveTables):
        return Evaluator(scores, inter=inter, objectives=objectives)
    if objectives.names != scores.names:
        raise InputError("the objectives are of other members than the scores")
    return Evaluator(objectives)


def find_sampler(name: str, study_storage: str | Path | None = None) -> Sampler:
    """The sampler of that name.

    Raises:
        InputError: there is none, or it keeps no study and a storage is given.
    """
    sampler = SAMPLERS.get(name)
    if study_storage is not None and not sampler.stores_trials:
        raise InputError(f"sampler '{name}' keeps no Optuna study: leave the storage out")
    return sampler


def load_scores(scores: PoolScores | str | Path) -> PoolScores:
    """The scores, or those of a file.

    Raises:
        DataError: the file cannot be read as scores.
    """
    return scores if isinstance(scores, PoolScores) else PoolScores.load(Path(scores))


def load_front(front: Front | str | Path | None) -> Front | None:
    """The front, that of a file, or none.

    Raises:
        DataError: the file cannot be read as a front.
    """
    return front if front is None or isinstance(front, Front) else Front.load(Path(front))
