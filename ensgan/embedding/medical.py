"""The ``medical`` extractor: a small ResNet trained on the sweep's own real training split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ensgan.embedding.fit import Batch, FitSettings, class_weights, fit, labelled
from ensgan.embedding.resnet import resnet18
from ensgan.embedding.spec import ExtractorSpec, OnProgress, Options, Preprocessing, Request
from ensgan.embedding.weight_files import fit_to, read_weights
from ensgan.errors import DataError, InputError
from ensgan.files import atomic_path, content_key
from ensgan.types import Dataset

WIDTH = 16
SETTINGS = FitSettings(epochs=30, batch=64, learning_rate=1e-3, plateau=3, warmup=5, patience=6)


def _features(options: Options) -> nn.Module:
    network = resnet18(channels=int(options["channels"]), classes=2, width=WIDTH, seed=0)
    setattr(network, "fc", nn.Identity())  # noqa: B010
    return network


def _prepare(request: Request) -> tuple[Options, dict[str, Tensor]]:
    if request.dataset is None:
        raise InputError(
            "the extractor 'medical' is trained on real images: give it the data set of the sweep"
        )
    dataset = request.dataset
    options = {"channels": dataset.shape.channels}
    if request.weights is not None:
        state = read_weights(request.weights)
        return options, fit_to(_features(options), state, "medical", ("fc.",))
    path = _cache_path(request, dataset)
    if path is not None and path.exists():
        return options, fit_to(_features(options), read_weights(path), "medical")
    state = train_medical(
        dataset,
        seed=request.seed,
        device=request.device,
        settings=SETTINGS,
        on_progress=request.on_progress,
    )
    if path is not None:
        with atomic_path(path) as temporary:
            save_file(state, temporary)
    return options, state


def _cache_path(request: Request, dataset: Dataset) -> Path | None:
    if request.cache is None:
        return None
    # The test split has no part in the training, so it has none in the key.
    key = content_key("medical", WIDTH, vars(SETTINGS), dataset.train.key, dataset.val.key)
    return request.cache / f"medical-{key}-{request.seed}.safetensors"


def train_medical(
    dataset: Dataset,
    *,
    seed: int,
    device: str = "cpu",
    settings: FitSettings = SETTINGS,
    on_progress: OnProgress | None = None,
) -> dict[str, Tensor]:
    """Train a classifier on the training split and keep its features.

    A ResNet-18 of a quarter of the usual width, class-weighted cross-entropy, early stopping on
    the validation loss. The test split is not looked at. ``on_progress`` hears of every epoch, and
    that all are done when training stops early.

    Returns:
        The state dict without the linear head; features have 128 dimensions.

    Raises:
        DataError: fewer than two classes in the training split, or no validation images.
        TrainingError: the loss became non-finite.
    """
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if (counts > 0).sum() < 2 or not len(dataset.val):
        raise DataError(
            f"the extractor 'medical' needs two classes to tell apart and a validation split; "
            f"{dataset.name} has training counts {counts.tolist()} and {len(dataset.val)} "
            "validation images: choose another extractor"
        )
    network = resnet18(
        channels=dataset.shape.channels, classes=dataset.num_classes, width=WIDTH, seed=seed
    ).to(device)
    train, validation = labelled(dataset.train, device), labelled(dataset.val, device)
    rng = np.random.default_rng([seed, 2])

    def draw(epoch: int) -> Batch:
        if on_progress is not None:
            on_progress(epoch, settings.epochs)
        order = torch.from_numpy(rng.permutation(len(train.images))).to(device)
        return Batch(train.images[order], train.labels[order])

    weights = class_weights(torch.from_numpy(counts)).to(device)
    fit(network, draw, validation, weights=weights, settings=settings)
    if on_progress is not None:
        on_progress(settings.epochs, settings.epochs)
    return {
        name: tensor.cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.startswith("fc.")
    }


MEDICAL = ExtractorSpec(
    "medical",
    prepare=_prepare,
    network=_features,
    preprocessing=lambda options: Preprocessing(channels=int(options["channels"])),
    chunk=64,
)
