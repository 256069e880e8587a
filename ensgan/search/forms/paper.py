"""The paper's form: Intra-d of densities and coverages, Inter-d of the members' overlap.

Source: Tronchin et al. 2026; density and coverage: Naeem et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

import numpy as np

from ensgan.errors import DataError, InputError, unknown_name
from ensgan.search.forms.form import ObjectiveForm
from ensgan.search.tables import ObjectiveTables
from ensgan.types import Float64Array, PoolScores
from ensgan.types.names import INTER_D, INTRA_D


def _directed(scores: PoolScores) -> Float64Array:
    # Of a pair, the later member in pool order carries the balls.
    later_carries = np.tril(scores.directed, -1)
    return later_carries + later_carries.T


INTER: dict[str, Callable[[PoolScores], Float64Array]] = {
    "symmetric": attrgetter("overlap"),
    "directed": _directed,
}
"""Forms of Inter-d: how the two directed values of a pair become one."""


def tables_from_scores(scores: PoolScores, inter: str = "symmetric") -> ObjectiveTables:
    """Intra-d and Inter-d of a scored pool.

    Raises:
        InputError: ``inter`` is no known form.
        DataError: values that no ensemble can be scored with (nan, masks that contradict
            the coverage, fewer than two members).
    """
    if inter not in INTER:
        raise InputError(unknown_name("form of Inter-d", inter, INTER))
    covered = np.unpackbits(scores.masks, axis=1).sum(axis=1)
    # A coverage that is nan equals no count either.
    for g in np.flatnonzero(np.rint(scores.coverage * scores.n_real) != covered):
        raise DataError(
            f"{scores.names[g]} has coverage {scores.coverage[g]} of {scores.n_real} points but "
            f"its mask marks {int(covered[g])}: the scores file contradicts itself"
        )
    return ObjectiveTables(
        names=scores.names,
        linear=scores.density,
        masks=scores.masks,
        pair=INTER[inter](scores),
        shares=scores.counts.astype(np.float64),
        points=scores.n_real,
        axes=(INTRA_D, INTER_D.of_variant(inter)),
        form="paper",
    )


PAPER = ObjectiveForm(
    "paper",
    "Intra-d of density and coverage; Inter-d",
    (INTRA_D, INTER_D),
    lambda inputs: tables_from_scores(inputs.scores, inputs.inter),
)
