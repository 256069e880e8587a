"""The paper's sweep files: they fit the data they name; data without classes is understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensgan.config import parse_spec
from ensgan.errors import ConfigError
from ensgan.sweep.planning.sweep_file import known_names, load_sweep
from ensgan.sweep.resolving import resolve

SWEEPS = Path(__file__).parents[2] / "sweeps"
RNG = np.random.default_rng(0)


@pytest.fixture
def breast(tmp_path: Path) -> Path:
    """Noise in the place of BreastMNIST, with its numbers of images."""
    arrays = {}
    for split, count in (("train", 546), ("val", 78), ("test", 156)):
        arrays[f"{split}_images"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 4 > 0).astype(np.uint8)[:, None]
    np.savez(tmp_path / "breastmnist.npz", **arrays)
    return tmp_path


def test_every_row_can_be_trained_on_breastmnist(breast: Path) -> None:
    accept = ["dataset.options.accept_checksum=any"]
    resolved = resolve(load_sweep(SWEEPS / "breastmnist.yaml", accept), breast)
    assert len(resolved.gans) == 22 and resolved.count == 546
    for each in resolved.configurations:
        row, settings = each.row, each.settings
        optimiser = settings.optimiser(row)
        assert optimiser.batch * optimiser.d_updates_per_step <= 546
    spec = load_sweep(SWEEPS / "breastmnist.yaml", [*accept, "train.overrides={}"])
    with pytest.raises(ConfigError, match=r"5 × 128 = 640 real images.* at most 109") as caught:
        resolve(spec, breast)
    assert len(caught.value.problems) == 6  # every ReACGAN row, at once


def test_the_aiforcovid_sweep_reads_its_table(tmp_path: Path) -> None:
    rows = ["ImageFile,Prognosis"]
    for index in range(24):
        pixels = RNG.integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"P_{index}.png")
        rows.append(f"P_{index},{('MILD', 'SEVERE')[index % 2]}")
    (tmp_path / "clinical.csv").write_text("\n".join(rows))
    small = ["train.batch=2", "train.d_updates=1", "dataset.options.cache=false"]
    resolved = resolve(load_sweep(SWEEPS / "aiforcovid.yaml", small), tmp_path)
    assert resolved.dataset.class_names == ("MILD", "SEVERE")
    assert len(resolved.gans) == 22


def test_data_without_classes_names_what_cannot_be(tmp_path: Path) -> None:
    for index in range(20):
        path = tmp_path / "all" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (32, 32), dtype=np.uint8)).save(path)
    tree = {
        "name": "one",
        "dataset": {"name": "folder", "options": {"cache": False}},
        "train": {"gans": ["SNGAN", "ReACGAN"], "batch": 2, "d_updates": 1, "width": 0.03125},
    }
    with pytest.raises(ConfigError) as caught:
        resolve(parse_spec(tree, known=known_names()), tmp_path)
    text = str(caught.value)
    assert "train.ReACGAN: D2DCE needs at least 2 classes, the data has 1" in text
    assert "evaluate.strategies: a classifier needs at least 2 classes" in text
    assert "SNGAN" not in text
    fitting = {"gans": ["SNGAN", "BigGAN"], "batch": 2, "d_updates": 1}
    tree |= {"train": fitting, "evaluate": {"strategies": []}}
    assert len(resolve(parse_spec(tree, known=known_names()), tmp_path).gans) == 2
