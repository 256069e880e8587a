"""The extractors that ensgan brings.

Weights are made here, ``random`` an untrained network of fixed seed and ``medical`` a small ResNet
trained on the sweep's own real training split, or published: ResNet-50, SwAV, Inception-v3, DINOv2.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import ensgan.embedding.spec as specs
from ensgan.embedding.fit import Batch, FitSettings, class_weights, fit, labelled
from ensgan.embedding.resnet import resnet18, resnet50
from ensgan.errors import DataError, InputError
from ensgan.files import content_key, is_whole, seal
from ensgan.types import Dataset

_WIDTHS = (24, 48, 64)
_GRID = 2
WIDTH = 16
SETTINGS = FitSettings(epochs=30, batch=64, learning_rate=1e-3, plateau=3, warmup=5, patience=6)


def _as_stored(options: specs.Options) -> specs.Preprocessing:
    """Pixels of −1…1 at the size they have."""
    return specs.Preprocessing(channels=int(options["channels"]))


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


def _prepare_random(request: specs.Request) -> tuple[specs.Options, dict[str, Tensor]]:
    request.refuse_weights("random")
    channels = 1 if request.dataset is None else request.dataset.shape.channels
    options = {"channels": channels}
    return options, RandomNetwork(channels, request.seed).state_dict()


RANDOM = specs.ExtractorSpec(
    "random",
    prepare=_prepare_random,
    network=lambda options: RandomNetwork(int(options["channels"]), seed=0),
    preprocessing=_as_stored,
    chunk=64,
)


def _features(options: specs.Options) -> nn.Module:
    network = resnet18(channels=int(options["channels"]), classes=2, width=WIDTH, seed=0)
    setattr(network, "fc", nn.Identity())  # noqa: B010
    return network


def _prepare_medical(request: specs.Request) -> tuple[specs.Options, dict[str, Tensor]]:
    if request.dataset is None:
        raise InputError(
            "the extractor 'medical' is trained on real images: give it the data set of the sweep"
        )
    dataset = request.dataset
    options = {"channels": dataset.shape.channels}
    if request.weights is not None:
        state = specs.read_weights(request.weights)
        return options, specs.fit_to(_features(options), state, "medical", ("fc.",))
    path = None
    if request.cache is not None:
        # The test split has no part in the training, so it has none in the key.
        key = content_key("medical", WIDTH, vars(SETTINGS), dataset.train.key, dataset.val.key)
        path = request.cache / f"medical-{key}-{request.seed}.safetensors"
        if is_whole(path):
            return options, specs.fit_to(_features(options), specs.read_weights(path), "medical")
    state = train_medical(
        dataset, seed=request.seed, device=request.device, on_progress=request.on_progress
    )
    if path is not None:
        specs.write_tensors(path, state)
        seal(path)
    return options, state


def train_medical(
    dataset: Dataset,
    *,
    seed: int,
    device: str = "cpu",
    on_progress: specs.OnProgress | None = None,
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


MEDICAL = specs.ExtractorSpec(
    "medical",
    prepare=_prepare_medical,
    network=_features,
    preprocessing=_as_stored,
    chunk=64,
)


IMAGENET = specs.Preprocessing(3, 224, specs.IMAGENET_MEAN, specs.IMAGENET_STD)
# These weights were trained on inputs in −1…1.
INCEPTION = specs.Preprocessing(3, 299, (0.5,) * 3, (0.5,) * 3)


def _headless(network: nn.Module, dim: int) -> nn.Module:
    """The network with its linear head ``fc`` taken off, so that it returns features."""
    setattr(network, "fc", nn.Identity())  # noqa: B010
    setattr(network, "dim", dim)  # noqa: B010
    return network


def _resnet50(_: specs.Options) -> nn.Module:
    return _headless(resnet50(), 2048)


def _inception_v3(_: specs.Options) -> nn.Module:
    torchvision = _imported("torchvision", "inception_v3")
    network = torchvision.models.inception_v3(
        weights=None, aux_logits=False, init_weights=False, transform_input=False
    )
    return _headless(network, 2048)


def _dinov2(_: specs.Options) -> nn.Module:
    timm = _imported("timm", "dinov2")
    network: nn.Module = timm.create_model(
        "vit_small_patch14_dinov2", pretrained=False, num_classes=0, dynamic_img_size=True
    )
    setattr(network, "dim", int(getattr(network, "num_features")))  # noqa: B009, B010
    return network


def _imported(package: str, extractor: str) -> Any:
    """torchvision or timm, imported only here: an installation may lack them or have them broken.

    Raises:
        InputError: the package cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            f"the extractor '{extractor}' needs the package {package}, which cannot be imported "
            f"({str(error).splitlines()[0]}): install ensgan[vision] beside a matching torch, or "
            "choose 'resnet50', 'swav', 'medical' or 'random'"
        ) from error


def _published(
    name: str,
    source: specs.WeightSource,
    network: Callable[[specs.Options], nn.Module],
    *,
    preprocessing: specs.Preprocessing = IMAGENET,
    ignore: tuple[str, ...],
    licence: str,
) -> specs.ExtractorSpec:
    def prepare(request: specs.Request) -> tuple[specs.Options, dict[str, Tensor]]:
        # Built first: a package that is missing should be known before a download.
        empty = network({})
        state = specs.obtain_weights(name, source, request.weights, request.cache)
        return {}, specs.fit_to(empty, state, name, ignore)

    return specs.ExtractorSpec(
        name, prepare, network, lambda _: preprocessing, chunk=4, licence=licence
    )


_TORCHVISION = "https://download.pytorch.org/models"
_FACEBOOK = "https://dl.fbaipublicfiles.com"
_TORCHVISION_LICENCE = "BSD-3-Clause (torchvision); trained on ImageNet, whose own terms apply"

# torchvision writes the first eight digits of the SHA-256 into its file names; neither SwAV nor
# DINOv2 publishes a checksum.
PUBLISHED = (
    _published(
        "resnet50",
        specs.WeightSource(f"{_TORCHVISION}/resnet50-0676ba61.pth", sha256="0676ba61"),
        _resnet50,
        ignore=("fc.",),
        licence=_TORCHVISION_LICENCE,
    ),
    _published(
        "swav",
        specs.WeightSource(f"{_FACEBOOK}/deepcluster/swav_800ep_pretrain.pth.tar"),
        _resnet50,
        ignore=("projection_head.", "prototypes.", "fc."),
        licence="CC BY-NC 4.0: not for commercial use",
    ),
    _published(
        "inception_v3",
        specs.WeightSource(f"{_TORCHVISION}/inception_v3_google-0cc3c7bd.pth", sha256="0cc3c7bd"),
        _inception_v3,
        preprocessing=INCEPTION,
        ignore=("fc.", "AuxLogits."),
        licence=_TORCHVISION_LICENCE,
    ),
    _published(
        "dinov2",
        specs.WeightSource(f"{_FACEBOOK}/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"),
        _dinov2,
        ignore=("mask_token",),
        licence="Apache-2.0",
    ),
)
