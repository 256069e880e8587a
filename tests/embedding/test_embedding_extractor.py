from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ensgan.embedding import make_extractor
from ensgan.embedding.extractor import Extractor
from ensgan.embedding.table import RANDOM, RandomNetwork
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


def test_a_card_computes_in_float32_and_the_next_images_before_it_is_waited_for(
    monkeypatch,
) -> None:
    events: list[str] = []

    class Watched(RandomNetwork):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            events.append("tf32" if torch.backends.cudnn.allow_tf32 else "computes")
            return super().forward(x)

    plain = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda x: events.append("waits") or plain(x))
    before = torch.backends.cudnn.allow_tf32
    network = Watched(1, 0)
    extractor = Extractor(
        replace(RANDOM, network=lambda _: network, chunk=4), {"channels": 1}, network.state_dict()
    )
    events.clear()
    extractor(np.zeros((11, 8, 8), np.uint8))
    assert events == ["computes", "computes", "waits", "computes", "waits", "waits"]
    assert torch.backends.cudnn.allow_tf32 == before
