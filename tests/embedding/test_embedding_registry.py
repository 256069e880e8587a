"""What every extractor of the registry promises, those of installed packages too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ensgan.embedding import (
    EXTRACTORS,
    Extractor,
    ExtractorSpec,
    Preprocessing,
    Request,
    load_extractor,
    make_extractor,
)
from ensgan.errors import InputError
from ensgan.types import Dataset, Samples

RNG = np.random.default_rng(0)
IMAGES = Samples(RNG.integers(0, 256, (5, 32, 32), dtype=np.uint8), np.arange(5) % 2)
DATASET = Dataset("toy", IMAGES, IMAGES, IMAGES, ("no", "yes"))


def untrained(spec: ExtractorSpec, folder: Path) -> Extractor:
    """The extractor with weights that were never trained, so that nothing is downloaded."""
    try:
        network = spec.network({"channels": 1})
    except InputError as error:
        assert "ensgan[vision]" in str(error), "the message says what to install"
        pytest.skip(str(error))
    torch.save(network.state_dict(), folder / "weights.pth")
    try:
        return make_extractor(spec.name, weights=folder / "weights.pth", dataset=DATASET)
    except InputError as error:
        assert "takes no file" in str(error)
        return make_extractor(spec.name, dataset=DATASET)


@pytest.mark.parametrize("spec", EXTRACTORS, ids=lambda spec: spec.name)
def test_contract(spec: ExtractorSpec, tmp_path: Path) -> None:
    extractor = untrained(spec, tmp_path)
    images = IMAGES.images
    features = extractor(images)
    assert features.shape == (5, extractor.dim) and features.dtype == np.float32
    assert np.isfinite(features).all()
    np.testing.assert_array_equal(extractor(images[3:4]), features[3:4])
    extractor.save(tmp_path / "extractor.safetensors")
    again = load_extractor(tmp_path / "extractor.safetensors")
    assert (again.key, again.name, again.licence) == (extractor.key, spec.name, spec.licence)
    np.testing.assert_array_equal(again(images), features)


class Mean(nn.Module):
    """Average of each channel, times a weight."""

    dim = 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x.mean((2, 3))


def brightness() -> ExtractorSpec:
    def prepare(request: Request):
        request.refuse_weights("brightness")
        return {}, Mean().state_dict()

    return ExtractorSpec(
        "brightness", prepare, lambda options: Mean(), lambda options: Preprocessing(1), chunk=8
    )


def test_a_package_adds_an_extractor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from importlib.metadata import EntryPoint

    module = tmp_path / "bright_package.py"
    module.write_text("SPEC = None")
    monkeypatch.syspath_prepend(tmp_path)
    import bright_package  # type: ignore[import-not-found]

    bright_package.SPEC = brightness()
    point = EntryPoint("brightness", "bright_package:SPEC", "ensgan.extractors")
    points = {"ensgan.extractors": [point]}
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points.get(group, []))
    monkeypatch.setattr(EXTRACTORS, "_entry_points_loaded", False)
    try:
        features = make_extractor("brightness")(IMAGES.images)
        expected = IMAGES.images.mean((1, 2), keepdims=False)[:, None] / 127.5 - 1
        np.testing.assert_allclose(features, expected, atol=1e-5)
        assert "brightness" in EXTRACTORS.names()
    finally:
        EXTRACTORS.forget(["brightness"])


def test_the_help_of_score_names_every_extractor() -> None:
    from ensgan.cli.score import ExtractorOption

    (option,) = ExtractorOption.__metadata__
    assert all(name in option.help for name in EXTRACTORS.names())
