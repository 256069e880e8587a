"""Pools that grow: which earlier scores are still valid, decided by content keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from ensgan.errors import DataError, InputError
from ensgan.files import sha256_arrays
from ensgan.metrics.features import FeatureSource, PoolFeatures, PoolLabels, open_features
from ensgan.metrics.radii_task import Member
from ensgan.types import BoolArray, PoolScores, Resamples

_T = TypeVar("_T", PoolScores, Resamples)


def feature_contents(
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    names: Sequence[str],
    labels: PoolLabels | None = None,
) -> tuple[str, ...]:
    """SHA-256 over the features (and labels) of each set, the real one first.

    One set is in memory at a time.
    """
    sources = zip(("real features", *names), (real, *fakes), strict=True)
    contents = tuple(sha256_arrays(open_features(source, name)) for name, source in sources)
    return contents if labels is None else labelled_contents(contents, labels)


def labelled_contents(contents: Sequence[str], labels: PoolLabels) -> tuple[str, ...]:
    """Content keys that also stand for the labels: scores within classes depend on both."""
    return tuple(
        sha256_arrays(np.array(content), np.asarray(part))
        for content, part in zip(contents, (labels[0], *labels[1]), strict=True)
    )


def still_valid(
    known: PoolScores, pool: PoolFeatures, k: int, on_warning: Callable[[str], None]
) -> PoolScores | None:
    """The part of known scores that is still valid for a pool; None when nothing is.

    Args:
        known: earlier scores.
        pool: the members of now, with the content keys of all sets.
        k: neighbour that sets the radius.
        on_warning: called with one sentence when members have changed.

    Raises:
        DataError: the scores do not say what they are of, or were taken with other real points,
            another k or another extractor.
    """
    if not known.contents:
        raise DataError(
            "the scores to extend do not say what they are of (an older version wrote them): "
            "score the whole pool once without --extend"
        )
    # Radii belong to the real points, k and the features: one changed leaves no score valid.
    problems = [
        f"{what} ({before} then, {now} now)"
        for what, before, now in (
            ("real images or classes", known.contents[0][:12], pool.contents[0][:12]),
            ("k", str(known.k), str(k)),
            ("extractor", known.extractor or "unknown", pool.extractor or "unknown"),
        )
        if before != now
    ]
    if problems:
        raise DataError(
            f"the scores to extend were taken with other {', other '.join(problems)}: "
            "score the whole pool without --extend"
        )
    # By content, not by name: a member trained again has its old name and other images.
    now = dict(zip(pool.names, pool.contents[1:], strict=True))
    before = dict(zip(known.names, known.contents[1:], strict=True))
    changed = [name for name in known.names if name in now and now[name] != before[name]]
    if changed:
        on_warning(f"{', '.join(changed)} changed since they were scored: scored anew")
    kept = [name for name in known.names if now.get(name) == before[name]]
    return known.part(kept) if kept else None


def wanted_pairs(names: tuple[str, ...], known: Sequence[PoolScores]) -> BoolArray:
    """Upper triangle of sets [1+M,1+M] without the pairs already known."""
    size = 1 + len(names)
    wanted = np.triu(np.ones((size, size), np.bool_), 1)
    for part in known:
        # The real set counts as old: its pairs with old members are their density and coverage.
        old = np.array([True, *(name in part.names for name in names)])
        wanted[np.ix_(old, old)] = False
    return wanted


def check_usable(known: PoolScores, rounds: int, estimates: bool) -> None:
    """Refuse known scores that lack resamples asked for, or exactness.

    Raises:
        InputError: they hold another number of resamples, or estimates where none are wanted.
    """
    if known.estimated.any() and not estimates:
        raise InputError(
            "the scores to extend hold overlaps estimated with --approximate-inter: give it again, "
            "or score the whole pool without --extend"
        )
    held = 0 if known.resamples is None else len(known.resamples)
    if rounds and rounds != held:
        raise InputError(
            f"the scores to extend hold {held} resamples, not {rounds}: ask for "
            f"{'none' if held == 0 else held}, or score the whole pool without --extend"
        )


def check_known(known: PoolScores, members: tuple[Member, ...], k: int) -> None:
    """Refuse known scores of other features.

    Raises:
        DataError: another k, other counts.
    """
    # Python callers hand scores over without content keys: sizes at least must agree.
    counts = {member.name: member.points for member in members}
    differs = [
        name
        for name, count in zip(known.names, known.counts.tolist(), strict=True)
        if name in counts and counts[name] != count
    ]
    if known.k != k or known.n_real != members[0].points or differs:
        raise DataError(
            f"the known scores are of other features (k {known.k}, {known.n_real} real points"
            + (f", another count for {', '.join(differs)}" if differs else "")
            + "): score the whole pool again"
        )


def merged(scores: PoolScores, known: PoolScores) -> PoolScores:
    """``scores`` with the members and pairs of ``known`` filled in, as new arrays."""
    part = known.part([name for name in known.names if name in scores.names])
    # New members may stand between the old ones.
    rows = np.array([scores.names.index(name) for name in part.names])
    pairs = rows[:, None], rows
    single = dict.fromkeys(("density", "coverage", "masks"), rows)
    whole = _filled(scores, part, {**single, "directed": pairs})
    if whole.spread is not None:
        spread = whole.spread.copy()
        spread[pairs] = 0 if part.spread is None else part.spread
        whole = replace(whole, spread=spread)
    if scores.resamples is None or part.resamples is None:
        return whole
    places = {"density": np.s_[:, rows], "masks": np.s_[:, rows], "directed": (slice(None), *pairs)}
    return replace(whole, resamples=_filled(scores.resamples, part.resamples, places))


def _filled(into: _T, known: _T, places: Mapping[str, Any]) -> _T:
    """A copy with those places of its arrays taken from ``known``."""
    arrays = {field: getattr(into, field).copy() for field in places}
    for field, where in places.items():
        arrays[field][where] = getattr(known, field)
    return replace(into, **arrays)
