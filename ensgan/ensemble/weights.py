"""Headers of weight files, under the name by which programs outside ensgan import their readers."""

from __future__ import annotations

from ensgan.ensemble.manifest import TensorInfo as TensorInfo
from ensgan.ensemble.manifest import read_tensor_infos as read_tensor_infos
from ensgan.ensemble.manifest import refuse_non_finite as refuse_non_finite
