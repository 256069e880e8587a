"""The phantoms: their modes, classes, and what coverage makes of them."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ensgan.data import load_dataset
from ensgan.data.phantom import MODES, allocate
from ensgan.types import Dataset


@pytest.fixture(scope="module")
def phantom() -> Dataset:
    return load_dataset("phantom", seed=3)


def test_twelve_modes_of_unequal_frequency_in_two_classes() -> None:
    shares = [mode.share for mode in MODES]
    assert len(MODES) == 12
    assert sum(shares) == pytest.approx(1)
    assert min(shares) == 0.02
    assert len(set(shares)) >= 6
    assert [sum(mode.label == label for mode in MODES) for label in (0, 1)] == [5, 7]


def test_every_image_knows_its_mode_and_the_mode_decides_the_class(phantom: Dataset) -> None:
    labels = np.array([mode.label for mode in MODES])
    for name, split in phantom.splits().items():
        assert split.images.dtype == np.uint8
        assert split.images.shape[1:] == (32, 32)
        assert split.labels.dtype == np.int64
        np.testing.assert_array_equal(split.labels, labels[phantom.modes[name]])
        assert set(phantom.modes[name]) == set(range(12))
    assert [len(split) for split in phantom.splits().values()] == [1200, 200, 400]
    counts = np.bincount(phantom.modes["train"])
    np.testing.assert_array_equal(counts, [round(1200 * mode.share) for mode in MODES])


@pytest.mark.parametrize("count", [12, 13, 50, 101, 1200])
def test_allocation_is_complete_and_within_one_of_the_share(count: int) -> None:
    counts = np.bincount(allocate(count), minlength=12)
    assert counts.sum() == count
    assert np.all(np.abs(counts - [count * mode.share for mode in MODES]) < 1)


def test_the_seed_decides_every_byte() -> None:
    options = {"n_train": 60, "n_val": 12, "n_test": 12}
    again = [load_dataset("phantom", seed=seed, options=options).key for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_image_size_and_options_are_followed() -> None:
    options = {"n_train": 24, "n_val": 12, "n_test": 12}
    dataset = load_dataset("phantom", image_size=64, options=options)
    assert dataset.train.images.shape == (24, 64, 64)
    coarse = load_dataset("phantom", image_size=32, options=options)
    assert dataset.modes["train"].tolist() == coarse.modes["train"].tolist()
    # The same chests, finer: their 2×2 means look like the images of 32 pixels.
    means = dataset.train.images.reshape(24, 32, 2, 32, 2).mean(axis=(2, 4))
    for fine, plain in zip(means, coarse.train.images, strict=True):
        assert np.corrcoef(fine.ravel(), plain.ravel())[0, 1] > 0.97


def test_two_thousand_images_take_about_a_second_of_cpu() -> None:
    start = time.process_time()
    load_dataset("phantom", options={"n_train": 400, "n_val": 50, "n_test": 50})
    assert time.process_time() - start < 1.5  # a quarter: 0.15 s on an idle core


@pytest.fixture(scope="module")
def neighbours(phantom: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image of another seed lies in the 5-NN ball of each training image [n,n]."""
    other = load_dataset("phantom", seed=4, options={"n_val": 12, "n_test": 12})
    flat, fake = (
        data.train.images.reshape(len(data.train), -1).astype(np.float32) / 255
        for data in (phantom, other)
    )
    _, directions = np.linalg.eigh(np.cov(flat.T))
    real, fake = ((images - flat.mean(axis=0)) @ directions[:, -24:] for images in (flat, fake))
    radii = np.sort(distances(real, real), axis=1)[:, 5]
    return distances(real, fake) < radii[:, None], other.modes["train"]


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(square, 0)))


@pytest.mark.parametrize(
    "reached", [(0,), (0, 1, 2), (5, 6, 7), (0, 1, 2, 3, 4), (4, 11), tuple(range(11))]
)
def test_coverage_follows_the_share_of_the_modes_reached(
    phantom: Dataset, neighbours: tuple[np.ndarray, np.ndarray], reached: tuple[int, ...]
) -> None:
    inside, modes = neighbours
    covered = inside[:, np.isin(modes, reached)].any(axis=1)
    share = sum(MODES[mode].share for mode in reached)
    of_reached = np.isin(phantom.modes["train"], reached)
    assert covered.mean() == pytest.approx(share, abs=0.05)
    assert covered[of_reached].mean() > 0.85
    assert covered[~of_reached].mean() < 0.15


def test_a_small_classifier_learns_the_classes_but_not_at_once(phantom: Dataset) -> None:
    def flat(images: np.ndarray) -> np.ndarray:
        return np.asarray(images.reshape(len(images), -1) / 255.0 - 0.4)

    x, y = flat(phantom.train.images), phantom.train.labels * 2.0 - 1
    test, truth = flat(phantom.test.images), phantom.test.labels * 2.0 - 1
    ridge = np.linalg.solve(x.T @ x + 10 * np.eye(x.shape[1]), x.T @ y)
    accuracy = float((np.sign(test @ ridge) == truth).mean())
    brightness = float((np.sign(test.mean(1) - np.median(x.mean(1))) == truth).mean())
    assert accuracy > 0.85
    assert brightness < 0.75
