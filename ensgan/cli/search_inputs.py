"""What ``ensgan search`` reads besides the scores: costs, features for other objectives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.cli.output import progress
from ensgan.errors import InputError, unknown_name

if TYPE_CHECKING:
    from ensgan.search import Budget, ObjectiveTables
    from ensgan.types import PoolScores

FORMS = ("density-coverage", "precision-recall", "frechet")


def read_costs(path: Path | None) -> Mapping[str, float] | None:
    """The cost of every member by name, from a JSON object."""
    from ensgan.files import read_json

    if path is None:
        return None
    table = read_json(path)
    if not isinstance(table, dict) or not all(
        isinstance(cost, int | float) and not isinstance(cost, bool) for cost in table.values()
    ):
        raise InputError(f"{path} must be one JSON object of numbers by member name")
    return {str(name): float(cost) for name, cost in table.items()}


def make_budget(
    limit: float | None, costs: Mapping[str, float] | None, third: str | None
) -> Budget | None:
    """The budget, if there is one; costs alone make sense with a third objective only."""
    from ensgan.search import Budget

    if limit is None:
        if costs is not None and third != "cost":
            raise InputError("--costs goes with --budget or with --third cost: add one of them")
        return None
    if costs is None:
        raise InputError("--budget needs the cost of every member: add --costs costs.json")
    return Budget(costs, limit, "cost")


def make_objectives(
    form: str, scores: PoolScores, features: Path | None, components: int
) -> ObjectiveTables | None:
    """Tables of another form of the objectives; None for density and coverage."""
    if form not in FORMS:
        raise InputError(unknown_name("form of the objectives", form, FORMS))
    if form == "density-coverage":
        if features is not None:
            raise InputError("--features goes with --objectives precision-recall or frechet")
        return None
    if features is None:
        raise InputError(
            f"--objectives {form} needs the features that were scored: add --features features.npz"
        )
    return _tables(form, scores, features, components)


def _tables(form: str, scores: PoolScores, features: Path, components: int) -> ObjectiveTables:
    from ensgan.metrics import pair_precision
    from ensgan.metrics.features import open_features
    from ensgan.metrics.files import load_pool
    from ensgan.search import frechet_tables, tables_from_precision_recall, union_moments

    pool = load_pool(features)
    if tuple(pool.names) != scores.names:
        raise InputError(
            f"{features} holds other members than the scores ({len(pool.names)} and "
            f"{len(scores)}, or another order): use the features that were scored"
        )
    if form == "frechet":
        fakes = [open_features(f, n) for f, n in zip(pool.fakes, pool.names, strict=True)]
        real = open_features(pool.real, "real")
        return frechet_tables(scores, union_moments(real, fakes, components))
    with progress("precision and recall", "pairs") as report:
        found = pair_precision(pool.real, pool.fakes, pool.names, scores.k, on_progress=report)
    return tables_from_precision_recall(scores, found)
