"""The paper's sweep files: they fit the data they name; data without classes is understood."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensgan.config import parse_spec
from ensgan.errors import ConfigError
from ensgan.sweep.planning.cost import slots_of
from ensgan.sweep.planning.plan import make_plan
from ensgan.sweep.planning.sweep_file import known_names, load_sweep
from ensgan.sweep.resolving import resolve

SWEEPS = Path(__file__).parents[2] / "sweeps"
RNG = np.random.default_rng(0)


def noise(folder: Path, name: str, train: int) -> Path:
    """Noise in the place of a data set of MedMNIST, with its number of training images."""
    arrays = {}
    for split, count in (("train", train), ("val", 78), ("test", 156)):
        arrays[f"{split}_images"] = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 4 > 0).astype(np.uint8)[:, None]
    np.savez(folder / f"{name}.npz", **arrays)
    return folder


@pytest.fixture
def breast(tmp_path: Path) -> Path:
    return noise(tmp_path, "breastmnist", 546)


def test_the_small_sweep_puts_twelve_gans_onto_one_card(tmp_path: Path) -> None:
    root = noise(tmp_path, "pneumoniamnist", 4708)
    resolved = resolve(load_sweep(SWEEPS / "pneumoniamnist-small.yaml"), root)
    found = make_plan(resolved, tmp_path)
    assert len(found.rows) == 12 and found.members == 60 and found.steps == 36_000
    cluster = resolved.spec.cluster
    assert slots_of(cluster.cpus_per_trial, float(cluster.gpus_per_trial), 6, 1) == 12
    # The table's rates at full efficiency; narrow networks are launches and memory, not products.
    assert found.gpu_hours is not None and found.gpu_hours < 10 / 60


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
