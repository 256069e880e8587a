"""The training set on the device, handed out in shuffled baskets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ensgan.types import Samples


class Reals:
    """All training images as uint8 on the device.

    A *basket* is the reals of one step. Baskets follow a shuffled order; what is left of an order
    after the last full basket is dropped and a new order is drawn.

    Attributes:
        drawn: baskets drawn since it was last set to 0.
        held: index buffers int64 [basket] that :meth:`draw` reads instead of the order, one after
            another; a captured step reads its images through them.
    """

    def __init__(self, samples: Samples, basket: int, seed: int, device: torch.device) -> None:
        images = torch.from_numpy(samples.images)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        self.images = images.contiguous().to(device)
        self.labels = torch.from_numpy(samples.labels).to(device)
        self.basket = basket
        # The order is drawn on the CPU: it is then the same on every device. It moves to the device
        # as a whole, since every move costs a transfer.
        self.random = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64, device=device)
        self.cursor = 0
        self.drawn = 0
        self.held: list[Tensor] | None = None
        self._buffers: list[Tensor] = []

    def draw(self) -> tuple[Tensor, Tensor]:
        """Next basket: uint8 images [basket, C, H, W] and labels int64 [basket]."""
        places = self._next_places() if self.held is None else self.held[self.drawn]
        self.drawn += 1
        return self.images.index_select(0, places), self.labels.index_select(0, places)

    def buffers(self, count: int) -> list[Tensor]:
        """That many index buffers, always the same ones."""
        while len(self._buffers) < count:
            self._buffers.append(self.order.new_zeros(self.basket))
        return self._buffers[:count]

    def fill(self, count: int) -> None:
        """Advance by that many baskets, whose places go to the buffers."""
        for buffer in self.buffers(count):
            buffer.copy_(self._next_places())

    def _next_places(self) -> Tensor:
        if self.cursor + self.basket > len(self.order):
            order = torch.randperm(len(self.images), generator=self.random)
            if self.images.is_cuda:  # from pinned memory the host need not wait for the copy
                order = order.pin_memory()
            self.order, self.cursor = order.to(self.images.device, non_blocking=True), 0
        places = self.order[self.cursor : self.cursor + self.basket]
        self.cursor += self.basket
        return places

    def state_dict(self) -> dict[str, Any]:
        """Where the order stands."""
        return {"random": self.random.get_state(), "order": self.order, "cursor": self.cursor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        self.random.set_state(state["random"])
        self.order, self.cursor = state["order"].to(self.images.device), int(state["cursor"])


def to_range(images: Tensor) -> Tensor:
    """uint8 0…255 → float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1
