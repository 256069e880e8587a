from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ensgan import zoo
from ensgan.ensemble import MemberSource, write_bank, write_ensemble
from ensgan.types import ImageShape, Samples

SHAPE = ImageShape(1, 32)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[MemberSource]:
    """Two small untrained generators and a bank of finished images."""
    folder = tmp_path_factory.mktemp("weights")
    members = []
    for index, (gan, step, weight) in enumerate([("SNGAN", 20, 2.0), ("SAGAN", 10, 1.0)]):
        spec = zoo.get(gan).scaled(1 / 16)
        generator = zoo.build_generator(spec, SHAPE, 2, seed=index)
        zoo.save_weights(generator.state_dict(), folder / f"{gan}.safetensors")
        members.append(MemberSource(f"{gan}@{step}", weight, folder / f"{gan}.safetensors", spec))
    rng = np.random.default_rng(0)
    bank = Samples(
        rng.integers(0, 256, (20, 32, 32), dtype=np.uint8), np.arange(20, dtype=np.int64) % 2
    )
    path = write_bank(folder / "bank.safetensors", bank)
    return [*members, MemberSource("Diffusion@1", 1.0, path, kind="bank")]


@pytest.fixture(scope="session")
def publish(sources: list[MemberSource]) -> Callable[..., Path]:
    def write(folder: Path, **changes: object) -> Path:
        values: dict[str, object] = {
            "members": sources,
            "shape": SHAPE,
            "class_names": ["normal", "pneumonia"],
            "class_shares": [0.25, 0.75],
            "metrics": {"intra_d": 0.8, "inter_d": 0.4, "k": 5},
            "dataset": {"name": "phantom", "key": "ab" * 32, "licence": "CC0"},
            "extractor": {"name": "random", "key": "cd"},
            "provenance": {"rule": "knee", "seed": 0},
            "licences": ["data: CC BY 4.0", "SwAV weights: CC BY-NC 4.0"],
        }
        return write_ensemble(folder, **{**values, **changes})  # type: ignore[arg-type]

    return write


@pytest.fixture
def folder(publish: Callable[..., Path], tmp_path: Path) -> Path:
    return publish(tmp_path / "ensemble")


@pytest.fixture(scope="session")
def intact(publish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble folder for tests that only read."""
    return publish(tmp_path_factory.mktemp("intact") / "ensemble")
