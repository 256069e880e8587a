"""Extractors whose weights are made here.

``random`` is an untrained network of fixed seed, ``medical`` a small ResNet trained on the sweep's
own real training split.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ensgan.embedding.fit import Batch, FitSettings, class_weights, fit, labelled
from ensgan.embedding.resnet import resnet18
from ensgan.embedding.spec import ExtractorSpec, OnProgress, Options, Preprocessing, Request
from ensgan.embedding.weight_files import fit_to, read_weights, write_tensors
from ensgan.errors import DataError, InputError
from ensgan.files import content_key, is_whole, seal
from ensgan.types import Dataset

_WIDTHS = (24, 48, 64)
_GRID = 2
WIDTH = 16
SETTINGS = FitSettings(epochs=30, batch=64, learning_rate=1e-3, plateau=3, warmup=5, patience=6)


def _as_stored(options: Options) -> Preprocessing:
    """Pixels of −1…1 at the size they have."""
    return Preprocessing(channels=int(options["channels"]))


class RandomNetwork(nn.Module):
    """Three strided convolutions with random orthogonal filters, then a 2×2 map of averages.

    Naeem et al. (ICML 2020, "R64") embed images far from ImageNet with a randomly initialised
    network. Ours works on the small image itself and keeps a coarse map of where things are, so
    that kinds of images that differ by place or shape stay apart.

    Args:
        channels: channels of the image.
        seed: draws the filters.

    Output: [n, 256] = 64 channels × 2 × 2 places.
    """

    dim = _WIDTHS[-1] * _GRID * _GRID

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        layers = []
        inputs, kernel = channels, 5
        for width in _WIDTHS:
            layer = nn.Conv2d(inputs, width, kernel, stride=2, padding=kernel // 2)
            nn.init.orthogonal_(layer.weight, gain=2**0.5, generator=generator)
            assert layer.bias is not None
            nn.init.uniform_(layer.bias, -0.5, 0.5, generator=generator)
            layers.append(layer)
            inputs, kernel = width, 3
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """[n,C,H,W] in −1…1 → [n,256]."""
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2, inplace=True)
        return functional.adaptive_avg_pool2d(x, _GRID).flatten(1)


def _prepare_random(request: Request) -> tuple[Options, dict[str, Tensor]]:
    request.refuse_weights("random")
    channels = 1 if request.dataset is None else request.dataset.shape.channels
    options = {"channels": channels}
    return options, RandomNetwork(channels, request.seed).state_dict()


RANDOM = ExtractorSpec(
    "random",
    prepare=_prepare_random,
    network=lambda options: RandomNetwork(int(options["channels"]), seed=0),
    preprocessing=_as_stored,
    chunk=64,
)


def _features(options: Options) -> nn.Module:
    network = resnet18(channels=int(options["channels"]), classes=2, width=WIDTH, seed=0)
    setattr(network, "fc", nn.Identity())  # noqa: B010
    return network


def _prepare_medical(request: Request) -> tuple[Options, dict[str, Tensor]]:
    if request.dataset is None:
        raise InputError(
            "the extractor 'medical' is trained on real images: give it the data set of the sweep"
        )
    dataset = request.dataset
    options = {"channels": dataset.shape.channels}
    if request.weights is not None:
        state = read_weights(request.weights)
        return options, fit_to(_features(options), state, "medical", ("fc.",))
    path = None
    if request.cache is not None:
        # The test split has no part in the training, so it has none in the key.
        key = content_key("medical", WIDTH, vars(SETTINGS), dataset.train.key, dataset.val.key)
        path = request.cache / f"medical-{key}-{request.seed}.safetensors"
        if is_whole(path):
            return options, fit_to(_features(options), read_weights(path), "medical")
    state = train_medical(
        dataset, seed=request.seed, device=request.device, on_progress=request.on_progress
    )
    if path is not None:
        write_tensors(path, state)
        seal(path)
    return options, state


def train_medical(
    dataset: Dataset,
    *,
    seed: int,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> dict[str, Tensor]:
    """Train a classifier on the training split and keep its features.

    A ResNet-18 of a quarter of the usual width, class-weighted cross-entropy, early stopping on
    the validation loss. The test split is not looked at. ``on_progress`` is called after every
    epoch, and with all epochs done when training stops early.

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
            on_progress(epoch, SETTINGS.epochs)
        order = torch.from_numpy(rng.permutation(len(train.images))).to(device)
        return train.part(order)

    weights = class_weights(torch.from_numpy(counts)).to(device)
    fit(network, draw, validation, weights=weights, settings=SETTINGS)
    if on_progress is not None:
        on_progress(SETTINGS.epochs, SETTINGS.epochs)
    return {
        name: tensor.cpu().contiguous()
        for name, tensor in network.state_dict().items()
        if not name.startswith("fc.")
    }


MEDICAL = ExtractorSpec(
    "medical",
    prepare=_prepare_medical,
    network=_features,
    preprocessing=_as_stored,
    chunk=64,
)
