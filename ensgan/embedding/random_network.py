"""A fixed-seed untrained convolutional network: the ``random`` extractor.

Naeem et al. (ICML 2020, "R64") embed images far from ImageNet with a randomly initialised network.
Ours works on the small image itself and keeps a coarse map of where things are, so that kinds of
images that differ by place or shape stay apart.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ensgan.embedding.spec import ExtractorSpec, Options, Preprocessing, Request

WIDTHS = (24, 48, 64)
GRID = 2


class RandomNetwork(nn.Module):
    """Three strided convolutions with random orthogonal filters, then a 2×2 map of averages.

    Args:
        channels: channels of the image.
        seed: draws the filters.

    Output: [n, 256] = 64 channels × 2 × 2 places.
    """

    dim = WIDTHS[-1] * GRID * GRID

    def __init__(self, channels: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        layers = []
        inputs, kernel = channels, 5
        for width in WIDTHS:
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
        return functional.adaptive_avg_pool2d(x, GRID).flatten(1)


def _prepare(request: Request) -> tuple[Options, dict[str, Tensor]]:
    request.refuse_weights("random")
    channels = 1 if request.dataset is None else request.dataset.shape.channels
    options = {"channels": channels}
    return options, RandomNetwork(channels, request.seed).state_dict()


RANDOM = ExtractorSpec(
    "random",
    prepare=_prepare,
    network=lambda options: RandomNetwork(int(options["channels"]), seed=0),
    preprocessing=lambda options: Preprocessing(channels=int(options["channels"])),
    chunk=64,
)
