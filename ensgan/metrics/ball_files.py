"""Balls as named arrays, so that radii are measured once and read after that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ensgan.metrics.exact import Balls

ARRAYS = ("squared", "neighbour", "representative", "deviation", "lattice")


def ball_arrays(balls: Balls) -> dict[str, npt.ArrayLike]:
    """What a file keeps of balls."""
    lattice = np.nan if balls.lattice is None else balls.lattice
    return {**vars(balls), "lattice": np.float64(lattice)}


def balls_from(arrays: Mapping[str, npt.NDArray[Any]]) -> Balls:
    """Balls from what :func:`ball_arrays` made of them."""
    lattice = float(arrays["lattice"])
    return Balls(
        arrays["squared"],
        arrays["neighbour"],
        arrays["representative"],
        float(arrays["deviation"]),
        None if np.isnan(lattice) else int(lattice),
    )
