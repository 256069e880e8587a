"""A row of the extractor table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from torch import Tensor, nn

from ensgan.embedding.preprocessing import Preprocessing
from ensgan.errors import InputError
from ensgan.types import Dataset

Options: TypeAlias = Mapping[str, Any]
"""JSON-able settings that, with the weights, rebuild an extractor."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Hears (done, total)."""


@dataclass(frozen=True)
class Request:
    """What the caller of :func:`make_extractor` gave.

    Attributes:
        weights: a weight file for offline sites, None to use the extractor's own source.
        dataset: the real data, for extractors that depend on it.
        seed: for networks drawn or trained here.
        cache: folder for downloaded and trained weights.
        device: where to train.
        on_progress: told epochs done and in all, at most, by networks trained here.
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
