"""A small class-conditional diffusion model (DDPM, Ho et al. 2020), as an example generator.

Train it on the real images of a pool:  python ddpm.py my-pool/ [steps]
Then let ensgan fill its bank:          ensgan bank ddpm.py:sample --pool my-pool/ --name DDPM
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = Path(__file__).with_name("ddpm.safetensors")
LEVELS = 30  # noise levels
BETAS = torch.linspace(1e-3, 0.3, LEVELS)
KEPT = torch.cumprod(1 - BETAS, dim=0)  # share of the signal left at each level


class Denoiser(nn.Module):
    """Predicts the noise in an image [B,1,H,W] at a level, for a class."""

    def __init__(self, classes: int = 2, width: int = 16) -> None:
        super().__init__()
        self.condition = nn.ModuleList([nn.Embedding(LEVELS, width), nn.Embedding(classes, width)])
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.middle = nn.Sequential(
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
        )
        self.up = nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1)
        self.last = nn.Conv2d(2 * width, 1, 3, padding=1)

    def forward(self, images: Tensor, levels: Tensor, labels: Tensor) -> Tensor:
        """The noise, of the images' shape, for levels and labels int64 [B]."""
        level, label = self.condition
        shift = (level(levels) + label(labels))[..., None, None]
        first = functional.silu(self.first(images) + shift)
        deep = self.up(self.middle(self.down(first)))
        return self.last(torch.cat([first, functional.silu(deep + shift)], dim=1))


def train(pool: Path, steps: int = 400, batch: int = 32) -> None:
    """Learn the pool's real images and keep the weights beside this file."""
    from ensgan.data.pool import read_real

    real, class_names, _ = read_real(pool)
    images = torch.from_numpy(real.images).float()[:, None] / 127.5 - 1
    labels = torch.from_numpy(real.labels)
    torch.manual_seed(0)
    network = Denoiser(len(class_names))
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        rows = torch.randint(len(images), (batch,))
        levels = torch.randint(LEVELS, (batch,))
        kept = KEPT[levels][:, None, None, None]
        noise = torch.randn(batch, *images.shape[1:])
        noisy = kept.sqrt() * images[rows] + (1 - kept).sqrt() * noise
        loss = functional.mse_loss(network(noisy, levels, labels[rows]), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    size = torch.tensor(images.shape[-1])
    save_file({**network.state_dict(), "size": size}, WEIGHTS)
    sys.stdout.write(f"trained {steps} steps, last loss {loss.item():.3f}\n")


def sample(n: int, labels: np.ndarray, seed: int) -> Tensor:
    """Images in −1…1, float32 [n,1,H,W]: what `ensgan bank` calls."""
    state = load_file(WEIGHTS)
    size = int(state.pop("size"))
    network = Denoiser(len(state["condition.1.weight"]))
    network.load_state_dict(state)
    source = torch.Generator().manual_seed(seed)
    classes = torch.from_numpy(labels)
    images = torch.randn(n, 1, size, size, generator=source)
    for level in reversed(range(LEVELS)):
        noise = network(images, torch.full((n,), level), classes)
        images = images - BETAS[level] / (1 - KEPT[level]).sqrt() * noise
        images = images / (1 - BETAS[level]).sqrt()
        if level:
            images += BETAS[level].sqrt() * torch.randn(images.shape, generator=source)
    return images.clamp(-1, 1)


if __name__ == "__main__":
    train(Path(sys.argv[1]), *map(int, sys.argv[2:]))
