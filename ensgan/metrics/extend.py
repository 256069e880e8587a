"""Pools that grow: which known scores still hold, told by the content of the sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ensgan.errors import DataError, InputError
from ensgan.files import sha256_arrays
from ensgan.metrics.features import FeatureSource, open_features
from ensgan.metrics.radii_task import Member
from ensgan.types import BoolArray, PoolScores, Resamples

_A = TypeVar("_A", bound=np.generic)


def feature_contents(
    real: FeatureSource, fakes: Sequence[FeatureSource], names: Sequence[str]
) -> tuple[str, ...]:
    """SHA-256 over the features of the real set and of each member, one set in memory at a time."""
    sources = zip(("real features", *names), (real, *fakes), strict=True)
    return tuple(sha256_arrays(open_features(source, name)) for name, source in sources)


def still_valid(
    known: PoolScores,
    *,
    names: Sequence[str],
    contents: Sequence[str],
    k: int,
    extractor: str,
    on_warning: Callable[[str], None],
) -> PoolScores | None:
    """The part of known scores that can be taken over into a pool; None when there is nothing.

    Args:
        known: earlier scores.
        names: members of the pool.
        contents: content keys of the real set and of each member.
        k, extractor: settings of the pool.
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
    problems = [
        f"{what} ({before} then, {now} now)"
        for what, before, now in (
            ("real images", known.contents[0][:12], contents[0][:12]),
            ("k", str(known.k), str(k)),
            ("extractor", known.extractor or "unknown", extractor or "unknown"),
        )
        if before != now
    ]
    if problems:
        raise DataError(
            f"the scores to extend were taken with other {', other '.join(problems)}: "
            "score the whole pool without --extend"
        )
    now = dict(zip(names, contents[1:], strict=True))
    before = dict(zip(known.names, known.contents[1:], strict=True))
    changed = [name for name in known.names if name in now and now[name] != before[name]]
    if changed:
        on_warning(f"{', '.join(changed)} changed since they were scored: scored anew")
    kept = [name for name in known.names if now.get(name) == before[name]]
    return known.part(kept) if kept else None


def wanted_pairs(names: tuple[str, ...], known: PoolScores | None) -> BoolArray:
    """Upper triangle of sets [1+M,1+M] without the pairs already known."""
    size = 1 + len(names)
    wanted = np.triu(np.ones((size, size), np.bool_), 1)
    if known is not None:
        old = np.array([True, *(name in known.names for name in names)])
        wanted[np.ix_(old, old)] = False
    return wanted


def check_resamples(known: PoolScores, rounds: int) -> None:
    """Refuse known scores that lack resamples asked for.

    Raises:
        InputError: they hold another number of them.
    """
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
    counts = {member.name: len(member.balls) for member in members}
    differs = [
        name
        for name, count in zip(known.names, known.counts.tolist(), strict=True)
        if name in counts and counts[name] != count
    ]
    if known.k != k or known.n_real != len(members[0].balls) or differs:
        raise DataError(
            f"the known scores are of other features (k {known.k}, {known.n_real} real points"
            + (f", another count for {', '.join(differs)}" if differs else "")
            + "): score the whole pool again"
        )


def merged(scores: PoolScores, known: PoolScores) -> PoolScores:
    """``scores`` with the members and pairs of ``known`` filled in, as new arrays."""
    place = {name: index for index, name in enumerate(scores.names)}
    old = [index for index, name in enumerate(known.names) if name in place]
    new = [place[known.names[index]] for index in old]
    to, of = np.ix_(new, new), np.ix_(old, old)
    resamples = scores.resamples
    if resamples is not None and known.resamples is not None:
        before = known.resamples
        resamples = Resamples(
            resamples.points,
            _filled(resamples.masks, np.s_[:, new], before.masks[:, old]),
            _filled(resamples.density, np.s_[:, new], before.density[:, old]),
            _filled(resamples.directed, (slice(None), *to), before.directed[(slice(None), *of)]),
        )
    return replace(
        scores,
        density=_filled(scores.density, new, known.density[old]),
        coverage=_filled(scores.coverage, new, known.coverage[old]),
        masks=_filled(scores.masks, new, known.masks[old]),
        directed=_filled(scores.directed, to, known.directed[of]),
        overlap=_filled(scores.overlap, to, known.overlap[of]),
        resamples=resamples,
    )


def _filled(array: npt.NDArray[_A], where: Any, values: npt.NDArray[_A]) -> npt.NDArray[_A]:
    """A copy with some places set."""
    copy = array.copy()
    copy[where] = values
    return copy
