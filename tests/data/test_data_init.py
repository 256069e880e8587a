"""``ensgan init``: the proposed sweep is valid, fits the data, and says why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from ensgan.cli import app
from ensgan.cli.init import Machine, largest_batch, propose
from ensgan.config import load_spec, parse_spec
from ensgan.data import load_dataset, locate
from ensgan.errors import DataError
from ensgan.sweep.planning.sweep_file import known_names
from ensgan.types import Dataset, Samples

run = CliRunner()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "my scans"
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 256, (40, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{index}.png")
    return root


def test_a_folder_of_pictures_becomes_a_valid_sweep(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    command = ["init", "--data", str(folder), "-o", str(path)]
    result = run.invoke(app, [*command, "--json"])
    assert result.exit_code == 0, result.output
    spec = load_spec(path, known=known_names())
    assert spec.name == "my-scans-first"
    assert spec.dataset.name == "folder"
    assert spec.dataset.data_dir == str(folder)
    assert spec.train.batch == 8  # 28 training images
    assert "expect the GANs to repeat them" in path.read_text()
    said = json.loads(result.stdout)
    assert said["spec"] == yaml.safe_load(path.read_text())
    assert said["text"] == path.read_text() and "# 28 training images, 2 classes" in said["text"]
    again = run.invoke(app, command)
    assert "--force" in str(again.exception)
    assert run.invoke(app, [*command, "--force"]).exit_code == 0
    # The sweep loads the very data that were looked at.
    assert spec.dataset.data_dir is not None
    loaded = load_dataset(
        spec.dataset.name, root=Path(spec.dataset.data_dir), options=spec.dataset.options
    )
    assert loaded.key == load_dataset(folder).key


def test_real_data_and_a_file_of_ones_own(shared: Path, tmp_path: Path) -> None:
    file = shared / "data" / "pneumoniamnist.npz"
    path = tmp_path / "sweep.yaml"
    options = ["--accept-checksum", "any", "-o", str(path)]
    assert run.invoke(app, ["init", "--data", str(file), *options]).exit_code == 0
    spec = load_spec(path, known=known_names())
    assert spec.dataset.name == "pneumoniamnist"
    assert spec.dataset.options == {"source_size": 28, "accept_checksum": "any"}
    own = tmp_path / "own.npz"
    own.write_bytes(file.read_bytes())
    located = locate(str(own), None, {})
    assert located == {"name": "npz", "data_dir": str(tmp_path), "options": {"file": "own.npz"}}
    loaded = load_dataset("npz", root=tmp_path, options=located["options"])
    assert len(loaded.train) == 4708


def test_the_machine_decides_the_size_of_the_work() -> None:
    options = {"n_train": 200, "n_val": 12, "n_test": 12}
    dataset = load_dataset("phantom", options=options)
    source = {"name": "phantom", "data_dir": None, "options": {}}
    trees = {
        name: yaml.safe_load(propose(dataset, source, machine))
        for name, machine in {
            "cpu": Machine(2),
            "gpu": Machine(16, gpus=2, gpu_memory_gb=80),
            "small gpu": Machine(8, gpus=1, gpu_memory_gb=8),
        }.items()
    }
    for name, tree in trees.items():
        spec = parse_spec(tree, source=name, known=known_names())
        assert spec.train.steps % spec.train.snapshots == 0
    assert trees["cpu"]["train"]["width"] == 0.0625
    assert trees["gpu"]["train"]["gans"] == "all"
    assert trees["gpu"]["cluster"]["gpus_per_trial"] == 0.5
    assert trees["small gpu"]["cluster"]["gpus_per_trial"] == 1.0


def test_data_without_classes_or_of_another_size() -> None:
    options = {"n_train": 40, "n_val": 12, "n_test": 12}
    source = {"name": "phantom", "data_dir": None, "options": options}
    grey = load_dataset("phantom", options=options)
    blind = Samples(grey.train.images, np.zeros(40, np.int64))
    one = Dataset("one", blind, blind, blind, ("image",))
    for machine in (Machine(2), Machine(8, gpus=1, gpu_memory_gb=24)):
        tree = yaml.safe_load(propose(one, source, machine))
        assert "StyleGAN2" in tree["train"]["gans"]
        assert not [name for name in tree["train"]["gans"] if name.startswith(("ReAC", "ACGAN"))]
        assert tree["evaluate"] == {"strategies": []}
        parse_spec(tree, source="one", known=known_names())
    with pytest.raises(DataError, match=r"no GAN can be trained .* 32, 64, 128 pixels, not 24"):
        propose(load_dataset("phantom", image_size=24, options=options), source, Machine(2))


def test_the_file_says_why() -> None:
    dataset = load_dataset("phantom", options={"n_train": 40})
    source = {"name": "phantom", "data_dir": "/a b/#c", "options": {"n_train": 40}}
    text = propose(dataset, source, Machine(2))
    assert yaml.safe_load(text)["dataset"] == {**source, "image_size": 32}
    assert "chooses one (G*) on the validation split" in " ".join(text.split())
    for line in text.splitlines():  # what every section and value is, but for what explains itself
        key = line.split(":")[0].strip()
        assert "#" in line or key in ("name", "data_dir", "options", "n_train"), line


@pytest.mark.parametrize(
    ("images", "wanted", "batch"), [(4708, 32, 32), (60, 32, 16), (3, 32, 2), (546, 64, 64)]
)
def test_batches_fit_the_data(images: int, wanted: int, batch: int) -> None:
    assert largest_batch(images, wanted) == batch


def test_unknown_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'phantom'"):
        locate("fantom", None, {})
    with pytest.raises(DataError, match="no such file or folder"):
        locate(str(tmp_path / "absent"), None, {})


def test_a_prognosis_table_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "clinical.csv").write_text("ImageFile,Prognosis\nP_1,MILD\n")
    assert locate(str(tmp_path), None, {})["name"] == "aiforcovid"
    (tmp_path / "clinical.csv").write_text("file,label\nP_1,MILD\n")
    assert locate(str(tmp_path), None, {})["name"] == "folder"
