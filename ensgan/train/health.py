"""Signs that a snapshot is ill: recorded with it, visible, never hidden."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ensgan.types import Samples
from ensgan.zoo.backbones.base import Generator
from ensgan.zoo.sampling import sample

CHECKED_IMAGES = 64
FLAT_LEVELS = 1.0
OVERFIT_SIGN = 0.9
LEAST_SPREAD = 0.5
"""Of the reals' own; images that vary less within their class are called collapsed."""

_LEAST_IMAGES = 8


def examine(
    generator: Generator, metrics: Mapping[str, float], reals: Samples | None = None
) -> tuple[str, ...]:
    """One sentence a sign: non-finite weights, constant or collapsed images, overfitted D.

    Args:
        generator: of the snapshot.
        reals: the training split, against which the variety within each class is judged.
        metrics: of the snapshot; ``real_sign`` is the mean sign of the discriminator's output on
            reals, which ADA (Karras et al. 2020) reads as overfitting when it nears 1.
    """
    bad = [
        name
        for name, value in generator.state_dict().items()
        if value.is_floating_point() and not bool(torch.isfinite(value).all())
    ]
    if bad:
        return (f"non-finite weights: {len(bad)} tensors, e.g. {bad[0]}",)
    signs = _image_signs(generator, reals)
    real_sign = metrics.get("real_sign", 0.0)
    if real_sign > OVERFIT_SIGN:
        signs.append(
            f"discriminator overfit: the mean sign of its output on reals is {real_sign:.2f}"
        )
    return tuple(signs)


def _image_signs(generator: Generator, reals: Samples | None) -> list[str]:
    labels = np.arange(CHECKED_IMAGES, dtype=np.int64) % generator.num_classes
    images = sample(generator, labels, seed=0)
    levels = images.astype(np.float32).reshape(CHECKED_IMAGES, -1)
    if levels.std(axis=1).max() < FLAT_LEVELS:
        return [f"constant images: all of {CHECKED_IMAGES} are one flat grey"]
    if levels.std(axis=0).mean() < FLAT_LEVELS:
        return [f"constant images: all of {CHECKED_IMAGES} are nearly the same"]
    if reals is None:
        return []
    made, wanted = class_spreads(Samples(images, labels)), class_spreads(reals)
    return [
        f"mode collapse: images of class {label} vary by {made[label]:.0f} grey levels, real ones "
        f"by {spread:.0f}"
        for label, spread in wanted.items()
        if label in made and made[label] < LEAST_SPREAD * spread
    ]


def class_spreads(samples: Samples) -> dict[int, float]:
    """How much images of a class differ: standard deviation over them, mean over pixels.

    Returns:
        grey levels by class, for classes of at least 8 images (of a class, 512 are looked at).
    """
    spreads = {}
    for label in np.unique(samples.labels):
        images = samples.images[np.flatnonzero(samples.labels == label)[:512]]
        if len(images) >= _LEAST_IMAGES:
            spreads[int(label)] = float(images.astype(np.float32).std(axis=0).mean())
    return spreads
