"""Splitting images at random so that no patient is in two splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ensgan.errors import DataError
from ensgan.types import Int64Array

SPLITS = ("train", "val", "test")


def stratified_split(
    labels: Int64Array,
    groups: Sequence[str],
    *,
    val_share: float,
    test_share: float,
    class_names: Sequence[str],
    seed: int,
) -> dict[str, Int64Array]:
    """Indices of the three splits; all images of a group (a patient) stay together.

    Groups are dealt out class by class (a group counts as its rarest class), each to the split
    that is furthest below its share of that class.

    Args:
        labels: int64 [n].
        groups: one name an image; "" means a group of its own.
        val_share, test_share: wanted shares of the images; a share of 0 gives an empty split.
        class_names: for messages.
        seed: decides everything that is random.

    Raises:
        DataError: a class has too few groups for the splits.
    """
    shares = np.array([1 - val_share - test_share, val_share, test_share])
    if shares.min() < 0 or shares[0] <= 0:
        raise DataError(
            f"val_share {val_share:g} and test_share {test_share:g} leave nothing to train on"
        )
    members = _members(groups)
    totals = np.bincount(labels, minlength=len(class_names))
    rarest = np.array([min(labels[rows], key=lambda label: totals[label]) for rows in members])
    needed = int((shares > 0).sum())
    for label, name in enumerate(class_names):
        if (rarest == label).sum() < needed:
            raise DataError(
                f"class '{name}' has {(rarest == label).sum()} patients or images of its own: "
                f"at least {needed} are needed to put it into {needed} splits; add images, merge "
                "classes, or give the splits yourself"
            )
    rng = np.random.default_rng(seed)
    chosen: list[list[Int64Array]] = [[], [], []]
    for label in range(len(class_names)):
        of_class = rng.permutation(np.flatnonzero(rarest == label))
        _deal([members[index] for index in of_class], shares, chosen)
    return {
        name: np.sort(np.concatenate(rows)) if rows else np.zeros(0, np.int64)
        for name, rows in zip(SPLITS, chosen, strict=True)
    }


def _members(groups: Sequence[str]) -> list[Int64Array]:
    """The image indices of each group."""
    names = np.array([group or f"\0{index}" for index, group in enumerate(groups)])
    _, group_of = np.unique(names, return_inverse=True)
    order = np.argsort(group_of, kind="stable").astype(np.int64)
    ends = np.cumsum(np.bincount(group_of))[:-1]
    return np.split(order, ends)


def _deal(
    groups: list[Int64Array], shares: np.typing.NDArray[np.float64], chosen: list[list[Int64Array]]
) -> None:
    """Give the groups of one class to the splits; each wanted split gets at least one."""
    counts = np.zeros(len(shares))
    wanted = shares * sum(len(group) for group in groups)
    open_splits = shares > 0
    for position, group in enumerate(groups):
        empty = open_splits & (counts == 0)
        left = len(groups) - position
        lacking = np.where(open_splits, (wanted - counts) / np.where(open_splits, wanted, 1), -2)
        if empty.sum() >= left:
            lacking = np.where(empty, lacking, -2)
        split = int(np.argmax(lacking))
        counts[split] += len(group)
        chosen[split].append(group)


def shared_groups(groups: Sequence[str], split_of: Sequence[str]) -> list[int]:
    """Indices of images whose group occurs in another split as well."""
    splits: dict[str, set[str]] = {}
    for group, split in zip(groups, split_of, strict=True):
        splits.setdefault(group, set()).add(split)
    return [index for index, group in enumerate(groups) if group and len(splits[group]) > 1]
