from __future__ import annotations

import importlib.util
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ensgan.errors import InputError
from ensgan.metrics import density_coverage, prdc, prepare, score_member

BACKENDS = ["torch", "faiss"] if importlib.util.find_spec("faiss") else ["torch"]


def exact_prdc(real, fake, k):
    """The definitions in rational arithmetic, point by point."""

    def distance(a, b):
        return sum(
            (Fraction(float(x)) - Fraction(float(y))) ** 2 for x, y in zip(a, b, strict=True)
        )

    def radii(points):
        return [
            sorted(distance(p, q) for j, q in enumerate(points) if j != i)[k - 1]
            for i, p in enumerate(points)
        ]

    cross = [[distance(r, f) for f in fake] for r in real]
    in_real = np.array([[d < r for d in row] for row, r in zip(cross, radii(real), strict=True)])
    ball_of_fake = radii(fake)
    in_fake = np.array([[d < r for d, r in zip(row, ball_of_fake, strict=True)] for row in cross])
    return {
        "precision": in_real.any(0).mean(),
        "recall": in_fake.any(1).mean(),
        "density": in_real.sum() / (k * len(fake)),
        "coverage": in_real.any(1).mean(),
    }


def values(result):
    return {name: getattr(result, name) for name in ("precision", "recall", "density", "coverage")}


@pytest.mark.parametrize("backend", BACKENDS)
def test_oracles_are_met_exactly(oracles, backend):
    cases = json.loads((oracles / "prdc_oracles.json").read_text())["cases"]
    inputs = np.load(oracles / "prdc_oracles.npz")
    checked = 0
    for name, case in cases.items():
        if "exact" not in case:
            continue
        base, n = name.rpartition("__")[0], case["n_real"]
        result = prdc(inputs[f"{base}__real"], inputs[f"{base}__fake"], case["k"], backend=backend)
        for measure, expected in case["exact"].items():
            counts = n if measure in ("coverage", "recall") else case["n_fake"] * case["k"]
            assert round(getattr(result, measure) * counts, 6) == round(expected * counts, 6), name
        checked += 1
    assert checked >= 25


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("offset", [0.0, 1e7])
@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1.0, 1e180])
def test_any_offset_and_scale(backend, offset, scale):
    rng = np.random.default_rng(5)
    real, fake = rng.normal(size=(24, 5)), rng.normal(size=(20, 5))
    real[3] = real[9]
    fake[:4] = real[:4]
    real, fake = (real + offset) * scale, (fake + offset) * scale
    assert values(prdc(real, fake, 3, backend=backend)) == exact_prdc(real, fake, 3)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (9, 2), elements=st.integers(-3, 3).map(lambda v: v / 3)),
    arrays(np.float64, (8, 2), elements=st.integers(-3, 3).map(lambda v: v / 3)),
    st.integers(1, 4),
)
def test_ties_and_near_ties_of_thirds(real, fake, k):
    """Thirds are not floats, so equal-looking distances differ in the last bits."""
    assert values(prdc(real, fake, k, backend="torch")) == exact_prdc(real, fake, k)


@pytest.mark.parametrize("backend", BACKENDS)
def test_clusters_far_from_each_other(backend):
    """Float32 cannot see inside these clusters; the answer must not notice."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 2, (3, 6)) * 1e6
    real = np.concatenate([corner + rng.normal(size=(14, 6)) for corner in corners])
    fake = np.concatenate([corner + rng.normal(size=(10, 6)) for corner in corners])
    assert values(prdc(real, fake, 2, backend=backend)) == exact_prdc(real, fake, 2)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_order_of_points_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(60, 4)).round(1), rng.normal(size=(50, 4)).round(1)
    before = prdc(real, fake, 4)
    after = prdc(rng.permutation(real), rng.permutation(fake), 4)
    assert values(before) == values(after)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(-60, 60))
def test_scaling_by_a_power_of_two_changes_nothing(seed, exponent):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
    factor = 2.0**exponent
    assert values(prdc(real, fake, 4)) == values(prdc(real * factor, fake * factor, 4))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e3, 1e30))
def test_a_far_generated_point_only_dilutes_density(seed, distance):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
    before = density_coverage(real, fake)
    far = np.concatenate([fake, np.full((1, 4), distance)])
    after = density_coverage(real, far)
    assert after.coverage == before.coverage
    assert after.density * 51 == pytest.approx(before.density * 50, rel=1e-12)


def test_degenerate_sets():
    rng = np.random.default_rng(1)
    real = rng.normal(size=(40, 3))
    one_image = np.repeat(rng.normal(size=(1, 3)), 30, axis=0)
    collapsed = prdc(real, one_image, 5)
    assert collapsed.recall == 0
    constant = prdc(one_image, real, 5)
    assert constant.density == constant.coverage == constant.precision == 0
    same = density_coverage(real, real, 5)
    # Each ball holds its centre and the k-1 nearer neighbours, not the k-th on its rim.
    assert (same.density, same.coverage) == (1.0, 1.0)


def test_k_plus_one_points_suffice():
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    assert values(prdc(real, fake, 5)) == exact_prdc(real, fake, 5)
    with pytest.raises(InputError, match="5 points; k = 5 needs at least 6"):
        prdc(real[:5], fake, 5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_storage_types(dtype):
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(30, 4)).astype(dtype), rng.normal(size=(25, 4)).astype(dtype)
    assert values(prdc(real, fake, 3)) == exact_prdc(real, fake, 3)


def test_bfloat16_tensors():
    torch = pytest.importorskip("torch")
    real = torch.randn(30, 4, generator=torch.manual_seed(0)).bfloat16()
    fake = torch.randn(30, 4, generator=torch.manual_seed(1)).bfloat16()
    expected = exact_prdc(real.float().numpy(), fake.float().numpy(), 3)
    assert values(prdc(real, fake, 3)) == expected


def test_one_member_against_a_prepared_reference():
    rng = np.random.default_rng(4)
    real, fake = rng.normal(size=(40, 4)), rng.normal(size=(3, 4))
    reference = prepare(real, 5)
    score = score_member(reference, fake)
    expected = exact_prdc(real, np.concatenate([fake] * 2), 5)
    assert (score.density, score.coverage) == (expected["density"], expected["coverage"])
    assert np.unpackbits(score.mask, count=40).mean() == score.coverage
    far = score_member(reference, fake * 1e25)
    assert (far.density, far.coverage) == (0, 0)


@pytest.mark.parametrize(
    ("real", "fake", "k", "message"),
    [
        (np.zeros((9, 3)), np.zeros((9, 4)), 5, "fake has 4 dimensions, the real features have 3"),
        (np.zeros((9, 3)), np.full((9, 3), np.nan), 5, "fake has 27 NaN or infinite values in 9"),
        (np.zeros((9, 3)), np.zeros((9, 3)), 0, "k must be at least 1"),
        (np.zeros((9, 3, 2)), np.zeros((9, 3)), 5, "must be"),
        (np.zeros((9, 3), complex), np.zeros((9, 3)), 5, "not complex128"),
    ],
)
def test_bad_input_is_named(real, fake, k, message):
    with pytest.raises(InputError, match=message):
        prdc(real, fake, k)


def test_unknown_backend():
    with pytest.raises(InputError, match="did you mean 'torch'"):
        prdc(np.eye(9), np.eye(9), backend="troch")


def test_kept_radii_give_the_same_scores_and_are_measured_once(tmp_path, monkeypatch):
    rng = np.random.default_rng(5)
    real = (rng.normal(size=(60, 4)) + 1e4).astype(np.float32)
    real[7] = real[8]
    fakes = [(rng.normal(size=(50, 4)) * spread + 1e4).astype(np.float32) for spread in (0.3, 1)]
    path = tmp_path / "radii.npz"
    plain = prepare(real, 3)
    first = prepare(real, 3, kept=path)
    with monkeypatch.context() as patch:
        patch.setattr("ensgan.metrics.reference.measure_balls", None)
        again = prepare(real, 3, kept=path)
    for fake in fakes:
        expected = score_member(plain, fake)
        for reference in (first, again):
            found = score_member(reference, fake)
            assert (found.density, found.coverage, found.precision) == (
                expected.density,
                expected.coverage,
                expected.precision,
            )
            assert np.array_equal(found.mask, expected.mask)
    other = prepare(real, 4, kept=path)  # another k: measured, and kept in its place
    assert score_member(other, fakes[0]).density == density_coverage(real, fakes[0], 4).density
    path.write_bytes(path.read_bytes()[:200])
    assert score_member(prepare(real, 3, kept=path), fakes[0]).density == (
        score_member(plain, fakes[0]).density
    )
