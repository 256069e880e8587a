"""Random splits: complete, by class, and never through a patient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensgan.data.records import shared_groups, stratified_split
from ensgan.errors import DataError

# What commit b6e69d2 gave.
EARLIER = {
    "val": [16, 19, 52, 53, 55, 56, 59],
    "test": [4, 5, 6, 7, 17, 18, 29, 30, 31, 36, 39, 45, 47],
}


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=12, max_size=40),
    seed=st.integers(0, 5),
    shares=st.sampled_from([(0.1, 0.2), (0.3, 0.3), (0.0, 0.5)]),
)
def test_splits_are_a_partition_that_keeps_groups(
    sizes: list[int], seed: int, shares: tuple[float, float]
) -> None:
    groups = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    labels = np.array([int(group[1:]) % 2 for group in groups])
    parts = stratified_split(
        labels, groups, val_share=shares[0], test_share=shares[1], class_names="ab", seed=seed
    )
    together = np.concatenate(list(parts.values()))
    assert sorted(together.tolist()) == list(range(len(groups)))
    split_of = np.empty(len(groups), object)
    for name, rows in parts.items():
        split_of[rows] = name
    assert shared_groups(groups, split_of.tolist()) == []
    for name, share in zip(("train", "val", "test"), (1 - sum(shares), *shares), strict=True):
        assert (set(labels[parts[name]]) == {0, 1}) == (share > 0)


def test_shares_are_met_and_the_seed_decides() -> None:
    labels = np.repeat([0, 1], [700, 300])
    groups = [""] * 1000

    def split(seed: int) -> dict[str, np.ndarray]:
        return stratified_split(
            labels, groups, val_share=0.1, test_share=0.2, class_names="ab", seed=seed
        )

    parts = split(0)
    assert [len(rows) for rows in parts.values()] == [700, 100, 200]
    assert [int(labels[rows].sum()) for rows in parts.values()] == [210, 30, 60]
    assert np.array_equal(split(0)["test"], parts["test"])
    assert not np.array_equal(split(1)["test"], parts["test"])


def test_a_patient_with_both_classes_stays_whole() -> None:
    labels = np.array([0, 1] * 3 + [0] * 10 + [1] * 10)
    groups = ["x"] * 6 + [""] * 20
    parts = stratified_split(
        labels, groups, val_share=0.2, test_share=0.2, class_names="ab", seed=0
    )
    assert sum(set(range(6)) <= set(rows.tolist()) for rows in parts.values()) == 1


def test_what_cannot_be_split_is_refused() -> None:
    labels, groups = np.array([0] * 9 + [1] * 4), ["a"] * 9 + ["b", "b", "c", "c"]
    with pytest.raises(DataError, match="class 'x' has 1 patients"):
        stratified_split(labels, groups, val_share=0.1, test_share=0.2, class_names="xy", seed=0)
    with pytest.raises(DataError, match="nothing to train on"):
        stratified_split(labels, groups, val_share=0.5, test_share=0.5, class_names="xy", seed=0)


def test_patients_with_images_of_all_classes_are_split_whole() -> None:
    """Every patient has both classes: no class has patients of its own."""
    rng = np.random.default_rng(0)
    groups = [f"p{index // 6}" for index in range(240)]
    labels = np.array([0, 0, 0, 0, 1, 1] * 40)
    parts = stratified_split(
        labels, groups, val_share=0.1, test_share=0.2, class_names="ab", seed=0
    )
    for rows, share in zip(parts.values(), (0.7, 0.1, 0.2), strict=True):
        assert len(rows) == pytest.approx(240 * share, abs=6)
        assert labels[rows].mean() == pytest.approx(1 / 3)
        assert {groups[row] for row in rows}.isdisjoint(
            {groups[row] for row in range(240) if row not in set(rows.tolist())}
        )
    mixed = rng.integers(0, 4, 240)
    parts = stratified_split(
        mixed, groups, val_share=0.1, test_share=0.2, class_names="abcd", seed=1
    )
    for rows, share in zip(parts.values(), (0.7, 0.1, 0.2), strict=True):
        assert set(mixed[rows]) == {0, 1, 2, 3}
        assert len(rows) == pytest.approx(240 * share, abs=12)


def test_splits_of_patients_with_one_class_are_those_of_earlier_versions() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1, 1, 0] * 6)
    groups = [f"{label}-{index // 4}" for index, label in enumerate(labels)]
    parts = stratified_split(
        labels, groups, val_share=0.1, test_share=0.2, class_names="ab", seed=3
    )
    assert {name: rows.tolist() for name, rows in parts.items() if name != "train"} == EARLIER
