"""What an extractor's precision changes in density and coverage: float32, TF32 and bfloat16.

TF32 is played on the CPU: inputs and weights of convolutions rounded to its 11 significant bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ensgan import embedding, metrics
from ensgan.data import load_dataset
from ensgan.embedding.extractor import Extractor
from ensgan.types import Dataset


def in_tf32(x: Tensor) -> Tensor:
    """Float32 rounded to the nearest value with 11 significant bits."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + 0x1000) & ~0x1FFF).view(torch.float32)


@contextlib.contextmanager
def precision(name: str, network: nn.Module) -> Iterator[None]:
    """The network as it would compute."""
    with contextlib.ExitStack() as stack:
        if name == "bfloat16":
            stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        if name == "tf32":
            layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
            for layer in layers:
                weight = layer.weight.data
                layer.weight.data = in_tf32(weight)
                stack.callback(setattr, layer.weight, "data", weight)
                hook = layer.register_forward_pre_hook(lambda _, x: tuple(map(in_tf32, x)))
                stack.callback(hook.remove)
        yield


def made(name: str, dataset: Dataset) -> Extractor:
    """An extractor: ``resnet50`` has random weights here."""
    if name == "resnet50":
        spec = embedding.EXTRACTORS.get(name)
        torch.manual_seed(0)
        return Extractor(spec, {}, spec.network({}).state_dict())
    return embedding.make_extractor(name, dataset=dataset, seed=0)


def effect(
    name: str, images: Path, members: int, most: int | None, data_dir: Path | None
) -> dict[str, Any]:
    """Differences from float32, largest over the members, and what density and coverage are.

    Args:
        name: of the extractor.
        images: ``.npz`` with ``images`` uint8 [members, n, H, W].
        members: how many of them.
        most: images of each, and a third of the real ones; None for all.
        data_dir: where PneumoniaMNIST lies.
    """
    options = {"accept_checksum": "any"}
    dataset = load_dataset("pneumoniamnist", root=data_dir, options=options)
    extractor = made(name, dataset)
    with np.load(images, allow_pickle=False) as arrays:
        fakes = arrays["images"][:members, :most]
    real = dataset.train.images[: most and 3 * most]
    features: dict[str, list[np.ndarray]] = {}
    for way in ("float32", "tf32", "bfloat16"):
        with precision(way, extractor._network):
            features[way] = [extractor(each) for each in (real, *fakes)]
    names = [str(index) for index in range(len(fakes))]
    scores = {way: metrics.score_pool(each[0], each[1:], names) for way, each in features.items()}
    exact = scores["float32"]
    result: dict[str, Any] = {"extractor": name, "real": len(real), "members": len(fakes)}
    result["mean density, coverage"] = float(exact.density.mean()), float(exact.coverage.mean())
    for way in ("tf32", "bfloat16"):
        norms = [np.linalg.norm(each, axis=1) for each in features["float32"]]
        apart = [
            np.linalg.norm(a - b, axis=1) / norm
            for a, b, norm in zip(features[way], features["float32"], norms, strict=True)
        ]
        result[way] = {
            "features, relative, median": float(np.median(np.concatenate(apart))),
            "features, relative, largest": float(max(each.max() for each in apart)),
            "density": float(np.abs(scores[way].density - exact.density).max()),
            "coverage": float(np.abs(scores[way].coverage - exact.coverage).max()),
            "directed d": float(
                np.nanmax(np.abs(scores[way].directed - exact.directed), initial=0)
            ),
        }
    return result
