"""Stored images to a network's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ensgan.errors import InputError
from ensgan.types import UInt8Array

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How stored images become the network's input.

    Attributes:
        channels: channels the network takes; grey is repeated to three.
        size: side the images are resized to with an anti-aliased bicubic filter; None keeps theirs.
        mean, std: subtracted and divided by after scaling to 0…1, one value a channel or one.
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
        x = torch.from_numpy(np.ascontiguousarray(images)).to(device)
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
