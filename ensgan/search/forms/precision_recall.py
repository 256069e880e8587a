"""Precision and recall in place of density and coverage. Source: Kynkäänniemi et al. 2019."""

from __future__ import annotations

import numpy as np

from ensgan.errors import InputError
from ensgan.search.forms.form import FormInputs, ObjectiveForm
from ensgan.search.tables import ObjectiveTables
from ensgan.types import PairPrecision, PoolScores, harmonic_mean, read_objective

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
