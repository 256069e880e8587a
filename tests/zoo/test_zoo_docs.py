"""The examples of docs/zoo.md run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import ensgan.registry as plugin_files
from ensgan import zoo
from ensgan.train import TrainSettings, train_gan
from ensgan.types import Samples
from ensgan.zoo import parts, table

ROOT = Path(__file__).parents[2]
EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "zoo.md").read_text(), re.DOTALL)


@pytest.fixture
def clean_registry() -> Iterator[None]:
    rows, known = zoo.names(), set(parts._CLASSES)
    yield
    table.gans.forget(set(zoo.names()) - set(rows))
    plugin_files._plugins.clear()
    for name in set(parts._CLASSES) - known:
        del parts._CLASSES[name]


@pytest.mark.parametrize(("example", "name"), [(0, "SNGAN-DiffAug"), (1, "LSGAN")])
@pytest.mark.usefixtures("clean_registry")
def test_a_row_of_ones_own_trains(tmp_path: Path, example: int, name: str) -> None:
    plugin = tmp_path / "my_gans.py"
    plugin.write_text(EXAMPLES[example])
    assert zoo.load_plugin(plugin) == (name,)
    spec = zoo.get(name).scaled(1 / 32)
    assert zoo.GANSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    reals = Samples(images, np.arange(8, dtype=np.int64) % 2)
    settings = TrainSettings(1, 1, 0, batch=4, d_updates=1)
    (snapshot,) = train_gan(spec, reals, 2, settings, tmp_path / "out")
    assert snapshot.member == f"{name}@1"


def test_the_python_example() -> None:
    values: dict[str, object] = {}
    exec(EXAMPLES[2], values)
    assert values["images"].shape == (3, 32, 32)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_command_shows_the_plugin(tmp_path: Path) -> None:
    plugin = tmp_path / "my_gans.py"
    plugin.write_text(EXAMPLES[0])
    command = [sys.executable, "-c", "from ensgan.cli import main; main()", "zoo"]
    options = ["--json", "--channels", "3", "--classes", "7", "--plugin", str(plugin)]
    result = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    rows = {row["name"]: row for row in json.loads(result.stdout)["gans"]}
    assert len(rows) == 23
    added = rows["SNGAN-DiffAug"]
    assert added["augmentation"] == "DiffAugment"
    assert added["generator_parameters"] == rows["SNGAN"]["generator_parameters"]
