"""Pairs side by side: threads whose products are single-threaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

_T = TypeVar("_T")
_R = TypeVar("_R")


@contextmanager
def side_by_side(
    threads: int,
) -> Iterator[Callable[[Callable[[_T], _R], Iterable[_T]], Iterator[_R]]]:
    """A ``map`` that runs in threads whose products are single-threaded.

    Small products gain little from threads of their own, and lose much when another program keeps
    one of the cores busy; whole pairs side by side do neither.
    """
    if threads == 1:
        yield map
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.map
    finally:
        # torch keeps the number for new threads beside that of each thread.
        torch.set_num_threads(before)
