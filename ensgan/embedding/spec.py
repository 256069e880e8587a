"""A row of the extractor table, and how stored images become a network's input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ensgan.errors import InputError
from ensgan.types import Dataset, UInt8Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Options: TypeAlias = Mapping[str, Any]
"""JSON-able settings that, with the weights, rebuild an extractor."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True)
class Request:
    """What the caller of :func:`make_extractor` gave.

    Attributes:
        weights: a weight file for offline sites, None to use the extractor's own source.
        dataset: the real data, for extractors that depend on it.
        seed: for networks drawn or trained here.
        cache: folder for downloaded and trained weights.
        device: where to train.
        on_progress: called with (epochs done, epochs at most) by networks trained here.
    """

    weights: Path | None = None
    dataset: Dataset | None = None
    seed: int = 0
    cache: Path | None = None
    device: str = "cpu"
    on_progress: OnProgress | None = None

    def refuse_weights(self, name: str) -> None:
        """Raise InputError if a weight file was given to an extractor that takes none."""
        if self.weights is not None:
            raise InputError(
                f"the extractor '{name}' makes its own weights and takes no file, "
                f"but was given {self.weights}: leave the weights out"
            )


@dataclass(frozen=True)
class Preprocessing:
    """How stored images become the network's input.

    Attributes:
        channels: channels the network takes; grey is repeated to three.
        size: side the images are resized to with an anti-aliased bicubic filter; None keeps theirs.
        mean, std: subtracted and divided by after scaling to 0…1, one value per channel or one.
    """

    channels: int
    size: int | None = None
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __call__(self, images: UInt8Array, device: torch.device) -> Tensor:
        """uint8 [n,H,W] or [n,H,W,C] → float32 [n,channels,size,size] on ``device``.

        Raises:
            InputError: the images have a number of channels the network cannot take.
        """
        x = torch.from_numpy(np.ascontiguousarray(images))
        if device.type == "cuda":
            x = x.pin_memory()  # which the card reads while it computes
        x = x.to(device, non_blocking=True)
        x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2)
        if x.shape[1] not in (1, self.channels):
            raise InputError(
                f"images of {x.shape[1]} channels, but this extractor takes {self.channels}: "
                "convert the images, or make the extractor for this data set"
            )
        x = x.to(torch.float32).div_(255)
        if self.size is not None and x.shape[2:] != (self.size, self.size):
            sides = (self.size, self.size)
            x = functional.interpolate(x, sides, mode="bicubic", antialias=True).clamp_(0, 1)
        mean = torch.tensor(self.mean, device=device).view(1, -1, 1, 1)
        std = torch.tensor(self.std, device=device).view(1, -1, 1, 1)
        return ((x.expand(-1, self.channels, -1, -1)) - mean).div_(std).contiguous()


@dataclass(frozen=True)
class ExtractorSpec:
    """How one extractor is made.

    Attributes:
        name: what users write.
        prepare: from a request, the options and the weights (names → tensors).
        network: from options, the network without its weights; it has an attribute ``dim``.
        preprocessing: from options, how images become its input.
        chunk: images the network sees at once on a CPU; 16 times as many on a GPU.
        licence: terms of the weights, empty when they are made here.
    """

    name: str
    prepare: Callable[[Request], tuple[Options, dict[str, Tensor]]]
    network: Callable[[Options], nn.Module]
    preprocessing: Callable[[Options], Preprocessing]
    chunk: int
    licence: str = ""
