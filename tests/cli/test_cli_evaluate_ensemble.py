"""``ensgan evaluate ENSEMBLE --dataset …``: a handed-over ensemble on one's own data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ensgan import zoo
from ensgan.cli import main
from ensgan.ensemble import MemberSource, write_ensemble
from ensgan.types import ImageShape

SHAPE = ImageShape(1, 32)
CLASSES = ("no", "yes")


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    members = []
    for index, (gan, weight) in enumerate([("SNGAN", 0.75), ("ACGAN-Mod", 0.25)]):
        row = zoo.get(gan).scaled(1 / 16)
        generator = zoo.build_generator(row, SHAPE, 2, seed=index)
        path = folder / f"{gan}.safetensors"
        zoo.save_weights(generator.state_dict(), path)
        members.append(MemberSource(f"{gan}@1", weight, path, row))
    return write_ensemble(
        folder / "ensemble",
        members=members,
        shape=SHAPE,
        class_names=list(CLASSES),
        class_shares=[0.5, 0.5],
        metrics={},
        dataset={"name": "own", "key": "ab" * 32, "licence": "CC0"},
        extractor={"name": "random", "key": "cd"},
        provenance={"seed": 0},
        licences=[],
    )


def write_data(path: Path, channels: int = 1, classes: int = 2) -> Path:
    """A set of MedMNIST's form."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 60), ("val", 20), ("test", 20)):
        labels = np.arange(n) % classes
        shape = (n, 32, 32) if channels == 1 else (n, 32, 32, channels)
        images = rng.integers(0, 120, shape, dtype=np.uint8)
        images[labels == 1, :16] += 90
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None].astype(np.uint8)}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    def command(*words: str) -> tuple[int, str, str]:
        small = ("--width", "4", "--epochs", "1", "--images-per-epoch", "32", "--batch", "16")
        line = ["ensgan", "evaluate", *words, *small, "--repeats", "1", "--address", "none"]
        monkeypatch.setattr(sys, "argv", [*line, "--storage", str(tmp_path / "storage")])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return command


def test_an_ensemble_on_ones_own_data(run, ensemble: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "own.npz")
    words = (str(ensemble), "--dataset", str(data), "--strategies", "real,best-single,all,selected")
    code, out, error = run(*words, "--json")
    assert code == 0, error
    value = json.loads(out)
    assert [row["strategy"] for row in value["strategies"]] == [
        "real", "best-single", "all", "selected",
    ]  # fmt: skip
    chosen = value["selected"]
    assert chosen["weights"] == [0.75, 0.25] and 0 <= chosen["inter_d"] <= 1
    assert chosen["rule"] == "handed over"
    again = json.loads(run(*words, "--json")[1])
    assert again["strategies"] == value["strategies"]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"channels": 3}, "makes images of 32×32 with 1 channel(s), those of"),
        ({"classes": 3}, "makes the classes no, yes, "),
    ],
)
def test_data_of_another_form_are_refused(
    run, ensemble: Path, tmp_path: Path, form: dict[str, int], expected: str
) -> None:
    data = write_data(tmp_path / "other.npz", **form)
    code, _, error = run(str(ensemble), "--dataset", str(data))
    assert code == 2 and expected in error
    code, _, error = run(str(ensemble))
    assert code == 2 and "brings no real data" in error
    assert not (tmp_path / "storage" / "evaluations").exists()
