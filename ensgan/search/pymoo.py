"""pymoo: NSGA-II on bit strings, with a start that is biased to small ensembles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UX
from pymoo.operators.mutation.bitflip import BitflipMutation

from ensgan.search.ledger import SearchLedger
from ensgan.search.sampler import SamplerInputs
from ensgan.types import BoolArray

_POPULATION = 100
_LARGEST_START = 12
_INFEASIBLE = 2.0  # objectives of subsets without a pair: worse than any ensemble


def search_with_pymoo(ledger: SearchLedger, inputs: SamplerInputs) -> None:
    """Run NSGA-II until the ledger's budget ends; a whole generation is evaluated at once.

    Uniform bit strings would start at half the pool, where no good ensemble lies, so the first
    generation holds ensembles of 2 to 12 members.
    """
    free = ledger.constraints.free
    if len(free) == 0:
        ledger.offer(ledger.constraints.whole(np.zeros((1, 0), bool)))
        return
    many = 2 if ledger.third is None else 3
    problem = Problem(n_var=len(free), n_obj=many, n_ieq_constr=1, xl=0, xu=1, vtype=bool)
    size = min(_POPULATION, ledger.limit_trials or _POPULATION)
    algorithm = NSGA2(
        pop_size=size,
        sampling=_start(ledger, size, inputs.starts),
        crossover=UX(),
        mutation=BitflipMutation(prob_var=1.0 / len(free)),
        eliminate_duplicates=True,
    )
    algorithm.setup(problem, termination=NoTermination(), seed=ledger.seed % 2**32, verbose=False)
    while not ledger.finished:
        generation = algorithm.ask()
        if generation is None or len(generation) == 0:
            return  # every neighbour of the population is a duplicate
        subsets = ledger.constraints.whole(generation.get("X").astype(bool))
        values = ledger.offer(subsets, record_all=True)
        violation = ledger.constraints.violation(subsets)
        ledger.skip(int((violation > 0).sum()))
        costs = ledger.costs_of(subsets)
        objectives = np.column_stack((-values.first, values.second, costs))[:, :many]
        generation.set("F", np.nan_to_num(objectives, nan=_INFEASIBLE))
        generation.set("G", violation[:, None])
        algorithm.tell(infills=generation)


def _start(ledger: SearchLedger, size: int, starts: Sequence[Sequence[int]]) -> BoolArray:
    """Given subsets first, then random ones of few members."""
    free = ledger.constraints.free
    largest = max(1, min(_LARGEST_START, len(free), ledger.constraints.max_size))
    population = np.zeros((size, len(free)), bool)
    for row, members in enumerate(list(starts)[:size]):
        population[row] = np.isin(free, members)
    for row in range(min(size, len(starts)), size):
        count = int(ledger.random.integers(min(2, largest), largest + 1))
        population[row, ledger.random.choice(len(free), count, replace=False)] = True
    return population
