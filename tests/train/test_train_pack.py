"""Several trainings in one process."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensgan import zoo
from ensgan.errors import TrainingError
from ensgan.train import Ended, Pack, Snapshot, TrainSettings, train_gan, train_steps
from ensgan.types import Samples
from ensgan.zoo.spec import GANSpec

SETTINGS = TrainSettings(4, 2, 3, batch=4, d_updates=1, resume_every=1)
TINY = zoo.get("SNGAN").scaled(1 / 32)


def reals() -> Samples:
    images = np.random.default_rng(1).integers(0, 256, (24, 32, 32), dtype=np.uint8)
    return Samples(images, np.arange(24, dtype=np.int64) % 2)


def steps(spec: GANSpec, folder: Path) -> Generator[Snapshot | None, None, None]:
    return train_steps(spec, reals(), 2, SETTINGS, folder)


def test_a_pack_makes_what_its_trainings_make_alone(tmp_path: Path) -> None:
    other = replace(TINY, name="Other")
    pack = Pack({spec.name: steps(spec, tmp_path / spec.name) for spec in (TINY, other)})
    seen = list(pack)
    for spec in (TINY, other):
        alone = list(train_gan(spec, reals(), 2, SETTINGS, tmp_path / f"{spec.name}-alone"))
        made = [event for name, event in seen if name == spec.name]
        assert made[-1] == Ended()
        assert [snapshot.sha256 for snapshot in made[:-1] if isinstance(snapshot, Snapshot)] == [
            snapshot.sha256 for snapshot in alone
        ]
    # They take turns: both first snapshots come before either second one.
    assert [name for name, _ in seen[:2]] == ["SNGAN", "Other"]
    assert pack.names == ()


def test_one_that_fails_leaves_the_others_running(tmp_path: Path) -> None:
    adam = zoo.Adam(learning_rate=1e38)
    wild = replace(TINY, name="Wild", optimiser=zoo.Optimiser(adam, adam))
    pack = Pack({"Wild": steps(wild, tmp_path / "w"), "SNGAN": steps(TINY, tmp_path / "s")})
    ends = {name: event for name, event in pack if isinstance(event, Ended)}
    assert isinstance(ends["Wild"].error, TrainingError)
    assert ends["SNGAN"].error is None
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == 2


def test_one_that_is_stopped_goes_on_elsewhere(tmp_path: Path) -> None:
    whole = [s.sha256 for s in train_gan(TINY, reals(), 2, SETTINGS, tmp_path / "whole")]
    other = replace(TINY, name="Other")
    pack = Pack({"SNGAN": steps(TINY, tmp_path / "s"), "Other": steps(other, tmp_path / "o")})
    for name, event in pack:
        if name == "SNGAN" and isinstance(event, Snapshot):
            pack.stop("SNGAN")
            assert pack.names == ("Other",)
    assert len(list((tmp_path / "o").glob("*.safetensors"))) == 2
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == 1
    assert [s.sha256 for s in train_gan(TINY, reals(), 2, SETTINGS, tmp_path / "s")] == whole
