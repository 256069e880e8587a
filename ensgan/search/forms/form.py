"""What a form of the objectives is: one value in one file, and one line in the registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy.typing as npt

from ensgan.errors import InputError
from ensgan.search.tables import ObjectiveTables
from ensgan.types import Objective, PairPrecision, PoolScores

COMPONENTS = 32


@dataclass(frozen=True)
class ScoredFeatures:
    """The features that were scored, loaded when a form asks for them.

    Attributes:
        real: gives [N,D].
        fakes: each gives [S_g,D], in pool order.
        pair_precision: measures precision and recall of members and pairs.
    """

    real: Callable[[], npt.ArrayLike]
    fakes: Sequence[Callable[[], npt.ArrayLike]]
    pair_precision: Callable[[], PairPrecision]


@dataclass(frozen=True)
class FormInputs:
    """What a form may build its tables from.

    Attributes:
        scores: of the pool.
        inter: how the two directions of a pair become one: ``symmetric`` or ``directed``.
        features: that were scored; None where only scores are at hand.
        components: for ``frechet``: principal directions of the real features.
    """

    scores: PoolScores
    inter: str = "symmetric"
    features: ScoredFeatures | None = None
    components: int = COMPONENTS


Build: TypeAlias = Callable[[FormInputs], ObjectiveTables]


@dataclass(frozen=True)
class Ratio:
    """What the selection rule ``ratio`` divides.

    Attributes:
        above, below: ``first``, ``second`` or a measure of the front points.
        words: what the quotient is, for the reason; empty for the objectives' own names.
    """

    above: str = "first"
    below: str = "second"
    words: str = ""


@dataclass(frozen=True)
class ObjectiveForm:
    """A form of the two objectives.

    Attributes:
        name: as options and sweep files have it.
        help: first and second objective in a few words.
        axes: what the two objectives are; the first is maximised, the second minimised.
        build: makes the tables of a pool.
        needs_features: whether scores alone are not enough.
        ratio: what the first over the second means; None where it means nothing.
    """

    name: str
    help: str
    axes: tuple[Objective, Objective]
    build: Build
    needs_features: bool = False
    ratio: Ratio | None = Ratio()

    def tables(self, inputs: FormInputs) -> ObjectiveTables:
        """The tables of a pool.

        Raises:
            InputError: the form needs features that are not there, or that are of another pool.
            DataError: scores no ensemble can be scored with.
        """
        if self.needs_features and inputs.features is None:
            raise InputError(
                f"objectives {self.name} need the features that were scored, not the scores alone"
            )
        return replace(self.build(inputs), form=self.name)
