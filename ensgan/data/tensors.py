"""Samples as a PyTorch data set."""

from __future__ import annotations

import torch
from torch.utils.data import Dataset as TorchDataset

from ensgan.types import Samples


class TorchImages(TorchDataset[tuple[torch.Tensor, int]]):
    """Items (image, label): float32 [C,H,W] in −1…1, the range the generators work in, and int.

    The images stay uint8 until an item is asked for.
    """

    def __init__(self, samples: Samples) -> None:
        images = torch.from_numpy(samples.images)
        self.images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        self.labels = samples.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index].float() / 127.5 - 1, int(self.labels[index])
