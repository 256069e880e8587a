"""The next piece of work is prepared while the last one is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def ahead(prepare: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
    """``map(prepare, items)`` in a thread of its own, one item ahead of the reader.

    Errors of ``prepare`` are raised where its result would have been.
    """
    rest = iter(items)
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting = [pool.submit(prepare, item) for item in islice(rest, 1)]
        while waiting:
            following = [pool.submit(prepare, item) for item in islice(rest, 1)]
            yield waiting[0].result()
            waiting = following
