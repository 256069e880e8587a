"""What ``ensgan search`` reads besides the scores: costs, features for other objectives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ensgan.cli.output import progress, warn
from ensgan.errors import InputError, unknown_name

if TYPE_CHECKING:
    from ensgan.search import Budget, ObjectiveTables
    from ensgan.types import PoolScores


def read_scores(path: Path) -> PoolScores:
    """The scores of a pool; fast ones are named as such."""
    from ensgan.types import PoolScores

    pool = PoolScores.load(path)
    if pool.fast:
        warn(
            f"{path} holds fast scores (--fast): ensembles that differ by less than the error it "
            "showed may change places; score without --fast to be exact"
        )
    return pool


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
        if costs is not None and third in (None, "members"):
            raise InputError("--costs goes with --budget or with --third cost: add one of them")
        return None
    if costs is None:
        raise InputError("--budget needs the cost of every member: add --costs costs.json")
    return Budget(costs, limit, "cost")


def make_objectives(
    form: str, scores: PoolScores, features: Path | None, components: int
) -> ObjectiveTables | None:
    """Tables of another form of the objectives; None for density and coverage."""
    from ensgan.sweep.search_stage import FORMS

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


def _tables(
    form: str, scores: PoolScores, features: Path, components: int
) -> ObjectiveTables | None:
    from ensgan.metrics.files import load_pool
    from ensgan.sweep.search_stage import objective_tables

    pool = load_pool(features)
    if tuple(pool.names) != scores.names:
        raise InputError(
            f"{features} holds other members than the scores ({len(pool.names)} and "
            f"{len(scores)}, or another order): use the features that were scored"
        )
    with progress(form, "pairs") as report:
        return objective_tables(
            form, scores, pool.real, pool.fakes, components=components, on_progress=report
        )
