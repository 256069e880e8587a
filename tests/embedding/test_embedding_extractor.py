from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from ensgan.embedding import make_extractor
from ensgan.embedding.extractor import Extractor, map_ahead
from ensgan.embedding.local import RANDOM, RandomNetwork
from ensgan.errors import InputError


def test_order_and_end() -> None:
    assert list(map_ahead(lambda x: x * 10, range(7))) == [0, 10, 20, 30, 40, 50, 60]
    assert list(map_ahead(str, [])) == []


def test_the_next_item_is_prepared_while_the_last_is_used() -> None:
    started = [threading.Event() for _ in range(3)]

    def prepare(index: int) -> int:
        started[index].set()
        return index

    results = map_ahead(prepare, range(3))
    assert next(results) == 0
    assert started[1].wait(10), "item 1 was not begun while item 0 was in use"


def test_an_error_comes_in_its_place() -> None:
    def prepare(x: int) -> int:
        if x == 2:
            raise InputError("two")
        return x

    results = map_ahead(prepare, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(InputError, match="two"):
        next(results)


def test_resized_in_a_thread_or_not_gives_the_same_vectors() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 20, 20), dtype=np.uint8)
    spec = replace(RANDOM, preprocessing=lambda options: replace(plain.preprocessing, size=32))
    plain = make_extractor("random")
    resizing = Extractor(spec, {"channels": 1}, RandomNetwork(1, 0).state_dict())
    found = resizing(images)
    with torch.inference_mode():
        x = resizing.preprocessing(images, torch.device("cpu"))
        expected = RandomNetwork(1, 0).eval()(x).numpy()
    assert found.shape == (70, 256) and np.allclose(found, expected, atol=1e-5)
    with pytest.raises(InputError, match="3 channels"):
        resizing(np.zeros((2, 8, 8, 3), np.uint8))
