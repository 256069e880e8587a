"""The contract every row of the zoo keeps, at small width."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ensgan import zoo
from ensgan.train import TrainSettings, train_gan
from ensgan.train.state import Record
from ensgan.train.training import Training, discriminator_phase, full_step, generator_phase
from ensgan.types import Samples
from ensgan.zoo.build import sample
from ensgan.zoo.parts import NoAverage
from ensgan.zoo.table import GANSpec, names

DATA = [(1, 2), (3, 7)]
BATCH, UPDATES = 4, 1


def noise_images(channels: int, classes: int, n: int = 20) -> Samples:
    random = np.random.default_rng(7)
    shape = (n, 32, 32) if channels == 1 else (n, 32, 32, channels)
    images = random.integers(0, 256, shape, dtype=np.uint8)
    return Samples(images, np.arange(n, dtype=np.int64) % classes)


def small(name: str) -> GANSpec:
    return zoo.get(name).scaled(1 / 32)


def settings(steps: int = 2, snapshots: int = 1, **changes: object) -> TrainSettings:
    values: dict[str, object] = {
        "seed": 5,
        "batch": BATCH,
        "d_updates": UPDATES,
        "ema_start": 1,
        "ema_decay": 0.5,
    }
    return TrainSettings(steps, snapshots, **(values | changes))  # type: ignore[arg-type]


def flat(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([value.detach().flatten().double() for value in module.parameters()])


@pytest.mark.parametrize(("channels", "classes"), DATA)
@pytest.mark.parametrize("name", names())
def test_two_steps_and_a_checkpoint(name: str, channels: int, classes: int, tmp_path: Path) -> None:
    spec, reals = small(name), noise_images(channels, classes)
    training = Training(spec, reals, classes, settings())
    record = Record(name)
    generator, discriminator = training.generator, training.discriminator
    code_head = discriminator.code_head
    own = training.own_parameters

    start = flat(generator)
    discriminator_phase(training, record)
    for parameter in own:
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())
    assert all(parameter.grad is None for parameter in generator.parameters())
    # The weights of a network share one backward pass, which gives what was not used zeros.
    codes = [] if code_head is None else list(code_head.parameters())
    assert all(p.grad is None or not p.grad.any() for p in codes)
    assert torch.equal(flat(generator), start)

    frozen = [parameter.detach().clone() for parameter in own]
    generator_phase(training, record)
    learning = [*generator.named_parameters()]
    learning += [] if code_head is None else [*code_head.named_parameters()]
    for key, parameter in learning:
        assert parameter.grad is not None, key
        assert bool(torch.isfinite(parameter.grad).all()), key
    assert all(
        torch.equal(parameter, before) for parameter, before in zip(own, frozen, strict=True)
    )
    assert not torch.equal(flat(generator), start)

    training.average.update(0)
    training.step = 1
    record.add(0, *record.step_means())
    torch.save(training.state_dict(), tmp_path / "state.pt")
    full_step(training, record)
    record.add(1, *record.step_means())
    record.flush()
    averaged = flat(training.average.generator)
    if isinstance(spec.ema, NoAverage):
        assert training.average.generator is generator
    else:
        assert not torch.equal(averaged, flat(generator))
        assert not torch.equal(averaged, start)
    assert {"d_loss", "g_loss", "real_sign"} <= record.means().keys()

    resumed = Training(spec, reals, classes, settings())
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    full_step(resumed, Record(name))
    same_state(training.state_dict(), resumed.state_dict())


def same_state(expected: object, actual: object) -> None:
    wanted, found = flatten(expected), flatten(actual)
    assert wanted.keys() == found.keys()
    for key, value in wanted.items():
        same = torch.equal(value, found[key]) if torch.is_tensor(value) else value == found[key]
        assert same, key


def flatten(value: object, prefix: str = "") -> dict[str, object]:
    if isinstance(value, list):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        found: dict[str, object] = {}
        for key, entry in value.items():
            found |= flatten(entry, f"{prefix}/{key}")
        return found
    return {prefix: value}


@pytest.mark.parametrize(("channels", "classes"), DATA)
@pytest.mark.parametrize("name", names())
def test_an_image_depends_on_seed_number_and_label_only(
    name: str, channels: int, classes: int
) -> None:
    generator = zoo.build_generator(small(name), noise_images(channels, classes).shape, classes, 3)
    labels = np.arange(34, dtype=np.int64) % classes
    images = sample(generator, labels, seed=11)
    assert images.dtype == np.uint8
    assert images.shape == ((34, 32, 32) if channels == 1 else (34, 32, 32, channels))
    np.testing.assert_array_equal(sample(generator, labels[:3], seed=11), images[:3])
    np.testing.assert_array_equal(sample(generator, labels[30:], seed=11, start=30), images[30:])
    assert len(np.unique(images.reshape(34, -1), axis=0)) == 34


def test_a_snapshot_comes_back_as_the_same_images(tmp_path: Path) -> None:
    spec, reals = small("BigGAN-Info"), noise_images(1, 2)
    (snapshot,) = train_gan(spec, reals, 2, settings(), tmp_path)
    generator = zoo.load_generator(snapshot.path, spec, reals.shape, 2)
    labels = np.zeros(2, dtype=np.int64)
    again = zoo.load_generator(snapshot.path, spec, reals.shape, 2)
    np.testing.assert_array_equal(sample(generator, labels, seed=1), sample(again, labels, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SNGAN", "BigGAN-Info", "StyleGAN2"])
def test_compiled_networks_learn_the_same(name: str) -> None:
    losses = []
    for compiled in (False, True):
        training = Training(small(name), noise_images(1, 2), 2, settings(compile=compiled))
        record = Record(name)
        for step in range(2):
            full_step(training, record)
            record.add(step, *record.step_means())
        record.flush()
        losses.append(record.means())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SNGAN", "BigGAN-Info", "StyleGAN2"])
def test_networks_compile_without_a_graph_break(name: str) -> None:
    """Spectral norm included; this needs no C++ compiler."""
    training = Training(small(name), noise_images(1, 2), 2, settings())
    whole = partial(torch.compile, backend="eager", fullgraph=True)  # a break is an error
    training._generate = whole(training.generator)
    training._discriminate = whole(training.discriminator)
    plain = Training(small(name), noise_images(1, 2), 2, settings())
    records = Record(name), Record(name)
    for each, record in zip((training, plain), records, strict=True):
        full_step(each, record)
        record.add(0, *record.step_means())
        record.flush()
    assert records[0].means() == pytest.approx(records[1].means(), rel=1e-4, abs=1e-5)
