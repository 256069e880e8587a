"""Where classifiers get images from: what is asked for, what it costs, and a real pool."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bank_sweep import write_bank_sweep
from local_sweep import Home

from ensgan import zoo
from ensgan.config import load_spec
from ensgan.downstream import ClassifierSettings
from ensgan.errors import ConfigError, InputError, IntegrityError
from ensgan.evaluation.evaluate import EvaluationOptions, evaluate_sweep
from ensgan.evaluation.finished_sweep import open_sweep
from ensgan.sweep.events import SweepResult
from ensgan.sweep.executor import LocalExecutor
from ensgan.sweep.inputs import GeneratorFile, choose_sampling, generator_files
from ensgan.sweep.resolving import resolve
from ensgan.types import ImageShape


@pytest.mark.parametrize(
    ("asked", "bank", "images", "fresh", "words"),
    [
        ("fresh", 100, 10, True, "as asked for, about"),
        ("bank", 100, 10_000, False, "as asked for"),
        (None, 100, 200, False, "a classifier sees 200 images"),
        (None, 100, 10_000, True, "about 10 s"),
        (None, 100, 100_000, False, "about 100 s for each classifier"),
    ],
)
def test_the_default_is_by_worth_and_cost(
    result: SweepResult, asked: str | None, bank: int, images: int, fresh: bool, words: str
) -> None:
    members = [
        member.model_copy(update={"seconds": {"sample": 0.1}})  # a thousandth for each of 100
        for member in result.members
    ]
    files = {members[0].name: GeneratorFile(Path(), "", {}, ImageShape(1, 32), 2)}
    found = choose_sampling(asked, members, files, bank=bank, images=images)
    assert bool(found.generators) == fresh and words in found.reason


def test_without_weights_fresh_is_refused_in_one_sentence(
    result: SweepResult, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"all 4 are banks .* use sampling bank"):
        choose_sampling("fresh", result.members, {}, bank=10, images=10)
    found = choose_sampling(None, result.members, {}, bank=10, images=1000)
    assert not found.generators and "not known" in found.reason
    path = write_bank_sweep(tmp_path)
    with pytest.raises(ConfigError, match=r"evaluate\.sampling fresh needs .* all 3 are banks"):
        resolve(load_spec(path, settings=["evaluate.sampling=fresh"]))
    with pytest.raises(InputError, match="did you mean 'fresh'"):
        EvaluationOptions(("real",), sampling="fresch")


def test_a_pool_makes_fresh_images(home: Home, result: SweepResult) -> None:
    sweep = open_sweep("tiny", home.path)
    options = EvaluationOptions(
        ("all", "selected"), 1, ClassifierSettings(epochs=1, width=4), sampling="fresh"
    )
    table = evaluate_sweep(sweep, options, LocalExecutor()).table
    assert table.sampling.startswith("fresh images in every epoch, as asked for, about")
    again = evaluate_sweep(sweep, options, LocalExecutor()).table
    assert again.to_json() == table.to_json()
    banks = evaluate_sweep(sweep, replace(options, sampling="bank"), LocalExecutor()).table
    # The classifiers of the sweep itself: their results were on disk under their own key.
    assert banks.row("all").metrics["auc"].mean != table.row("all").metrics["auc"].mean


def test_weights_that_have_changed_make_no_fresh_images(
    home: Home, result: SweepResult, tmp_path: Path
) -> None:
    shutil.copytree(home.path / "sweeps" / "tiny", tmp_path / "sweeps" / "tiny")
    options = EvaluationOptions(
        ("all",), 1, ClassifierSettings(epochs=1, width=8), sampling="fresh"
    )
    sweep = open_sweep("tiny", tmp_path)
    weights = next(member.weights for member in sweep.members if member.name == "ACGAN-Mod@6")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # of the right length and form
    with pytest.raises(IntegrityError, match=rf"{weights.name} has changed .* delete it"):
        evaluate_sweep(sweep, options, LocalExecutor())


def test_generators_make_what_their_weights_make(home: Home, result: SweepResult) -> None:
    sweep = open_sweep("tiny", home.path)
    files = generator_files(sweep.members, sweep.rows, sweep.dataset.load())
    assert set(files) == set(sweep.scores.names)
    name = "ACGAN-Mod@6"
    row = zoo.get("ACGAN-Mod").scaled(0.03125)
    member = next(member for member in result.members if member.name == name)
    labels = np.array([0, 1, 1])
    expected = zoo.sample(
        zoo.load_generator(member.weights, row, ImageShape(1, 32), 2), labels, seed=3
    )
    for keep in (True, False):
        make = files[name].maker("cpu", keep=keep)
        np.testing.assert_array_equal(make(labels, 3), expected)
        np.testing.assert_array_equal(make(labels, 3), expected)


def test_the_quickstart_says_bank() -> None:
    path = Path(__file__).parents[2] / "sweeps" / "quickstart.yaml"
    assert load_spec(path).evaluate.sampling == "bank"
