"""Generators whose worth is known: scores within classes, density capped, put them in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bank_sweep import write_bank_sweep
from local_sweep import Home

from ensgan import embedding, metrics
from ensgan.data import load_dataset, phantom
from ensgan.downstream import rank_correlation
from ensgan.search import Evaluator, search, select
from ensgan.types import PoolScores

N, SIZE = 400, 32
ORDER = ("honest", "over-concentrated", "collapsed", "swapped", "noise")
LABELS = np.array([mode.label for mode in phantom.MODES])


def made(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a generator of that kind."""
    modes = rng.permutation(phantom.allocate(N))
    if kind == "noise":
        return rng.integers(0, 256, (N, SIZE, SIZE)).astype(np.uint8), LABELS[modes]
    if kind == "collapsed":  # one mode per class
        modes = np.where(LABELS[modes] == 0, 0, 5)
    if kind == "over-concentrated":  # the middle of the five most frequent modes
        modes = np.array([0, 1, 5, 6, 7])[rng.integers(0, 5, N)]
        several = [phantom.draw(modes, SIZE, rng).astype(float) for _ in range(3)]
        return np.mean(several, axis=0).round().astype(np.uint8), LABELS[modes]
    labels = 1 - LABELS[modes] if kind == "swapped" else LABELS[modes]
    return phantom.draw(modes, SIZE, rng), labels


@pytest.fixture(scope="module")
def scores() -> tuple[PoolScores, PoolScores]:
    """Of two generators of each kind: joint, and within classes."""
    options = {"n_train": N, "n_val": 12, "n_test": 12}
    real = load_dataset("phantom", image_size=SIZE, options=options, seed=0)
    extractor = embedding.make_extractor("random", dataset=real, seed=0)
    names = [f"{kind}@{copy}" for kind in ORDER for copy in (1, 2)]
    pool = [made(n.split("@")[0], np.random.default_rng([3, i])) for i, n in enumerate(names)]
    features = [embedding.embed(images, extractor).features for images, _ in pool]
    reference = embedding.embed(real.train.images, extractor).features
    labels = (real.train.labels, [each for _, each in pool])
    joint = metrics.score_pool(reference, features, names)
    return joint, metrics.score_pool(reference, features, names, labels=labels)


def test_single_generators_end_in_the_right_order(scores: tuple[PoolScores, PoolScores]) -> None:
    joint, by_class = scores
    values = by_class.capped_intra_d.reshape(-1, 2)
    assert (values.min(axis=1)[:-1] > values.max(axis=1)[1:]).all()
    # The over-concentrated one is what it is called: too dense, and much is missing.
    assert by_class.density[2] > 1.5 and by_class.coverage[2] < 0.8
    # As published and blind to labels, it is above the honest one, which equals the swapped one.
    published = joint.intra_d.reshape(-1, 2).mean(axis=1)
    assert published[1] > published[0]
    assert published[3] == pytest.approx(published[0], abs=0.03)


def test_ensembles_end_in_the_right_order(scores: tuple[PoolScores, PoolScores]) -> None:
    """Pairs of one kind each."""
    joint, by_class = scores
    pairs = [(2 * kind, 2 * kind + 1) for kind in range(len(ORDER))]
    now = [Evaluator(by_class).evaluate(pair)[0] for pair in pairs]
    assert now == sorted(now, reverse=True) and len(set(now)) == len(now)
    paper = Evaluator(joint, objectives="paper")
    before = [paper.evaluate(pair)[0] for pair in pairs]
    assert before != sorted(before, reverse=True)


def test_the_default_objective_follows_the_share_of_modes_that_an_ensemble_covers() -> None:
    rng = np.random.default_rng(0)
    options = {"n_train": N, "n_val": 12, "n_test": 12}
    real = load_dataset("phantom", image_size=SIZE, options=options, seed=0)
    extractor = embedding.make_extractor("random", dataset=real, seed=0)
    share = np.array([mode.share for mode in phantom.MODES])
    covered, features = [], []
    for _ in range(12):
        modes = rng.choice(len(share), int(rng.integers(1, 6)), replace=False)
        covered.append(set(modes.tolist()))
        drawn = rng.choice(modes, N, p=share[modes] / share[modes].sum())
        features.append(embedding.embed(phantom.draw(drawn, SIZE, rng), extractor).features)
    names = [f"G{i}@1" for i in range(12)]
    pool = metrics.score_pool(
        embedding.embed(real.train.images, extractor).features, features, names
    )
    ensembles = [rng.choice(12, int(rng.integers(2, 7)), replace=False).tolist() for _ in range(80)]
    evaluator = Evaluator(pool)
    found = [evaluator.evaluate(sorted(each))[0] for each in ensembles]
    reached = [set().union(*(covered[i] for i in each)) for each in ensembles]
    by_frequency = rank_correlation(found, [share[list(each)].sum() for each in reached]).rho
    by_number = rank_correlation(found, [float(len(each)) for each in reached]).rho
    assert by_frequency is not None and by_number is not None
    assert by_frequency > 0.9 and by_number > 0.8


def test_a_sweep_chooses_the_honest_ones(tmp_path: Path) -> None:
    """The whole rule: two honest generators, one of each other kind, an ensemble of two."""
    names = ["honest", "honest2", *ORDER[1:]]
    for seed, name in enumerate(names):
        images, labels = made(name.rstrip("2"), np.random.default_rng([3, seed]))
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    options = {"n_train": N, "n_val": 100, "n_test": 12}
    file = write_bank_sweep(
        tmp_path,
        dataset={"name": "phantom", "image_size": SIZE, "options": options},
        members=[{"name": name, "images": f"{name}.npz"} for name in names],
        search={"trials": 20, "max_size": 2},
        evaluate={"strategies": []},
    )
    home = Home(tmp_path / "runs")
    result = home.run(file)
    assert result.selected.point.members == ("honest", "honest2")
    assert "of the images of swapped, noise, of the others' 9" in " ".join(result.cautions)
    before = search(result.scores, objectives="paper", sampler="exhaustive", max_size=2)
    assert "over-concentrated" in select(before, "knee").point.members
