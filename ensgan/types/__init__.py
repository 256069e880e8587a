"""The frozen values that the stages hand to one another.

Those that hold arrays are loaded when they are first used: tables of runs need no numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ensgan.types.names import DEFAULT_FORM as DEFAULT_FORM
from ensgan.types.names import EARLIER_FORM as EARLIER_FORM
from ensgan.types.names import Objective as Objective
from ensgan.types.names import form_name as form_name
from ensgan.types.names import gan_of, row_of, step_of
from ensgan.types.names import measure_name as measure_name
from ensgan.types.names import read_objective as read_objective

if TYPE_CHECKING:
    from ensgan.types.front import Front, FrontPoint, Selection
    from ensgan.types.images import BoolArray as BoolArray
    from ensgan.types.images import Dataset as Dataset
    from ensgan.types.images import Embeddings as Embeddings
    from ensgan.types.images import Float32Array as Float32Array
    from ensgan.types.images import Float64Array as Float64Array
    from ensgan.types.images import ImageShape as ImageShape
    from ensgan.types.images import Int64Array as Int64Array
    from ensgan.types.images import Samples as Samples
    from ensgan.types.images import UInt8Array as UInt8Array
    from ensgan.types.images import apportion as apportion
    from ensgan.types.images import check_class_names as check_class_names
    from ensgan.types.images import read_labels as read_labels
    from ensgan.types.resamples import Resamples
    from ensgan.types.scores import PairPrecision, PoolScores, harmonic_mean
else:

    def __getattr__(name: str) -> Any:
        for part in ("images", "resamples", "scores", "front"):  # the last loads pydantic
            module = import_module(f"{__name__}.{part}")
            if not name.startswith("_") and hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
