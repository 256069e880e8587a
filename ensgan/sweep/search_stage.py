"""The search of a sweep: its objectives, their form, a third one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ensgan.config import SearchSpec, SweepSpec
from ensgan.ensemble.weights import read_tensor_infos
from ensgan.errors import DataError, InputError
from ensgan.files import content_key
from ensgan.metrics import pair_precision
from ensgan.metrics.features import FeatureSource, open_features
from ensgan.search import (
    FormInputs,
    ObjectiveTables,
    ScoredFeatures,
    find_form,
    pool_key,
    search,
)
from ensgan.search.forms import COMPONENTS
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.inputs import Inputs, derive_seed
from ensgan.sweep.records import MemberResult
from ensgan.types import Front, PoolScores

REVISION = 1
"""Raise it when a change of this module changes its results."""
_ALWAYS = {"objectives": "paper", "components": 32, "third": None}
"""What settings were before they existed: keys of earlier sweeps do not name them."""


def mapped(path: Path) -> Callable[[], Any]:
    """Features as a function that maps their file: what a task elsewhere can carry."""
    return partial(np.load, path, mmap_mode="r", allow_pickle=False)


def find_front(
    folder: SweepFolder,
    spec: SweepSpec,
    scores: PoolScores,
    inputs: Inputs,
    members: Sequence[MemberResult],
    on_progress: Callable[[int, int], None],
) -> tuple[Front, Path]:
    """The Pareto front, and the table of all trials."""
    settings = spec.search
    size = settings.max_size if settings.max_size is None else min(settings.max_size, len(scores))
    costs = member_costs(settings, members)
    key = content_key(
        REVISION, pool_key(scores), _asked(settings), spec.seed, *([] if costs is None else [costs])
    )
    path = folder.file("search", f"front-{key}.json")
    trials = folder.file("search", f"trials-{key}.csv")
    known = _known_front(path, pool_key(scores)) if trials.exists() else None
    if known is not None:
        return known, trials
    front = search(
        scores,
        sampler=settings.sampler,
        trials=settings.trials,
        seed=derive_seed(spec.seed, "search"),
        objectives=objective_tables(
            settings.objectives,
            scores,
            mapped(inputs.reference),
            [mapped(member.features) for member in members],
            inter=settings.inter,
            components=settings.components,
            on_progress=on_progress,
        ),
        third=settings.third,
        costs=costs,
        min_size=settings.min_size,
        max_size=size,
        record=trials,
        on_progress=on_progress,
    )
    front.save(path)
    return front, trials


def _known_front(path: Path, pool: str) -> Front | None:
    """A front found before; None where there is none, or a damaged one, or another pool's."""
    try:
        front = Front.load(path)
    except DataError:
        return None
    return front if front.pool == pool else None


def _asked(settings: SearchSpec) -> dict[str, Any]:
    """The settings of a search without those that older sweeps could not have."""
    asked = settings.model_dump()
    return {name: value for name, value in asked.items() if _ALWAYS.get(name, ...) != value}


def objective_tables(
    form: str,
    scores: PoolScores,
    real: FeatureSource,
    fakes: Sequence[FeatureSource],
    *,
    inter: str = "symmetric",
    components: int = COMPONENTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> ObjectiveTables:
    """The tables of a form; features are opened only if it needs them.

    Args:
        form: its name.
        scores: of the pool.
        real, fakes: the features that were scored, in pool order.
        inter: form of Inter-d, for the forms that have it.
        components: for ``frechet``, see :func:`union_moments`.
        on_progress: called with (pairs done, pairs in all) while pairs are measured.

    Raises:
        InputError: an unknown form, or features of another pool.
    """
    features = ScoredFeatures(
        real=partial(open_features, real, "real"),
        fakes=[partial(open_features, f, n) for f, n in zip(fakes, scores.names, strict=True)],
        pair_precision=lambda: pair_precision(
            real, fakes, scores.names, scores.k, on_progress=on_progress
        ),
    )
    return find_form(form).tables(FormInputs(scores, inter, features, components))


def member_costs(
    settings: SearchSpec, members: Sequence[MemberResult]
) -> Mapping[str, float] | None:
    """What the third objective sums: stored numbers or sampling seconds of every member.

    ``parameters`` are the numbers in a member's weight file; ``seconds`` those that its images
    took when they were made. None where nothing is summed.

    Raises:
        IntegrityError: a weight file that cannot be read.
        InputError: members whose sampling was not timed.
    """
    if settings.third == "parameters":
        return {member.name: float(_stored_numbers(member.weights)) for member in members}
    if settings.third == "seconds":
        untimed = [member.name for member in members if "sample" not in member.seconds]
        if untimed:
            raise InputError(
                f"search.third: seconds, but sampling {', '.join(untimed)} was not timed: "
                "use members or parameters"
            )
        return {member.name: member.seconds["sample"] for member in members}
    return None


def _stored_numbers(path: Path) -> int:
    """How many numbers a safetensors file holds: its header says so."""
    return sum(info.size for info in read_tensor_infos(path).values())
