from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest

from ensgan.errors import InputError
from ensgan.sweep.executor import LocalExecutor, as_mapper


class Threads(LocalExecutor):
    """Two slots; results come as they finish."""

    slots = 2

    def map(self, function, items, *, on_done):
        with ThreadPoolExecutor(2) as pool:
            futures = [pool.submit(function, item) for item in items]
            for future in as_completed(futures):
                if future.exception() is None:
                    on_done(future.result())
            return [future.result() for future in futures]


def test_one_slot_is_this_process():
    assert as_mapper(LocalExecutor()) is map


def test_results_come_as_they_finish_and_all_of_them():
    seen = list(as_mapper(Threads())(lambda x: x * x, range(20)))
    assert sorted(seen) == [x * x for x in range(20)]


def test_an_error_reaches_the_reader_after_the_results():
    def picky(x):
        if x == 3:
            raise InputError("not 3")
        return x

    results = []
    with pytest.raises(InputError, match="not 3"):
        for each in as_mapper(Threads())(picky, range(6)):
            results.append(each)
    assert sorted(results) == [0, 1, 2, 4, 5]
