from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ensgan.embedding import make_extractor
from ensgan.embedding.extractor import Extractor
from ensgan.embedding.local import RANDOM, RandomNetwork
from ensgan.errors import InputError


def test_images_are_resized_for_the_network() -> None:
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
