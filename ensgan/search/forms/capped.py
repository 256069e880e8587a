"""Density and coverage with each member's density capped at 1.

A density above 1 says that a member's images crowd the middle of the data, not that they are
better than the data; in the harmonic mean it hides coverage that is missing. Capped per member, the
mean of a union stays a mean of its members', so every evaluation is as exact as the paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ensgan.search.forms.form import FormInputs, ObjectiveForm
from ensgan.search.forms.paper import tables_from_scores
from ensgan.search.tables import Ensembles, ObjectiveTables
from ensgan.types import Float64Array, harmonic_mean
from ensgan.types.names import INTER_D, INTRA_D

AXIS = INTRA_D.of_variant("capped")


def _build(inputs: FormInputs) -> ObjectiveTables:
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
        axes=(AXIS, tables.axes[1]),
        form="capped",
        describe=describe,
    )


CAPPED = ObjectiveForm(
    "capped", "as paper, each member's density counting for at most 1", (AXIS, INTER_D), _build
)
