"""Signs that a snapshot is ill: recorded with it, visible, never hidden."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ensgan.zoo.backbones.base import Generator
from ensgan.zoo.sampling import sample

CHECKED_IMAGES = 64
FLAT_LEVELS = 1.0
OVERFIT_SIGN = 0.9


def examine(generator: Generator, metrics: Mapping[str, float]) -> tuple[str, ...]:
    """One sentence a sign: non-finite weights, constant images, an overfitted discriminator.

    Args:
        generator: of the snapshot.
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
    signs = _image_signs(generator)
    real_sign = metrics.get("real_sign", 0.0)
    if real_sign > OVERFIT_SIGN:
        signs.append(
            f"discriminator overfit: the mean sign of its output on reals is {real_sign:.2f}"
        )
    return tuple(signs)


def _image_signs(generator: Generator) -> list[str]:
    labels = np.arange(CHECKED_IMAGES, dtype=np.int64) % generator.num_classes
    images = sample(generator, labels, seed=0).astype(np.float32).reshape(CHECKED_IMAGES, -1)
    if images.std(axis=1).max() < FLAT_LEVELS:
        return [f"constant images: all of {CHECKED_IMAGES} are one flat grey"]
    if images.std(axis=0).mean() < FLAT_LEVELS:
        return [f"constant images: all of {CHECKED_IMAGES} are nearly the same"]
    return []
