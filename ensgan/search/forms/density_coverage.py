"""Fidelity and diversity as the first objective: density and coverage, or precision and recall.

``paper`` is the form of Tronchin et al. 2026; density and coverage: Naeem et al. 2020. ``capped``
counts each member's density for at most 1: a density above 1 says that images crowd the middle of
the data, not that they are better than the data, and in the harmonic mean it hides coverage that is
missing. Capped per member, the mean of a union stays a mean of its members', so every evaluation is
as exact as the paper's. ``precision-recall`` has the older pair of measures in their place:
Kynkäänniemi et al. 2019.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import attrgetter

import numpy as np

from ensgan.errors import DataError, InputError, unknown_name
from ensgan.search.forms.form import FormInputs, ObjectiveForm
from ensgan.search.tables import Ensembles, ObjectiveTables
from ensgan.types import Float64Array, PairPrecision, PoolScores, harmonic_mean, read_objective
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


CAPPED_AXIS = INTRA_D.of_variant("capped")


def _capped(inputs: FormInputs) -> ObjectiveTables:
    scores = inputs.scores
    tables = tables_from_scores(scores, inputs.inter)

    def describe(ensembles: Ensembles) -> Mapping[str, Float64Array]:
        # Points keep the density as it was measured, and Intra-d as published: what was capped
        # can be seen.
        density = (ensembles.weights * scores.density).sum(axis=1)
        return {
            "density": ensembles.weights @ scores.density,
            "coverage": ensembles.coverage,
            "capped_density": ensembles.mean,
            "intra_d_paper": harmonic_mean(density, ensembles.coverage),
        }

    return replace(
        tables,
        linear=scores.capped_density,
        axes=(CAPPED_AXIS, tables.axes[1]),
        form="capped",
        describe=describe,
    )


CAPPED = ObjectiveForm(
    "capped",
    "as paper, each member's density counting for at most 1",
    (CAPPED_AXIS, INTER_D),
    _capped,
)


AXES = (
    read_objective("precision_recall:max", maximise=True),
    read_objective("precision_recall_between:min", maximise=False),
)


def tables_from_precision_recall(scores: PoolScores, measured: PairPrecision) -> ObjectiveTables:
    """The precision/recall form of both objectives.

    The first is the harmonic mean of the union's precision (share-weighted mean, exact) and of the
    share of real points that lie in a ball of some member, each member with its own radii: radii
    of the union itself would shrink with every member, so a larger ensemble could lose recall.
    The second is the mean over pairs of the harmonic mean of both directions' precision.

    Raises:
        InputError: measured on other members or real points than the scores.
    """
    if measured.names != scores.names or measured.points != scores.n_real:
        raise InputError(
            f"precision and recall of {len(measured.names)} members over {measured.points} real "
            f"points do not fit scores of {len(scores)} members over {scores.n_real}: use the "
            "features that were scored"
        )
    return ObjectiveTables(
        names=scores.names,
        linear=measured.precision,
        masks=measured.masks,
        pair=harmonic_mean(measured.between, measured.between.T),
        shares=scores.counts.astype(np.float64),
        points=scores.n_real,
        axes=AXES,
        form="precision-recall",
        describe=lambda ensembles: {"precision": ensembles.mean, "recall": ensembles.coverage},
    )


def _build(inputs: FormInputs) -> ObjectiveTables:
    assert inputs.features is not None  # ObjectiveForm.tables has seen to it
    return tables_from_precision_recall(inputs.scores, inputs.features.pair_precision())


PRECISION_RECALL = ObjectiveForm(
    "precision-recall",
    "harmonic mean of precision and recall; mutual precision of the pairs",
    AXES,
    _build,
    needs_features=True,
)
