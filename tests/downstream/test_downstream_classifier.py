"""One classifier: reproducible, validated on val alone, refusing what it cannot measure."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from ensgan.downstream import (
    ClassifierSettings,
    MemoryBank,
    RepeatResult,
    Strategy,
    check_dataset,
    classification_metrics,
    run_repeat,
)
from ensgan.downstream.drawing import augmented
from ensgan.downstream.pool import ImagePool, split_by_chance
from ensgan.errors import DataError, InputError
from ensgan.types import Dataset, Samples

QUICK = ClassifierSettings(epochs=2, batch=16, width=8, learning_rate=1e-2)
TWO = Strategy("selected", ("A@1", "B@1"))


def split(n: int, seed: int, size: int = 8, share: float = 0.6) -> Samples:
    """Class 1 is brighter in the upper half."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int64)
    labels[:2] = 0, 1
    images = rng.integers(0, 120, (n, size, size), dtype=np.uint8)
    images[labels == 1, : size // 2] += 90
    return Samples(images, labels)


def make_dataset() -> Dataset:
    return Dataset("toy", split(64, 0), split(30, 1), split(40, 2), ("no", "yes"))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset()


@pytest.fixture(scope="module")
def bank() -> MemoryBank:
    return MemoryBank({"A@1": split(100, 3), "B@1": split(100, 4)})


def run(dataset, bank, strategy=TWO, repeat=0, settings=QUICK, seed=0) -> RepeatResult:
    return run_repeat(strategy, repeat, dataset=dataset, bank=bank, settings=settings, seed=seed)


def timeless(result: RepeatResult) -> RepeatResult:
    return replace(result, seconds=0.0)


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy("real", kind="real"),
        TWO,
        Strategy("real+synthetic:2", ("A@1",), kind="real+synthetic", n_times=2),
        Strategy("real+augment", kind="real+augment"),
    ],
    ids=lambda strategy: strategy.kind,
)
def test_a_classifier_learns_the_toy_task(dataset, bank, strategy) -> None:
    settings = replace(QUICK, epochs=3)
    result = run(dataset, bank, strategy, settings=settings)
    assert result.metrics["auc"] > 0.9
    per_epoch = {"real": 64, "synthetic": 64, "real+synthetic": 192, "real+augment": 128}
    assert result.images == 3 * per_epoch[strategy.kind]
    assert timeless(run(dataset, bank, strategy, settings=settings)) == timeless(result)
    assert RepeatResult.from_json(result.to_json()) == result
    assert pickle.loads(pickle.dumps(result)) == result


def test_repeats_differ_and_leave_the_global_state_alone(dataset, bank) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = run(dataset, bank), run(dataset, bank, repeat=1)
    assert first.val_loss != second.val_loss
    assert torch.equal(before, torch.get_rng_state())


def test_test_labels_change_nothing_but_the_reported_metrics(dataset, bank) -> None:
    flipped = replace(dataset, test=Samples(dataset.test.images, 1 - dataset.test.labels))
    honest, other = run(dataset, bank, TWO), run(flipped, bank, TWO)
    assert honest.metrics != other.metrics
    for field in dataclasses.fields(RepeatResult):
        if field.name not in ("metrics", "resampled_auc", "seconds"):
            assert getattr(honest, field.name) == getattr(other, field.name), field.name


def test_auto_is_the_device_that_is_there(dataset, bank) -> None:
    auto = run(dataset, bank, settings=replace(QUICK, device="auto"))
    there = replace(QUICK, device="cuda" if torch.cuda.is_available() else "cpu")
    assert timeless(auto) == timeless(run(dataset, bank, settings=there))


def test_class_weights_follow_the_labels_trained_on(dataset, bank) -> None:
    counts = np.bincount(dataset.train.labels)
    assert run(dataset, bank).class_weights == pytest.approx(64 / (2 * counts))
    uniform = run(dataset, bank, settings=replace(QUICK, labels="uniform"))
    assert uniform.class_weights == pytest.approx((1.0, 1.0))


def test_weights_decide_who_gives_images(dataset, bank) -> None:
    pool = ImagePool.synthetic(("A@1", "B@1"), bank, dataset, memory_mb=64, seed=0)
    rng = np.random.default_rng(0)
    wanted = np.array([400, 600])
    counts = split_by_chance(pool.present, wanted, np.array([0.8, 0.2]), rng)
    assert (counts.sum(axis=0) == wanted).all()
    assert counts[0].sum() == pytest.approx(800, abs=50)
    assert split_by_chance(pool.present, wanted, np.array([1.0, 0.0]), rng)[1].sum() == 0
    indices = pool.draw(counts, rng)
    assert (np.bincount(indices // 100) == counts.sum(axis=1)).all()
    assert (np.bincount(pool.labels.numpy()[indices]) == wanted).all()


def test_no_image_repeats_before_its_group_is_used_up(dataset, bank) -> None:
    pool = ImagePool.synthetic(("A@1",), bank, dataset, memory_mb=64, seed=0)
    sizes = np.array([[len(rows) for rows in pool.groups[0]]])
    once = pool.draw(sizes, np.random.default_rng(0))
    assert len(set(once.tolist())) == len(once) == 100
    thrice = pool.draw(3 * sizes - 1, np.random.default_rng(0))
    assert set(np.bincount(thrice, minlength=100)) <= {2, 3}


def test_early_stopping_keeps_the_best_epoch(dataset, bank) -> None:
    settings = replace(QUICK, epochs=20, warmup=2, patience=2)
    result = run(dataset, bank, settings=settings)
    assert result.epochs < 20
    assert result.epochs - result.best_epoch >= 2


def test_memory_bound_thins_every_member(dataset) -> None:
    members = {name: split(9000, seed) for seed, name in enumerate(("A@1", "B@1"))}
    pool = ImagePool.synthetic(("A@1", "B@1"), MemoryBank(members), dataset, memory_mb=1, seed=0)
    assert len(pool.images) == 2 * ((1 << 20) // (2 * 64))
    assert sum(map(len, pool.groups[0])) == sum(map(len, pool.groups[1]))


def test_a_bank_names_the_nearest_member(dataset, bank) -> None:
    with pytest.raises(InputError, match=r"did you mean 'A@1'"):
        run(dataset, bank, Strategy("single", ("A@2",)))


def test_controls_beside_real_images_take_equally_many_steps(dataset, bank) -> None:
    controls = [
        Strategy("real:2", kind="real", n_times=2),
        Strategy("real+augment", kind="real+augment"),
        Strategy("real+all", ("A@1", "B@1"), kind="real+synthetic"),
        Strategy("real+best-single", ("A@1",), kind="real+synthetic"),
    ]
    assert {run(dataset, bank, strategy).images for strategy in controls} == {2 * 2 * 64}


def test_changed_copies_move_little_and_come_from_the_seed() -> None:
    images = torch.zeros(200, 1, 32, 32, dtype=torch.uint8)
    images[:, :, 14:18, 14:18] = 200
    moved, again = (augmented(images, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(moved, again) and moved.dtype == torch.uint8
    assert not torch.equal(moved, augmented(images, np.random.default_rng(6)))
    mass = moved.float().sum((1, 2, 3))
    places = torch.arange(32.0)
    across = (moved.float().sum((1, 2)) * places).sum(1) / mass
    # 6 % of 32 pixels each way, around the middle; scale changes the area by at most a quarter.
    assert 1.5 < (across - 15.5).abs().max() < 2.6
    assert abs(float(across.mean()) - 15.5) < 0.3
    original = float(images[0].float().sum())
    assert 0.7 < float(mass.min()) / original < float(mass.max()) / original < 1.35


def test_colour_images_are_changed_too(bank) -> None:
    def coloured(samples: Samples) -> Samples:
        return Samples(np.repeat(samples.images[..., None], 3, axis=-1), samples.labels)

    toy = make_dataset()
    colour = replace(toy, train=coloured(toy.train), val=coloured(toy.val), test=coloured(toy.test))
    result = run(colour, bank, Strategy("real+augment", kind="real+augment"))
    assert result.metrics["auc"] > 0.6


def test_data_that_cannot_be_measured_is_refused(dataset, bank) -> None:
    zeros = Samples(dataset.test.images, np.zeros_like(dataset.test.labels))
    with pytest.raises(DataError, match="test split of toy has no image of class yes"):
        check_dataset(replace(dataset, test=zeros))
    with pytest.raises(DataError, match="one class only"):
        check_dataset(replace(dataset, class_names=("no",)))
    with pytest.raises(DataError, match="val split of toy has the label 7"):
        high = np.where(dataset.val.labels == 1, 7, 0)
        check_dataset(replace(dataset, val=Samples(dataset.val.images, high)))
    with pytest.raises(DataError, match="32×32 with"):
        run(dataset, MemoryBank({"A@1": split(9, 0, 32)}), Strategy("s", ("A@1",)))
    with pytest.raises(DataError, match="label 2"):
        own = split(9, 0)
        odd = MemoryBank({"A@1": Samples(own.images, own.labels + 1)})
        run(dataset, odd, Strategy("s", ("A@1",)))
    with pytest.raises(DataError, match="has an image of class 'yes'"):
        none = MemoryBank({"A@1": Samples(zeros.images, zeros.labels)})
        run(dataset, none, Strategy("s", ("A@1",)))


def test_longer_training_keeps_the_shape_of_its_schedule() -> None:
    longer = replace(QUICK, warmup=3, patience=4, plateau=2).longer(10)
    assert (longer.epochs, longer.warmup, longer.patience, longer.plateau) == (20, 30, 40, 20)
    assert longer.batch == QUICK.batch and longer.learning_rate == QUICK.learning_rate


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"epochs": 0}, "epochs"),
        ({"batch": 1}, "batch"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"width": 0}, "width"),
        ({"images_per_epoch": 1}, "images_per_epoch"),
        ({"labels": "even"}, "labels"),
        ({"memory_mb": 0}, "memory_mb"),
        ({"positive": 2}, "positive"),
        ({"device": "gpu"}, "device"),
    ],
)
def test_bad_settings_are_named(settings, word) -> None:
    with pytest.raises(InputError, match=word):
        ClassifierSettings(**settings)


def test_metrics_agree_with_scikit_learn() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    raw = rng.random(200) * 0.7 + labels * 0.3
    p = np.stack([1 - raw, raw], 1)
    found = classification_metrics(labels, p)
    called = raw > 0.5
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, called))
    assert found["precision"] == pytest.approx(metrics.precision_score(labels, called))
    assert found["recall"] == pytest.approx(metrics.recall_score(labels, called))
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, called))
    specificity = metrics.recall_score(labels, called, pos_label=0)
    assert found["specificity"] == pytest.approx(specificity)
    assert found["g_mean"] == pytest.approx(np.sqrt(found["recall"] * specificity))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, raw))
    other = classification_metrics(labels, p, positive=0)
    assert other["recall"] == found["specificity"]
    assert other["auc"] == pytest.approx(found["auc"])


def test_metrics_of_three_classes_are_unweighted_means() -> None:
    from sklearn import metrics

    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 300)
    p = rng.random((300, 3)) + np.eye(3)[labels] * 0.4
    p /= p.sum(1, keepdims=True)
    found = classification_metrics(labels, p)
    called = p.argmax(1)
    assert found["recall"] == pytest.approx(metrics.balanced_accuracy_score(labels, called))
    assert found["f1"] == pytest.approx(metrics.f1_score(labels, called, average="macro"))
    assert found["precision"] == pytest.approx(
        metrics.precision_score(labels, called, average="macro")
    )
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(labels, p, multi_class="ovr"))
    for c, score in enumerate(metrics.f1_score(labels, called, average=None)):
        assert found[f"f1_class_{c}"] == pytest.approx(score)
        assert found[f"auc_class_{c}"] == pytest.approx(metrics.roc_auc_score(labels == c, p[:, c]))
    recalls = [found[f"accuracy_class_{c}"] for c in range(3)]
    assert found["g_mean"] == pytest.approx(np.prod(recalls) ** (1 / 3))


def test_calibration_of_known_probabilities() -> None:
    """Nine of ten called right with confidence 0.9: calibrated; with 0.6: off by 0.3."""
    from sklearn.metrics import brier_score_loss

    labels = np.array([1] * 9 + [0] + [0] * 9 + [1])
    for confidence, error in ((0.9, 0.0), (0.6, 0.3)):
        raised = np.array([confidence] * 10 + [1 - confidence] * 10)
        found = classification_metrics(labels, np.stack([1 - raised, raised], 1))
        assert found["ece"] == pytest.approx(error)
        assert found["brier"] == pytest.approx(brier_score_loss(labels, raised))
    sure = np.eye(3)[[0, 1, 2, 0]]
    perfect = classification_metrics(np.array([0, 1, 2, 0]), sure)
    assert (perfect["brier"], perfect["ece"]) == (0, 0)
    assert classification_metrics(np.array([1, 2, 0, 1]), sure)["brier"] == 1
