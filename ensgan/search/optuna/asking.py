"""What to try next, given what came of earlier trials: Optuna's samplers, asked by rounds.

The answer is a function of the trials told, the seed and the round, so that a sweep that goes on
from its files asks for the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna import distributions
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import TrialState

from ensgan.search.optuna.study import quiet_optuna

_TRIES = 3
"""Asked per trial wanted, before random ones fill the round."""
_RANDOM_TRIES = 20


@dataclass(frozen=True)
class Told:
    """A trial that ended.

    Attributes:
        values: of its settings.
        worth: to be large.
        cost: to be small.
    """

    values: Mapping[str, Any]
    worth: float | None
    cost: float = 0.0


def ask(
    rounds: Sequence[Sequence[Told]],
    drawn: Mapping[str, Any],
    whole: Collection[str],
    accept: Callable[[Mapping[str, Any]], bool],
    *,
    sampler: str,
    seed: int,
    count: int,
) -> int:
    """Ask for the next round; both objectives are sought, the cost only where trials differ in it.

    Args:
        rounds: all that was tried, in order; a worth of None is a trial that failed.
        drawn: by setting a list of values, ``{"uniform": [low, high]}`` or ``{"log": …}``.
        whole: settings that are whole numbers.
        accept: takes what a trial would be, or refuses it (known, impossible): another is asked.
        sampler: ``tpe``, ``nsga2`` (whose generations are the rounds) or ``gp``.
        seed: of this round.
        count: of trials wanted.

    Returns:
        How many were accepted: fewer than ``count`` where nothing else is to be found.
    """
    space = {key: _distribution(of, key in whole) for key, of in drawn.items()}
    costs = {each.cost for tried in rounds for each in tried if each.worth is not None}
    directions = ["maximize", "minimize"][: 2 if len(costs) > 1 else 1]
    with quiet_optuna():
        study = optuna.create_study(directions=directions)
        asked = _sampler(sampler, seed, rounds)
        # TPE and GP read all told trials at the next question: a random sampler replays faster.
        study.sampler = asked if sampler == "nsga2" else RandomSampler(seed=seed)
        for tried in rounds:
            _tell(study, tried, space, drawn, len(directions))
        accepted = 0
        for study.sampler, tries in ((asked, _TRIES), (RandomSampler(seed=seed), _RANDOM_TRIES)):
            for _ in range(tries * count):
                if accepted == count:
                    return accepted
                # Left untold: samplers keep away from running trials, so a refused one does not
                # come back.
                point = study.ask(space).params
                accepted += accept({key: _value(point[key], of) for key, of in drawn.items()})
    return accepted


def _tell(
    study: Study,
    tried: Sequence[Told],
    space: Mapping[str, distributions.BaseDistribution],
    drawn: Mapping[str, Any],
    objectives: int,
) -> None:
    """Replay a round: asked as a whole and then told, as a generation is."""
    for known in tried:
        study.enqueue_trial({key: _point(known.values[key], of) for key, of in drawn.items()})
    trials = [(known, study.ask(dict(space))) for known in tried]
    for _, trial in trials:
        trial.relative_params  # noqa: B018  NSGA-II notes the generation; nothing else asks it to
    for known, trial in trials:
        if known.worth is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, [known.worth, known.cost][:objectives])


def _sampler(name: str, seed: int, rounds: Sequence[Sequence[Told]]) -> BaseSampler:
    if name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=1)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=1)
    # The better half of a round are parents. With more than have ended well a generation would go
    # on in the next round, at random.
    ended = [sum(each.worth is not None for each in tried) for tried in rounds]
    return NSGAIISampler(seed=seed, population_size=max(2, min(ended, default=2) // 2))


def _distribution(of: Any, whole: bool) -> distributions.BaseDistribution:
    if isinstance(of, list):
        numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in of)
        if numbers and of == sorted(of):
            return distributions.IntDistribution(0, len(of) - 1)
        return distributions.CategoricalDistribution(list(range(len(of))))
    ((scale, (low, high)),) = of.items()
    if whole:
        return distributions.IntDistribution(int(low), int(high), log=scale == "log")
    return distributions.FloatDistribution(float(low), float(high), log=scale == "log")


def _value(point: Any, of: Any) -> Any:
    return of[point] if isinstance(of, list) else point


def _point(value: Any, of: Any) -> Any:
    """The parameter of a value: its place in a list, or itself where the range ends at the most."""
    if isinstance(of, list):
        plain = list(value) if isinstance(value, tuple) else value
        return of.index(plain)
    ((_, (low, high)),) = of.items()
    return min(max(value, low), high)
