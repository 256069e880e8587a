"""A training that is asked for more: steps after its end, snapshots between the old ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ensgan import zoo
from ensgan.errors import InputError
from ensgan.files import read_json
from ensgan.train import TrainSettings, find_training, starts_over, train_gan
from ensgan.types import Samples

TINY = zoo.get("SNGAN").scaled(1 / 32)
_RANDOM = np.random.default_rng(1)
REALS = Samples(
    _RANDOM.integers(0, 256, (24, 32, 32), dtype=np.uint8), np.arange(24, dtype=np.int64) % 2
)


def settings(steps: int, snapshots: int, seed: int = 3) -> TrainSettings:
    return TrainSettings(steps, snapshots, seed, batch=4, d_updates=1)


def run(folder: Path, steps: int, snapshots: int) -> tuple[dict[str, str], list[int]]:
    """Hashes of the members, and the steps that were trained for them."""
    trained: list[int] = []
    asked = settings(steps, snapshots)
    made = train_gan(TINY, REALS, 2, asked, folder, on_progress=lambda p: trained.append(p.step))
    return {snapshot.member: snapshot.sha256 for snapshot in made}, trained


def test_more_steps_go_on_from_the_last_state(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", 8, 4)
    first, _ = run(tmp_path / "grown", 4, 2)
    assert starts_over(tmp_path / "grown", "SNGAN", settings(8, 4)) == []
    grown, trained = run(tmp_path / "grown", 8, 4)
    assert trained == [5, 6, 7, 8]
    assert grown == whole and grown.items() > first.items()
    assert run(tmp_path / "grown", 4, 2) == (first, []), "fewer steps: nothing is trained"


def test_snapshots_between_train_again_and_leave_the_old_ones(tmp_path: Path) -> None:
    dense, _ = run(tmp_path / "dense", 8, 4)
    run(tmp_path / "grown", 8, 2)
    assert starts_over(tmp_path / "grown", "SNGAN", settings(8, 4)) == [2, 6]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "grown").glob("*@*")}
    grown, trained = run(tmp_path / "grown", 8, 4)
    assert grown == dense and trained == [1, 2, 3, 4, 5, 6]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    record = read_json(tmp_path / "grown" / "SNGAN@6.json")
    assert not any("trained again" in note for note in record["health"])
    # The last state is still that of step 8.
    assert run(tmp_path / "grown", 10, 5)[1] == [9, 10]


def test_a_way_that_was_not_gone_again_bit_for_bit_says_so(tmp_path: Path) -> None:
    run(tmp_path, 4, 1)
    record_path = tmp_path / "SNGAN@4.json"
    # Stands for a device that adds in another order.
    other = train_gan(TINY, REALS, 2, settings(4, 1, seed=4), tmp_path / "other")
    (tmp_path / "SNGAN@4.safetensors").write_bytes(next(other).path.read_bytes())
    record_path.write_text((tmp_path / "other" / record_path.name).read_text())
    (tmp_path / "resume.pt").unlink()
    run(tmp_path, 6, 3)
    health = read_json(tmp_path / "SNGAN@6.json")["health"]
    assert "trained again, and not bit for bit as SNGAN@4 was" in health
    assert not read_json(tmp_path / "SNGAN@2.json")["health"][1:]


def test_an_interrupted_way_back_goes_on(tmp_path: Path) -> None:
    run(tmp_path, 8, 1)
    first = train_gan(TINY, REALS, 2, settings(8, 4), tmp_path)
    assert next(first).member == "SNGAN@8" and next(first).member == "SNGAN@2"
    assert next(first).member == "SNGAN@4"
    first.close()
    assert starts_over(tmp_path, "SNGAN", settings(8, 4)) == [], "it has begun: no question again"
    _, trained = run(tmp_path, 8, 4)
    assert trained == [5, 6]
    assert not (tmp_path / "again.pt").exists()


def test_without_its_last_state_a_training_starts_over(tmp_path: Path) -> None:
    run(tmp_path, 4, 2)
    (tmp_path / "resume.pt").unlink()
    assert starts_over(tmp_path, "SNGAN", settings(4, 2)) == []
    assert starts_over(tmp_path, "SNGAN", settings(6, 3)) == [6]
    assert starts_over(tmp_path / "new", "SNGAN", settings(6, 3)) == []
    assert run(tmp_path, 6, 3)[1] == [1, 2, 3, 4, 5, 6]


def test_folders_are_found_by_what_they_train(tmp_path: Path) -> None:
    run(tmp_path / "a", 4, 2)
    folders = [tmp_path / "a", tmp_path / "none"]

    def found(asked: TrainSettings, row: zoo.GANSpec = TINY) -> Path | None:
        return find_training(folders, row, REALS.key, 2, asked)

    assert found(settings(8, 4)) == tmp_path / "a"
    assert found(settings(4, 2, seed=4)) is None
    assert found(settings(4, 2), zoo.get("SAGAN").scaled(1 / 32)) is None
    (tmp_path / "a" / "training.json").write_text("{")
    assert found(settings(8, 4)) is None


def test_a_length_that_averages_otherwise_is_refused(tmp_path: Path) -> None:
    row = zoo.get("BigGAN").scaled(1 / 32)
    short = TrainSettings(2, 1, 3, batch=4, d_updates=1)
    list(train_gan(row, REALS, 2, short, tmp_path))
    long = TrainSettings(100_000, 50_000, 3, batch=4, d_updates=1)
    assert find_training([tmp_path], row, REALS.key, 2, long) is None
    with pytest.raises(InputError, match=r"steps was 2, is now 100000: trainings of that length"):
        next(train_gan(row, REALS, 2, long, tmp_path))
