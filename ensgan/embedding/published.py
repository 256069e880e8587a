"""Extractors with published weights: ResNet-50, SwAV, Inception-v3, DINOv2."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

import ensgan.embedding.spec as specs
from ensgan.embedding.resnet import resnet50
from ensgan.embedding.weight_files import WeightSource, fit_to, obtain_weights
from ensgan.errors import InputError

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
    source: WeightSource,
    network: Callable[[specs.Options], nn.Module],
    *,
    preprocessing: specs.Preprocessing = IMAGENET,
    ignore: tuple[str, ...],
    licence: str,
) -> specs.ExtractorSpec:
    def prepare(request: specs.Request) -> tuple[specs.Options, dict[str, Tensor]]:
        # Built first: a package that is missing should be known before a download.
        empty = network({})
        state = obtain_weights(name, source, request.weights, request.cache)
        return {}, fit_to(empty, state, name, ignore)

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
        WeightSource(f"{_TORCHVISION}/resnet50-0676ba61.pth", sha256="0676ba61"),
        _resnet50,
        ignore=("fc.",),
        licence=_TORCHVISION_LICENCE,
    ),
    _published(
        "swav",
        WeightSource(f"{_FACEBOOK}/deepcluster/swav_800ep_pretrain.pth.tar"),
        _resnet50,
        ignore=("projection_head.", "prototypes.", "fc."),
        licence="CC BY-NC 4.0: not for commercial use",
    ),
    _published(
        "inception_v3",
        WeightSource(f"{_TORCHVISION}/inception_v3_google-0cc3c7bd.pth", sha256="0cc3c7bd"),
        _inception_v3,
        preprocessing=INCEPTION,
        ignore=("fc.", "AuxLogits."),
        licence=_TORCHVISION_LICENCE,
    ),
    _published(
        "dinov2",
        WeightSource(f"{_FACEBOOK}/dinov2/dinov2_vits14/dinov2_vits14_pretrain.pth"),
        _dinov2,
        ignore=("mask_token",),
        licence="Apache-2.0",
    ),
)
