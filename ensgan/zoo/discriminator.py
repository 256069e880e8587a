"""The discriminator: a backbone's trunk with the conditioning's head on it."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from ensgan.zoo.backbones.base import Trunk
from ensgan.zoo.conditioning.base import Head, HeadOutput


class Discriminator(nn.Module):
    """Images and targets to everything the losses read.

    Attributes:
        trunk: images → h.
        head: h and targets → adversarial output and class evidence.
        code_head: h → InfoGAN logits; belongs to the generator's optimiser. None without codes.
    """

    def __init__(self, trunk: Trunk, head: Head, code_head: nn.Module | None) -> None:
        super().__init__()
        self.trunk, self.head, self.code_head = trunk, head, code_head

    def forward(self, images: Tensor, targets: Tensor, *, codes: bool = False) -> HeadOutput:
        """images [B, C, H, W], targets int64 [B]; ``codes``: also guess the InfoGAN codes."""
        features = self.trunk(images)
        output: HeadOutput = self.head(features, targets)
        if codes and self.code_head is not None:
            logits = self.code_head(features / self.trunk.code_divisor)
            output = dataclasses.replace(output, code_logits=logits)
        return output

    def own_parameters(self) -> list[nn.Parameter]:
        """What the discriminator's optimiser updates: all but the InfoGAN head."""
        foreign = set() if self.code_head is None else set(self.code_head.parameters())
        return [parameter for parameter in self.parameters() if parameter not in foreign]
