"""The executor as a ``map`` that yields results as they finish."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any

from ensgan.sweep.executor import Executor


def as_mapper(executor: Executor) -> Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]:
    """``map`` on an executor's slots, in this process where it has but one."""
    if executor.slots == 1:
        return map

    def mapper(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        finished: SimpleQueue[tuple[Any, BaseException | None] | None] = SimpleQueue()

        def work() -> None:
            try:
                executor.map(
                    function, list(items), on_done=lambda result: finished.put((result, None))
                )
            except BaseException as error:  # raised again where the results are read
                finished.put((None, error))
            finished.put(None)

        thread = Thread(target=work, name="spread", daemon=True)
        thread.start()
        while (each := finished.get()) is not None:
            result, error = each
            if error is not None:
                raise error
            yield result
        thread.join()

    return mapper
