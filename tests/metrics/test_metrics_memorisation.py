from __future__ import annotations

import numpy as np
import pytest

from ensgan.errors import DataError, InputError
from ensgan.metrics import Memorisation, MemorisationReference, frechet_distance


def memorisation(train: np.ndarray, held_out: np.ndarray, fake: np.ndarray) -> Memorisation:
    return MemorisationReference(train, held_out).measure(fake)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 12)).astype(np.float32) + 1000 for n in (300, 150, 200)]


def test_nearest_distances_by_brute_force(images):
    train, held_out, fake = images
    result = memorisation(train, held_out, fake)
    for references, found in ((train, result.to_training), (held_out, result.to_held_out)):
        difference = fake[:, None].astype(float) - references[None].astype(float)
        assert np.allclose(found, np.sqrt((difference**2).sum(2)).min(1), rtol=1e-12)
    own = np.sqrt(((train[:, None].astype(float) - train[None]) ** 2).sum(2))
    np.fill_diagonal(own, np.inf)
    assert np.allclose(result.isolation, own.min(1)[result.training_index], rtol=1e-12)


def test_planted_copies_are_found(images):
    train, held_out, fake = images
    planted = fake.copy()
    rng = np.random.default_rng(1)
    where = rng.choice(len(fake), 40, replace=False)
    source = rng.choice(len(train), 40, replace=False)
    planted[where] = train[source] + 0.01 * rng.normal(size=(40, 12)).astype(np.float32)
    planted[where[:5]] = train[source[:5]]
    reference = MemorisationReference(np.concatenate([train, train[:3]]), held_out)
    honest, copying = reference.measure(fake), reference.measure(planted)
    assert set(where) <= set(np.flatnonzero(copying.copies))
    assert np.array_equal(copying.training_index[where], source)
    assert honest.copy_share <= 0.02 and honest.baseline_share <= 0.02
    assert abs(honest.c_t) < 3
    assert copying.c_t < honest.c_t - 2 and copying.p_value < 0.01
    assert copying.authenticity < honest.authenticity
    assert (copying.ratio[where[:5]] == 0).all()


def test_an_ensemble_is_its_members_together(images):
    train, held_out, fake = images
    reference = MemorisationReference(train, held_out)
    parts = [reference.measure(fake[:80]), reference.measure(fake[80:])]
    assert Memorisation.union(parts).row() == reference.measure(fake).row()
    with pytest.raises(InputError, match="different images"):
        Memorisation.union([parts[0], memorisation(train, held_out[:50], fake)])


def test_c_t_agrees_with_scipy_and_with_copies_everywhere(images):
    from scipy.stats import mannwhitneyu

    train, held_out, fake = images
    result = memorisation(train, held_out, fake.round(0))
    expected = mannwhitneyu(
        result.to_training,
        result.held_out_to_training,
        alternative="less",
        use_continuity=False,
        method="asymptotic",
    )
    assert result.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    everything = memorisation(train, held_out, train)
    assert everything.copy_share == 1 and everything.c_t < -10


def test_bad_input(images):
    train, held_out, fake = images
    with pytest.raises(InputError, match="zero variance"):
        memorisation(np.repeat(train[:1], 9, axis=0), held_out, fake)
    with pytest.raises(InputError, match="held-out features has 5 dimensions"):
        memorisation(train, held_out[:, :5], fake)


@pytest.mark.parametrize("points", [40, 9])
def test_frechet_against_the_matrix_root(points):
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(2)
    a = rng.normal(size=(points, 6)) @ rng.normal(size=(6, 6)) + 1e3
    b = rng.normal(size=(points + 5, 6)) + 1e3 + 0.3
    one, two = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        one + two - 2 * sqrtm(one @ two).real
    )
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distances_that_overflow_are_refused():
    huge = np.random.default_rng(3).normal(size=(9, 4)) * 1e200
    with pytest.raises(DataError, match="the Fréchet distance of fake overflows"):
        frechet_distance(huge, huge[::-1] * 2)


def test_frechet_with_fewer_points_than_dimensions():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(5, 20)), rng.normal(size=(7, 20))
    wide = frechet_distance(a, b)
    turned = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    assert wide == pytest.approx(frechet_distance(a @ turned, b @ turned), rel=1e-9)
    assert wide > 0
