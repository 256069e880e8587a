"""Pools that grow: which known scores still hold, told by the content of the sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ensgan.errors import DataError
from ensgan.files import sha256_arrays
from ensgan.metrics.features import FeatureSource, open_features
from ensgan.types import PoolScores


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
