"""How the downstream classifier is trained."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import torch

from ensgan.embedding.fit import FitSettings
from ensgan.errors import InputError


@dataclass(frozen=True)
class ClassifierSettings(FitSettings):
    """ResNet-18 (3×3 stem, no max-pooling) and its training.

    Attributes:
        width: channels of the first stage; 64 is ResNet-18, less is a narrower network.
        images_per_epoch: images an epoch; None means as many as the real training split has.
        labels: class proportions of the synthetic images: those of the training split, or uniform.
        positive: class that sensitivity, precision, specificity and F1 speak of when there are
            two classes.
        memory_mb: most memory for cached synthetic images, in MiB; above it every member keeps an
            equal share of its images.
        device: e.g. ``"cpu"`` or ``"cuda:0"``; ``"auto"``: a GPU where the work is done, if there
            is one (several classifiers may share it).
    """

    width: int = 64
    images_per_epoch: int | None = None
    labels: Literal["training", "uniform"] = "training"
    positive: int = 1
    memory_mb: int = 2048
    device: str = "cpu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise InputError(f"width must be at least 1, not {self.width}")
        if self.images_per_epoch is not None and self.images_per_epoch < 2:
            raise InputError(f"images_per_epoch must be at least 2, not {self.images_per_epoch}")
        if self.labels not in ("training", "uniform"):
            raise InputError(f"labels must be 'training' or 'uniform', not '{self.labels}'")
        if self.positive not in (0, 1):
            raise InputError(f"positive must be class 0 or 1, not {self.positive}")
        if re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device) is None:
            raise InputError(f"device must be auto, cpu, cuda or cuda:N, not '{self.device}'")
        if self.memory_mb < 1:
            raise InputError(f"memory_mb must be at least 1, not {self.memory_mb}")

    def on_device(self) -> ClassifierSettings:
        """The same with ``auto`` resolved in this process.

        Raises:
            InputError: a GPU was asked for and this process sees none.
        """
        if self.device == "auto":
            return replace(self, device="cuda" if torch.cuda.is_available() else "cpu")
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(f"device '{self.device}': no GPU is seen here; use cpu or auto")
        return self

    def longer(self, times: int) -> ClassifierSettings:
        """The same with so many times the epochs, the learning rate's schedule stretched alike."""
        paces = ("epochs", "plateau", "warmup", "patience")
        return replace(self, **{name: times * getattr(self, name) for name in paces})
