"""The frozen values that the stages hand to one another."""

from __future__ import annotations

from ensgan.types.arrays import BoolArray, Float32Array, Float64Array, Int64Array, UInt8Array
from ensgan.types.front import Front, FrontPoint, Selection
from ensgan.types.images import (
    Dataset,
    Embeddings,
    ImageShape,
    MemberId,
    Samples,
    check_class_names,
    gan_of,
    step_of,
)
from ensgan.types.objectives import (
    DEFAULT_FORM,
    Objective,
    form_name,
    measure_name,
    read_objective,
)
from ensgan.types.resamples import Resamples
from ensgan.types.scores import PairPrecision, PoolScores, harmonic_mean

__all__ = [
    "DEFAULT_FORM",
    "BoolArray",
    "Dataset",
    "Embeddings",
    "Float32Array",
    "Float64Array",
    "Front",
    "FrontPoint",
    "ImageShape",
    "Int64Array",
    "MemberId",
    "Objective",
    "PairPrecision",
    "PoolScores",
    "Resamples",
    "Samples",
    "Selection",
    "UInt8Array",
    "check_class_names",
    "form_name",
    "gan_of",
    "harmonic_mean",
    "measure_name",
    "read_objective",
    "step_of",
]
