"""Images without classes: from the folder to a pulled ensemble, by the commands a user types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from ensgan.cli import app
from ensgan.data import load_dataset

SMALL = ["train.gans=[SNGAN,BigGAN]", "train.steps=4", "train.snapshots=2", "train.batch=8"]
SMALL += ["train.width=0.03125", "train.d_updates=1", "search.trials=20", "score.k=3"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_sweep_on_images_without_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENSGAN_CACHE", str(tmp_path / "cache"))
    for name in ("MLFLOW_TRACKING_URI", "ENSGAN_STORAGE"):
        monkeypatch.delenv(name, raising=False)
    options = {"n_train": 80, "n_val": 12, "n_test": 12}
    folder = tmp_path / "xrays" / "all"
    folder.mkdir(parents=True)
    for index, image in enumerate(load_dataset("phantom", options=options).train.images):
        Image.fromarray(image).save(folder / f"{index}.png")

    def types(*words: str) -> dict[str, Any]:
        said = CliRunner().invoke(app, [*words, "--json"])
        assert said.exit_code == 0, f"{words}: {said.output} {said.exception!r}"
        return dict(json.loads(said.stdout.splitlines()[-1]))

    assert types("data", "check", "xrays")["splits"]["train"]["classes"] == {"all": 56}
    types("init", "--data", "xrays", "-o", "first.yaml")
    spec = yaml.safe_load(Path("first.yaml").read_text())
    assert spec["evaluate"]["strategies"] == [] and "ReACGAN" not in spec["train"]["gans"]
    settings = [word for setting in SMALL for word in ("--set", setting)]
    done = types("sweep", "first.yaml", "--address", "none", *settings)
    assert done["members"] == 4 and done["failed"] == {} and done["run_id"]
    assert done["downstream"]["strategies"] == []
    assert types("runs")["runs"][0]["members"] == 4
    types("pull", done["run_id"], "-o", "pulled")
    types("sample", "pulled", "-n", "6", "--seed", "1", "-o", "samples.npz")
    with np.load("samples.npz") as samples:
        assert samples["images"].shape == (6, 32, 32) and not samples["labels"].any()
    types("report", done["run_id"], "-o", "report.html")
    assert Path("report.html").stat().st_size > 10_000
