"""How a pool is scored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ensgan.errors import InputError
from ensgan.types import PoolScores

Mapper: TypeAlias = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""``map`` or anything like it; results may come in any order."""
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (products done, products in all): one a set for its radii, one a pair."""
Warn: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class PoolOptions:
    """How a pool is scored.

    Attributes:
        k: neighbour that sets the radius.
        backend: ``auto``, ``torch`` or ``faiss``; the scores do not depend on it.
        memory_bytes: bound on working memory beside the features themselves.
        extractor: content key of the embedding, for the record.
        checkpoint: folder for finished radii and blocks, on storage that every worker of
            ``mapper`` sees; scoring the same features again continues there.
        fast: let the product alone decide (TF32 on CUDA, no recheck); the error is measured on
            some pairs and returned.
        resamples: rounds of :class:`ensgan.types.Resamples` to count in the same pass; 0 for none.
        on_progress: called after every set and every block.
        on_warning: called with one sentence for each duplicate, zero-variance or collapsed set.
        mapper: spreads the work (``survey`` and ``score_block`` are pure; their tasks can be
            pickled when the sources can).
        known: scores of some of these members; only pairs with a new member are computed.

    Raises:
        InputError: resamples of fast scores, or a negative number of them.
    """

    k: int = 5
    backend: str = "auto"
    memory_bytes: int = 2 << 30
    extractor: str = ""
    checkpoint: Path | None = None
    fast: bool = False
    resamples: int = 0
    on_progress: Progress | None = None
    on_warning: Warn | None = None
    mapper: Mapper = map
    known: PoolScores | None = None

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise InputError(f"{self.resamples} resamples: use 0 for none, or 200")
        if self.fast and self.resamples:
            raise InputError(
                "resamples need to know which image lies in which ball, which fast scores do not "
                "keep: leave out either --fast or --resamples"
            )
