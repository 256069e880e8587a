"""Linear probes: what they see, and what they cannot be fooled by."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_info, threadpool_limits

from ensgan.downstream import LabelledFeatures, LinearProbe, Strategy, ValidationTrial
from ensgan.downstream.probe import DIMENSIONS, STEPS, STRENGTH
from ensgan.errors import InputError


def made(seed: int, n: int, classes: int = 2, dim: int = 8, clear: float = 3.0) -> LabelledFeatures:
    """Classes that lie ``clear`` standard deviations apart in one feature each."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = rng.normal(size=(n, dim)).astype(np.float32)
    features[np.arange(n), labels] += clear
    return LabelledFeatures(features, labels.astype(np.int64))


def trial(*members: str, seed: int = 0) -> ValidationTrial:
    return ValidationTrial(Strategy("probe", members), seed)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_is_scikit_learns_own_classifier(classes: int) -> None:
    member, val = made(0, 60, classes, clear=1.0), made(1, 200, classes, clear=1.0)
    (found,) = LinearProbe(member, val, {"A": member}, classes)([trial("A")])
    mean, scale = member.features.mean(0), member.features.std(0)
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=STEPS)
    model.fit((member.features - mean) / scale, member.labels)
    chances = model.predict_proba((val.features - mean) / scale)
    area = roc_auc_score(val.labels, chances[:, 1] if classes == 2 else chances, multi_class="ovr")
    assert found.auc == pytest.approx(area, abs=2e-3)
    assert found.loss == pytest.approx(log_loss(val.labels, chances), abs=2e-3)


def test_what_is_worse_in_any_way_is_ranked_behind() -> None:
    honest, again = made(2, 400, clear=2.0), made(3, 400, clear=2.0)
    noise = LabelledFeatures(
        np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32), honest.labels
    )
    members = {
        "honest": honest,
        "again": again,
        "swapped": LabelledFeatures(honest.features, 1 - honest.labels),
        "collapsed": LabelledFeatures(np.repeat(honest.features[:1], 400, 0), honest.labels),
        "noise": noise,
    }
    probe = LinearProbe(made(4, 400, clear=2.0), made(5, 300, clear=2.0), members, 2)
    results = dict(zip(members, probe([trial(name) for name in members]), strict=True))
    assert min(results["honest"].auc, results["again"].auc) > 0.9
    worst = max(results["honest"].loss, results["again"].loss)
    assert all(results[name].loss > worst for name in ("swapped", "collapsed", "noise"))
    assert results["swapped"].auc < 0.1 and results["collapsed"].auc == 0.5
    found = probe.consistency()
    assert found.tells and found.doubtful() == ("swapped", "collapsed", "noise")
    assert found.members["swapped"] == pytest.approx(1 - found.members["honest"])


def test_trials_are_reproducible_and_take_equal_parts_of_members() -> None:
    sorted_ = made(6, 5000, clear=1.0)
    order = np.argsort(sorted_.labels, kind="stable")  # as banks from elsewhere may be
    members = {"A": made(7, 50, clear=1.0), "B": LabelledFeatures(*(
        each[order] for each in (sorted_.features, sorted_.labels)
    ))}  # fmt: skip
    probe = LinearProbe(made(8, 99), made(9, 99, clear=1.0), members, 2)
    first, again, other = probe([trial("A", "B"), trial("A", "B"), trial("A", "B", seed=1)])
    assert first == again != other


def test_seeds_of_small_banks_are_judged_by_bootstraps_that_all_ensembles_share() -> None:
    """Ten images of each member are all drawn by every seed: only their judges differ."""
    members = {"A": made(19, 10, clear=1.0), "B": made(20, 10, clear=1.0)}
    val = made(21, 80, 4, clear=1.0)  # rows of all classes, few of the one left
    val = LabelledFeatures(val.features, np.array([0, 0, 0, 1] * 20, np.int64))
    probe = LinearProbe(made(22, 99), val, {**members, "A again": members["A"]}, 2)
    results = {name: probe([trial(name, seed=n) for n in range(5)]) for name in probe.members}
    assert len({each.loss for each in results["A"]}) == 5
    assert results["A"] == results["A again"] != results["B"]
    for seed in range(5):
        judges = np.bincount(val.labels[probe._judges(seed)])
        assert judges.tolist() == [60, 20]
    assert probe._judges(0).tolist() == list(range(80))


def test_probes_leave_the_threads_of_blas_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    fit = LogisticRegression.fit

    def watched(*args: object) -> object:
        seen.extend(pool["num_threads"] for pool in blas_threads())
        return fit(*args)

    def blas_threads() -> list[dict[str, int]]:
        return [pool for pool in threadpool_info() if pool["user_api"] == "blas"]

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    with threadpool_limits(2, user_api="blas"):
        LinearProbe(made(0, 9), made(1, 9), {"A": made(2, 9)}, 2)([trial("A")])
        assert set(seen) == {1}
        assert {pool["num_threads"] for pool in blas_threads()} == {2}


def test_classes_weigh_alike_and_a_missing_class_is_held_against_an_ensemble() -> None:
    rare = made(10, 300, clear=2.0)
    kept = (rare.labels == 0) | (np.arange(300) < 40)
    members = {
        "rare": LabelledFeatures(rare.features[kept], rare.labels[kept]),
        "without": LabelledFeatures(*(e[rare.labels == 0] for e in (rare.features, rare.labels))),
    }
    probe = LinearProbe(rare, made(11, 300, clear=2.0), members, 2)
    rare_one, without = probe([trial("rare"), trial("without")])
    assert rare_one.loss < 0.5 and without.auc == 0.5 and without.loss > 5
    three = LinearProbe(made(12, 90, 3), made(13, 90, 3), {"two": made(14, 90, 2)}, 3)
    assert three([trial("two")])[0].loss > 5


def test_wide_features_are_judged_by_their_principal_components() -> None:
    """The projection keeps what tells classes apart where it is large in the real features."""
    real, val = made(15, 500, dim=DIMENSIONS + 40), made(16, 200, dim=DIMENSIONS + 40)
    member = made(17, 500, dim=DIMENSIONS + 40)
    probe = LinearProbe(real, val, {"A": member}, 2)
    (found,) = probe([trial("A")])
    assert found.auc > 0.95
    assert probe.consistency().members["A"] > 0.9


def test_validation_images_of_every_class_are_needed() -> None:
    real = made(18, 20)
    one = LabelledFeatures(real.features[::2], real.labels[::2])
    with pytest.raises(InputError, match="two classes or more, not 2 with 1 missing"):
        LinearProbe(real, one, {"A": real}, 2)
    with pytest.raises(InputError, match="two classes or more, not 1"):
        LinearProbe(real, one, {"A": real}, 1)
