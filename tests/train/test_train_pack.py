"""Several trainings in one process."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch

from ensgan import zoo
from ensgan.errors import TrainingError
from ensgan.train import Pack, Snapshot, TrainSettings, train_gan, train_steps
from ensgan.train.pace import paced, worthwhile
from ensgan.train.pack import Turn, Turns, in_turns
from ensgan.types import Samples
from ensgan.zoo.table import GANSpec

SETTINGS = TrainSettings(4, 2, 3, batch=4, d_updates=1, resume_every=1)
TINY = zoo.get("SNGAN").scaled(1 / 32)
OTHER = replace(TINY, name="Other")
Make: TypeAlias = Callable[[Turn, Callable[[], None]], Generator[str, None, None]]


def reals() -> Samples:
    images = np.random.default_rng(1).integers(0, 256, (24, 32, 32), dtype=np.uint8)
    return Samples(images, np.arange(24, dtype=np.int64) % 2)


def results(spec: GANSpec, folder: Path, order: list[str]) -> Make:
    """Hashes of the snapshots of a GAN, trained as a pack asks for it; its steps go to a list."""

    def make(turn: Turn, look: Callable[[], None]) -> Generator[str, None, None]:
        def steps() -> Iterator[Snapshot | None]:
            for made in train_steps(
                spec, reals(), 2, SETTINGS, folder, on_progress=lambda progress: look()
            ):
                order.append(spec.name)
                yield made

        for made in in_turns(steps(), turn):
            if made is not None:
                yield made.sha256

    return make


def collect(pack: Pack[str], names: list[str]) -> dict[str, list[object]]:
    """What the GANs make, each asked for in a thread of its own; the error of one that fails."""
    found: dict[str, list[object]] = {name: [] for name in names}

    def ask(name: str) -> None:
        try:
            while (made := pack.next(name)) is not None:
                found[name].append(made)
        except TrainingError as error:
            found[name].append(error)

    threads = [threading.Thread(target=ask, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_a_pack_makes_what_its_trainings_make_alone(tmp_path: Path) -> None:
    pack, order = Pack[str](), list[str]()
    for spec in (TINY, OTHER):
        pack.begin(spec.name, results(spec, tmp_path / spec.name, order))
    found = collect(pack, ["SNGAN", "Other"])
    for spec in (TINY, OTHER):
        alone = train_gan(spec, reals(), 2, SETTINGS, tmp_path / f"{spec.name}-alone")
        assert found[spec.name] == [snapshot.sha256 for snapshot in alone]
    # They take turns: neither trains to its end before the other begins.
    assert len(set(order[:4])) == len(set(order[-4:])) == 2


def test_one_thread_makes_the_steps_of_all() -> None:
    """cuDNN's choices belong to a thread."""

    def make(turn: Turn, look: Callable[[], None]) -> Generator[str, None, None]:
        return (made for made in in_turns(iter(threading.get_ident, None), turn))

    pack = Pack[str]()
    for name in ("A", "B"):
        pack.begin(name, make)
    makers = [pack.next(name) for name in ("A", "B", "A", "B")]
    assert len(set(makers)) == 1 and threading.get_ident() not in makers
    assert set(itertools.islice(in_turns(iter(threading.get_ident, None), nullcontext), 2)) == {
        threading.get_ident()
    }, "alone, a training runs where it is asked for"


def test_one_that_fails_leaves_the_others_running(tmp_path: Path) -> None:
    adam = zoo.Adam(learning_rate=1e38)
    wild = replace(TINY, name="Wild", optimiser=zoo.Optimiser(adam, adam))
    pack = Pack[str]()
    for spec in (wild, TINY):
        pack.begin(spec.name, results(spec, tmp_path / spec.name, []))
    found = collect(pack, ["Wild", "SNGAN"])
    assert isinstance(found["Wild"][-1], TrainingError)
    assert len(found["SNGAN"]) == 2


def test_one_that_is_taken_out_goes_on_elsewhere(tmp_path: Path) -> None:
    whole = [s.sha256 for s in train_gan(TINY, reals(), 2, SETTINGS, tmp_path / "whole")]
    pack, folder = Pack[str](), tmp_path / "s"
    pack.begin("SNGAN", results(TINY, folder, []))
    pack.begin("Other", results(OTHER, tmp_path / "o", []))
    first = pack.next("SNGAN")
    pack.end("SNGAN")
    assert pack.next("SNGAN") is None
    assert len(collect(pack, ["Other"])["Other"]) == 2
    pack.begin("SNGAN", results(TINY, folder, []))  # what is on disk comes once more
    assert [first, pack.next("SNGAN")] == [whole[0], whole[0]]
    assert pack.next("SNGAN") == whole[1]


def test_a_turn_goes_to_whoever_has_waited_longest() -> None:
    turns, seen = Turns(), list[int]()

    def take(number: int) -> None:
        with turns():
            seen.append(number)

    threads = [threading.Thread(target=take, args=(number,)) for number in range(4)]
    with turns():
        for thread in threads:
            thread.start()
            time.sleep(0.05)  # so that they ask in this order
        assert seen == []
    for thread in threads:
        thread.join()
    assert seen == [0, 1, 2, 3]
    with pytest.raises(KeyError), turns():
        raise KeyError
    take(4)
    assert seen[-1] == 4, "an error keeps the turn"


def test_as_many_as_make_it_faster() -> None:
    card = {1: 30.0, 2: 45.0, 4: 55.0, 8: 56.0, 16: 200.0}
    assert worthwhile(card.__getitem__, 32) == 4
    assert worthwhile(card.__getitem__, 3) == 2
    assert worthwhile(lambda count: 10.0, 32) == 1

    def full(count: int) -> float:
        if count > 2:
            raise torch.OutOfMemoryError
        return 10.0 * count

    assert worthwhile(full, 32) == 2


def test_on_a_cpu_a_real_measurement_comes_to_a_number() -> None:
    assert worthwhile(paced(TINY, reals(), 2, SETTINGS), 2) in (1, 2)
