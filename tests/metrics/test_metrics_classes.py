"""Scores within classes against their definition, point by point."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ensgan.cli.app import app
from ensgan.errors import DataError, InputError
from ensgan.metrics import measure_pool, score_pool
from ensgan.types import PoolScores, harmonic_mean

K = 3
RNG = np.random.default_rng(8)
REAL = np.rint(4 * RNG.normal(size=(70, 4))) / 4  # quarters: many ties, and exact as integers
REAL[5] = REAL[4]
REAL_LABELS = RNG.permutation(np.repeat([0, 2, 7], [40, 20, 10]))
FAKES = [
    np.rint(4 * spread * RNG.normal(size=(n, 4))) / 4 for n, spread in ((50, 1), (60, 0.7), (45, 1))
]
FAKE_LABELS = [RNG.permutation(np.resize([0, 2, 7, 0], len(fake))) for fake in FAKES]
FAKES[2][3] = REAL[4]
LABELS = (REAL_LABELS, FAKE_LABELS)
NAMES = ["A@1", "B@1", "C@1"]
CLASSES, SHARE = np.unique(REAL_LABELS), np.array([40, 20, 10]) / 70


def hits(balls: np.ndarray, points: np.ndarray) -> np.ndarray:
    """bool [n,m]: which points lie strictly inside which balls, in whole quarters."""
    first, second = (np.rint(4 * part).astype(int) for part in (balls, points))
    own = np.square(first[:, None] - first[None]).sum(axis=2)
    np.fill_diagonal(own, np.iinfo(int).max)
    radius = np.sort(own, axis=1)[:, K - 1]
    return np.square(first[:, None] - second[None]).sum(axis=2) < radius[:, None]


def by_class(
    balls: np.ndarray, ball_labels: np.ndarray, points: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Density and coverage of each class, and the balls reached."""
    density, coverage, reached = [], [], np.zeros(len(balls), bool)
    for label in CLASSES:
        inside = hits(balls[ball_labels == label], points[labels == label])
        density.append(inside.sum() / (K * inside.shape[1]))
        coverage.append(inside.any(axis=1).mean())
        reached[ball_labels == label] = inside.any(axis=1)
    return np.array(density), np.array(coverage), reached


def test_the_definition_point_by_point() -> None:
    measures = measure_pool(REAL, FAKES, NAMES, K, labels=LABELS)
    scores, classes = measures.scores, measures.by_class
    assert classes is not None and np.allclose(classes.share, SHARE)
    for g, (fake, labels) in enumerate(zip(FAKES, FAKE_LABELS, strict=True)):
        density, coverage, reached = by_class(REAL, REAL_LABELS, fake, labels)
        np.testing.assert_allclose(classes.density[:, g], density, rtol=1e-14)
        np.testing.assert_allclose(classes.coverage[:, g], coverage, rtol=1e-14)
        assert scores.density[g] == pytest.approx(density @ SHARE, rel=1e-14)
        assert scores.coverage[g] == pytest.approx(reached.mean(), rel=1e-14)
        assert np.array_equal(np.unpackbits(scores.masks[g], count=70).astype(bool), reached)
        assert classes.macro()[0][g] == pytest.approx(density.mean(), rel=1e-14)
        for h, (other, other_labels) in enumerate(zip(FAKES, FAKE_LABELS, strict=True)):
            if g != h:
                density, coverage, _ = by_class(fake, labels, other, other_labels)
                d = harmonic_mean(density @ SHARE, coverage @ SHARE)
                assert scores.directed[g, h] == pytest.approx(float(d), rel=1e-14)
    joint = score_pool(REAL, FAKES, NAMES, K)
    assert not np.array_equal(joint.density, scores.density)


def test_one_class_is_the_joint_score() -> None:
    same = np.zeros(70, int), [np.zeros(len(fake), int) for fake in FAKES]
    one, joint = (score_pool(REAL, FAKES, NAMES, K, labels=each) for each in (same, None))
    for field in ("density", "coverage", "masks", "directed"):
        np.testing.assert_array_equal(getattr(one, field), getattr(joint, field))


def test_swapped_labels_are_seen() -> None:
    centres = np.array([[0.0, 0, 0, 0], [9, 9, 9, 9]])
    labels = np.repeat([0, 1], 30)
    real, honest = (centres[labels] + RNG.normal(size=(60, 4)) for _ in range(2))
    given = labels, [labels, 1 - labels]
    apart = score_pool(real, [honest, honest], ["honest", "swapped"], labels=given)
    assert apart.density[0] > 0.5 and apart.density[1] == apart.coverage[1] == 0
    joint = score_pool(real, [honest, honest], ["honest", "swapped"])
    assert joint.density[0] == joint.density[1]


def test_memory_order_resuming_and_growing_change_nothing(tmp_path: Path) -> None:
    whole = score_pool(REAL, FAKES, NAMES, K, labels=LABELS)
    order = RNG.permutation(70)
    shuffled = score_pool(REAL[order], FAKES, NAMES, K, labels=(REAL_LABELS[order], FAKE_LABELS))
    np.testing.assert_array_equal(shuffled.density, whole.density)
    for _ in range(2):
        kept = score_pool(
            *(REAL, FAKES, NAMES, K), labels=LABELS, checkpoint=tmp_path, memory_bytes=1 << 20
        )
        np.testing.assert_array_equal(kept.directed, whole.directed)
    blocks = len(list(tmp_path.glob("block-*.npz")))
    swapped = (REAL_LABELS, [*FAKE_LABELS[:2], np.roll(FAKE_LABELS[2], 1)])
    other = score_pool(REAL, FAKES, NAMES, K, labels=swapped, checkpoint=tmp_path)
    assert len(list(tmp_path.glob("block-*.npz"))) > blocks, "other labels are other blocks"
    assert other.density[2] != whole.density[2]
    known = score_pool(REAL, FAKES[:2], NAMES[:2], K, labels=(REAL_LABELS, FAKE_LABELS[:2]))
    grown = score_pool(REAL, FAKES, NAMES, K, labels=LABELS, known=known)
    np.testing.assert_array_equal(grown.overlap, whole.overlap)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ((np.repeat([0, 1], [67, 3]), FAKE_LABELS), {}, "real features has 3 points of class 1; k"),
        ((REAL_LABELS, [*FAKE_LABELS[:2], np.zeros(45, int)]), {}, "C@1 has 0 points of class 2"),
        ((REAL_LABELS, [*FAKE_LABELS[:2], np.full(45, 5)]), {}, "45 points of class 5, which the"),
        ((REAL_LABELS[1:], FAKE_LABELS), {}, r"70 points but labels of shape \[69\]"),
        ((REAL_LABELS, FAKE_LABELS[:2]), {}, "labels of 2 members for 3"),
        ((REAL_LABELS * 0.5, FAKE_LABELS), {}, "whole numbers"),
        (LABELS, {"resamples": 5}, "without --resamples"),
    ],
)
def test_labels_that_cannot_be_used_are_named(labels, options, message) -> None:
    with pytest.raises(DataError, match=message):
        score_pool(REAL, FAKES, NAMES, K, labels=labels, **options)


def run(*words: object) -> object:
    return CliRunner().invoke(app, [str(word) for word in ("score", *words)])


def test_the_command_scores_features_and_images_within_classes(tmp_path: Path) -> None:
    pool = {"real": REAL, "fake": np.stack([fake[:45] for fake in FAKES]), "names": NAMES}
    np.savez(tmp_path / "plain.npz", **pool)
    labels = {"real_labels": REAL_LABELS, "fake_labels": [part[:45] for part in FAKE_LABELS]}
    np.savez(tmp_path / "pool.npz", **pool, **labels)
    words = ("-o", tmp_path / "s.npz", "-k", K, "--classes", "per-class", "--json")
    result = run(tmp_path / "pool.npz", *words)
    assert result.exit_code == 0, result.output
    expected = measure_pool(
        REAL, list(pool["fake"]), NAMES, K, labels=(REAL_LABELS, labels["fake_labels"])
    )
    scores = PoolScores.load(tmp_path / "s.npz")
    np.testing.assert_array_equal(scores.masks, expected.scores.masks)
    assert expected.by_class is not None
    macro = json.loads(result.stdout)["macro"]
    assert list(macro["density"].values()) == expected.by_class.macro()[0].tolist()
    # What was scored jointly is not taken for scores within classes.
    extended = run(tmp_path / "pool.npz", "-o", tmp_path / "t.npz", "--extend", tmp_path / "s.npz")
    assert isinstance(extended.exception, InputError)
    assert "real_labels" in str(run(tmp_path / "plain.npz", *words).exception)
    assert "per-class" in str(run(tmp_path / "pool.npz", *words[:4], "--classes", "per").exception)
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16), dtype=np.uint8)
    folder = tmp_path / "images"
    (folder / "fake").mkdir(parents=True)
    for place, part in (("real", images[:20]), ("fake/A@1", images[20:])):
        np.savez(folder / f"{place}.npz", images=part, labels=np.arange(20) % 2)
    result = run(folder, *words)
    assert result.exit_code == 0, result.output
    assert np.isfinite(PoolScores.load(tmp_path / "s.npz").density).all()
    np.save(folder / "fake" / "B@1.npy", images[20:])
    assert "none for B@1" in str(run(folder, *words).exception)
