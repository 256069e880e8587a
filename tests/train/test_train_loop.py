"""Snapshots, resume, refusal: training as the sweep uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ensgan import train, zoo
from ensgan.errors import ConfigError, InputError, IntegrityError, TrainingError
from ensgan.files import read_json
from ensgan.train import TrainSettings, train_gan, untrained
from ensgan.train.snapshot import class_spreads, examine
from ensgan.train.state import Reals
from ensgan.train.training import Training
from ensgan.types import Samples, step_of
from ensgan.zoo.backbones import Player
from ensgan.zoo.build import sample

TINY = zoo.get("SNGAN").scaled(1 / 32)


def reals(n: int = 24) -> Samples:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (n, 32, 32), dtype=np.uint8)
    return Samples(images, np.arange(n, dtype=np.int64) % 2)


def settings(steps: int = 4, snapshots: int = 2, **changes: object) -> TrainSettings:
    values: dict[str, object] = {"seed": 3, "batch": 4, "d_updates": 2}
    return TrainSettings(steps, snapshots, **(values | changes))  # type: ignore[arg-type]


def test_snapshots_and_their_records(tmp_path: Path) -> None:
    seen = []
    snapshots = list(
        train_gan(TINY, reals(), 2, settings(), tmp_path, on_progress=lambda p: seen.append(p))
    )
    assert [snapshot.member for snapshot in snapshots] == ["SNGAN@2", "SNGAN@4"]
    assert [progress.step for progress in seen] == [1, 2, 3, 4]
    assert seen[-1].to_json()["steps"] == 4
    first, last = snapshots
    assert first.sha256 != last.sha256
    assert np.isfinite(list(last.metrics.values())).all()
    assert (tmp_path / "resume.pt").exists()  # for more steps later
    record = read_json(last.path.with_suffix(".json"))
    assert zoo.GANSpec.from_json(record["row"]) == TINY
    generator = zoo.load_generator(last.path, TINY, reals().shape, 2)
    assert sample(generator, np.zeros(3, dtype=np.int64), seed=0).shape == (3, 32, 32)

    again = list(train_gan(TINY, reals(), 2, settings(), tmp_path))
    assert again == snapshots


def test_labels_of_fakes_follow_the_training_split_when_asked() -> None:
    images = reals(40).images
    unequal = Samples(images, (np.arange(40) < 4).astype(np.int64))

    def share(fake_labels: str) -> float:
        training = Training(
            TINY, unequal, 2, settings(batch=20, d_updates=1, fake_labels=fake_labels)
        )
        drawn = [training.fakes(Player.DISCRIMINATOR).labels for _ in range(20)]
        return float(torch.cat(drawn).float().mean())

    assert 0.4 < share("uniform") < 0.6
    assert 0.05 < share("training") < 0.16  # 4 of 40
    with pytest.raises(InputError, match="fake_labels"):
        settings(fake_labels="balanced")


def test_stopped_anywhere_it_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = list(train_gan(TINY, reals(), 2, settings(resume_every=1), tmp_path / "whole"))
    for stop in (1, 3):
        folder = tmp_path / f"stopped{stop}"

        class StopHereError(Exception):
            pass

        def halt(
            progress: train.TrainProgress, stop: int = stop, error: type = StopHereError
        ) -> None:
            if progress.step == stop:
                raise error

        with pytest.raises(StopHereError):
            list(train_gan(TINY, reals(), 2, settings(resume_every=1), folder, on_progress=halt))
        parts = list(train_gan(TINY, reals(), 2, settings(resume_every=1), folder))
        assert [part.sha256 for part in parts] == [part.sha256 for part in whole]
        assert [part.metrics for part in parts] == [part.metrics for part in whole]


def test_asked_to_stop_it_writes_a_checkpoint_first(tmp_path: Path) -> None:
    """Without it a training that keeps few checkpoints would repeat its steps."""
    whole = list(train_gan(TINY, reals(), 2, settings(6, 2), tmp_path / "whole"))
    folder, seen = tmp_path / "stopped", []

    def ask(progress: train.TrainProgress) -> None:
        seen.append(progress.step)
        raise train.StopTraining

    parts = []
    while len(parts) < len(whole):
        try:
            parts = list(train_gan(TINY, reals(), 2, settings(6, 2), folder, on_progress=ask))
        except train.StopTraining:
            continue
    # At its own step the snapshot comes first; the training then goes on for one step.
    assert seen == [1, 2, 3, 4, 5, 6]
    assert [part.sha256 for part in parts] == [part.sha256 for part in whole]
    assert [part.metrics for part in parts] == [part.metrics for part in whole]


class StopHereError(Exception):
    pass


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from ensgan import zoo
from ensgan.train import TrainSettings, train_gan
from ensgan.types import Samples
random = np.random.default_rng(1)
reals = Samples(random.integers(0, 256, (24, 32, 32), dtype=np.uint8), np.arange(24) % 2)
settings = TrainSettings(6, 2, 3, batch=4, d_updates=2, resume_every=2)
def slow(progress):
    print(progress.step, flush=True)
    time.sleep(0.3)
for snapshot in train_gan(
    zoo.get("SNGAN").scaled(1 / 32), reals, 2, settings, Path(sys.argv[1]), on_progress=slow
):
    pass
"""


@pytest.mark.slow
def test_kill_dash_nine_and_resume(tmp_path: Path) -> None:
    chosen = settings(6, 2, resume_every=2)
    whole = list(train_gan(TINY, reals(), 2, chosen, tmp_path / "whole"))
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "4":
            break
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    steps = []
    parts = list(
        train_gan(TINY, reals(), 2, chosen, folder, on_progress=lambda p: steps.append(p.step))
    )
    assert steps[0] in (3, 5)
    assert [part.sha256 for part in parts] == [part.sha256 for part in whole]
    assert [part.metrics for part in parts] == [part.metrics for part in whole]


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    list(train_gan(TINY, reals(), 2, settings(), tmp_path))
    with pytest.raises(InputError, match=r"settings.seed was 3, is now 4"):
        next(train_gan(TINY, reals(), 2, settings(seed=4), tmp_path))
    wider = replace(TINY, backbone=TINY.backbone.scaled(2))
    with pytest.raises(InputError, match=r"row.backbone.base_channels was 4, is now 8"):
        next(train_gan(wider, reals(), 2, settings(), tmp_path))


def test_a_changed_snapshot_is_refused(tmp_path: Path) -> None:
    (snapshot,) = train_gan(TINY, reals(), 2, settings(1, 1), tmp_path)
    content = bytearray(snapshot.path.read_bytes())
    content[-1] ^= 1
    snapshot.path.write_bytes(content)
    with pytest.raises(IntegrityError, match="has changed"):
        list(train_gan(TINY, reals(), 2, settings(1, 1), tmp_path))


def test_a_damaged_resume_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    steps = train_gan(TINY, reals(), 2, settings(), tmp_path)
    next(steps)
    steps.close()
    (tmp_path / "resume.pt").write_bytes(b"nonsense")
    with pytest.raises(IntegrityError, match="delete it"):
        list(train_gan(TINY, reals(), 2, settings(), tmp_path))


def test_a_non_finite_loss_stops_with_gan_step_and_loss(tmp_path: Path) -> None:
    adam = zoo.Adam(learning_rate=1e38)
    wild = replace(TINY, optimiser=zoo.Optimiser(adam, adam))
    with pytest.raises(TrainingError, match=r"SNGAN stopped at step \d: .*_.* is (nan|-?inf)"):
        list(train_gan(wild, reals(), 2, settings(8, 1), tmp_path))
    assert not list(tmp_path.glob("*.safetensors"))


def test_too_few_images_for_a_step(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 × 16 = 32 real images.*has 24.*at most 12"):
        next(train_gan(TINY, reals(), 2, settings(batch=16), tmp_path))


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    spec = replace(TINY, conditioning=zoo.Projection(twin=zoo.ADC()))
    with pytest.raises(ConfigError) as caught:
        next(train_gan(spec, reals(), 1, settings(batch=16), tmp_path))
    assert len(caught.value.problems) == 3


def test_steps_must_divide() -> None:
    with pytest.raises(InputError, match=r"3 snapshots do not divide 10 steps: use 9 or 12"):
        TrainSettings(10, 3, 0)
    with pytest.raises(InputError, match=r"batch: .* greater than or equal to 2, not 1"):
        TrainSettings(10, 2, 0, batch=1)


def test_the_untrained_generator(tmp_path: Path) -> None:
    before = untrained(TINY, reals(), 2, settings(), tmp_path)
    assert before.member == "SNGAN@0"
    snapshots = list(train_gan(TINY, reals(), 2, settings(), tmp_path))
    assert [step_of(snapshot.member) for snapshot in snapshots] == [2, 4]
    assert untrained(TINY, reals(), 2, settings(), tmp_path) == before


def test_raw_weights_differ_from_averaged_ones(tmp_path: Path) -> None:
    spec = zoo.get("BigGAN").scaled(1 / 32)
    chosen = settings(2, 1, ema_start=1, ema_decay=0.9)
    (averaged,) = train_gan(spec, reals(), 2, chosen, tmp_path / "ema")
    (raw,) = train_gan(spec, reals(), 2, replace(chosen, weights="raw"), tmp_path / "raw")
    assert averaged.sha256 != raw.sha256
    assert averaged.metrics == raw.metrics


def test_constant_images_are_noticed() -> None:
    generator = zoo.build_generator(TINY, reals().shape, 2, 0)
    with torch.no_grad():
        generator.output.weight.zero_()
    assert "constant images" in examine(generator, {}, reals(4))[0]
    assert "overfit" in examine(generator, {"real_sign": 0.97}, reals(4))[1]
    with torch.no_grad():
        generator.output.bias.fill_(torch.nan)
    assert "non-finite weights" in examine(generator, {}, reals(4))[0]


def test_a_collapsed_class_is_noticed() -> None:
    generator = zoo.build_generator(TINY, reals().shape, 2, 0)
    with torch.no_grad():
        generator.input.weight.mul_(1e-3)  # the latent hardly matters
    varied = reals()
    signs = examine(generator, {}, varied)
    assert [sign.split(" vary")[0] for sign in signs] == [
        "mode collapse: images of class 0",
        "mode collapse: images of class 1",
    ]
    same = Samples(np.repeat(varied.images[:1], len(varied), axis=0), varied.labels)
    assert examine(generator, {}, same) == ()
    assert class_spreads(same) == {0: 0.0, 1: 0.0}


def test_baskets_are_full_and_fresh() -> None:
    samples = reals(10)
    source = Reals(samples, 4, 0, torch.device("cpu"))
    first, second = source.draw(), source.draw()
    taken = torch.cat([first[0], second[0]]).flatten(1)
    assert len(torch.unique(taken, dim=0)) == 8
    state = source.state_dict()
    third = source.draw()
    other = Reals(samples, 4, 99, torch.device("cpu"))
    other.load_state_dict(state)
    assert torch.equal(other.draw()[0], third[0])
