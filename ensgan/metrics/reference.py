"""A real set with its radii: measured once, kept in a file, read by whoever scores against it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ensgan.errors import DataError
from ensgan.files import read_npz, write_npz
from ensgan.metrics.ball_files import ARRAYS, ball_arrays, balls_from
from ensgan.metrics.choice import make_backend
from ensgan.metrics.features import (
    FeatureSource,
    Frame,
    check_points,
    magnitude,
    open_features,
    robust_centre,
    shifted,
)
from ensgan.metrics.hits import PlacedSet
from ensgan.metrics.radii import measure_balls


@dataclass(frozen=True)
class RealReference:
    """A real set with its radii, measured once, to score any number of members against.

    Attributes:
        placed: the features [N,D], radii and frame.
        k: neighbour that sets the radius.
        shift: power of two taken out of all features first (0 unless they are extreme).
    """

    placed: PlacedSet
    k: int
    shift: int

    def __len__(self) -> int:
        return len(self.placed)


def prepare(real: FeatureSource, k: int = 5, *, backend: str = "auto") -> RealReference:
    """Measure the radii of a real set [N,D] once.

    Raises:
        InputError: NaN or infinity, N < k+1, k < 1.
    """
    chosen = make_backend(backend)
    features = open_features(real, "real")
    check_points(features, "real", k)
    shift = magnitude(features)
    features = shifted(features, shift)
    centre = robust_centre(features)
    balls = measure_balls(features, k, chosen, centre=centre)
    frame = Frame.spanning(centre, balls.deviation)
    return RealReference(PlacedSet(features, balls, frame, chosen), k, shift)


def kept_reference(
    real: FeatureSource, path: Path, k: int = 5, *, backend: str = "auto"
) -> RealReference:
    """The same from the radii in ``path``; measured and written there when they are missing.

    The caller names the file by what the features are: they are not hashed again. A damaged file,
    or one of another k or number of points, is made again.

    Raises:
        InputError: as :func:`prepare`.
    """
    if path.exists():
        with suppress(DataError):
            return _read(real, path, k, backend)
    reference = prepare(real, k, backend=backend)
    placed = reference.placed
    write_npz(
        path,
        **ball_arrays(placed.balls),
        centre=placed.frame.centre,
        shift=np.int64(reference.shift),
        k=np.int64(k),
    )
    return reference


def _read(real: FeatureSource, path: Path, k: int, backend: str) -> RealReference:
    arrays = read_npz(path, (*ARRAYS, "centre", "shift", "k"))
    features = open_features(real, "real")
    shape = (len(arrays["squared"]), len(arrays["centre"]))
    if int(arrays["k"]) != k or features.shape != shape:
        raise DataError(f"{path} holds radii of other features or another k")
    balls, shift = balls_from(arrays), int(arrays["shift"])
    frame = Frame.spanning(arrays["centre"], balls.deviation)
    placed = PlacedSet(shifted(features, shift), balls, frame, make_backend(backend))
    return RealReference(placed, k, shift)
