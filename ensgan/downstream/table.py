"""The downstream table: means, spreads, intervals and paired tests over repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ensgan.downstream.statistics import holm, mean_interval, paired_t_test
from ensgan.downstream.strategy import Kind
from ensgan.errors import InputError
from ensgan.types import Float64Array

if TYPE_CHECKING:
    from ensgan.downstream.repeat import RepeatResult

TESTED = ("accuracy", "g_mean", "auc")
"""Metrics on which strategies are tested against the reference, each corrected by itself."""
TESTED_FROM = 5
"""Fewest repeats that are tested: of fewer a p says more about luck than about strategies."""
ENOUGH = 0.97
"""Share of the long-trained classifier's AUC that the classifier on real images must reach."""


@dataclass(frozen=True)
class Spread:
    """One metric over the repeats.

    Attributes:
        mean: over repeats (draws of one strategy averaged first).
        sd: sample standard deviation over repeats, None with one repeat.
        low, high: 95 % interval of the mean within [0, 1], see :func:`mean_interval`; None with
            one repeat.
        difference: mean of the paired difference to the reference, None without one.
        p: two-sided paired t-test of that difference, corrected by Holm for the number of
            strategies; None where it was not tested or cannot be (fewer than five pairs, no
            spread).
    """

    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class StrategyRow:
    """One strategy.

    Attributes:
        strategy: its name; draws of ``random:K`` are one row.
        kind: what it trains on.
        members: its generators (with several draws, of all of them).
        draws: draws averaged in each repeat.
        repeats: number of repeats.
        metrics: test-split metrics by name.
        val_score: balanced accuracy on the validation split.
        gap_closed: (strategy − all) / (real − all) of the means by metric; None without both
            rows, or where real is not better than all.
        epochs, seconds: means over the runs.
        final_weights: mean chances at the end, for ``dynamic``.
    """

    strategy: str
    kind: Kind
    members: tuple[str, ...]
    draws: int
    repeats: int
    metrics: Mapping[str, Spread]
    val_score: Spread
    gap_closed: Mapping[str, float | None]
    epochs: float
    seconds: float
    final_weights: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True)
class DownstreamTable:
    """All strategies, in the order they were evaluated.

    Attributes:
        reference: the strategy the others are tested against; None when it was not evaluated.
        rows: one per strategy.
        results: the single runs behind them.
        possible_auc: what real images reach with ten times the steps, where that was measured.
    """

    reference: str | None
    rows: tuple[StrategyRow, ...]
    results: tuple[RepeatResult, ...] = ()

    possible_auc: float | None = None

    @property
    def undecided(self) -> str:
        """Why these classifiers cannot tell strategies apart; empty where they can.

        They can where ``real`` reaches 0.97 of ``possible_auc``. Without the row ``real``, or
        where ``possible_auc`` was not measured, nothing is known and nothing is said.
        """
        reached = {row.strategy: row.metrics["auc"].mean for row in self.rows}.get("real")
        possible = self.possible_auc
        if reached is None or possible is None or reached >= ENOUGH * possible:
            return ""
        return (
            f"undecided: on real images these classifiers reach an AUC of {reached:.3f}, with ten "
            f"times the steps {possible:.3f}; they are trained too little to tell strategies "
            "apart: raise epochs or images_per_epoch"
        )

    @property
    def verdict(self) -> str:
        """What the tests of AUC say of the reference, in one sentence; empty without one."""
        if self.undecided or self.reference is None:
            return self.undecided
        repeats = self.row(self.reference).repeats
        others = [row for row in self.rows if row.strategy != self.reference]
        if repeats < TESTED_FROM:
            return f"no verdict: {repeats} repeats are too few to test, {TESTED_FROM} are not"
        groups: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
        for row in others:
            auc = row.metrics["auc"]
            significant = auc.p is not None and auc.p < 0.05 and auc.difference is not None
            better = (auc.difference or 0.0) > 0
            group = ("better" if better else "worse") if significant else "not told apart"
            groups[group].append(row.strategy)
        words = [f"{group}: {', '.join(names) or 'none'}" for group, names in groups.items()]
        return f"by AUC at 5 % (Holm, {repeats} repeats), against {self.reference}: " + "; ".join(
            words
        )

    def __iter__(self) -> Any:
        return iter(self.rows)

    def row(self, strategy: str) -> StrategyRow:
        """The row of one strategy.

        Raises:
            InputError: it was not evaluated.
        """
        for row in self.rows:
            if row.strategy == strategy:
                return row
        known = ", ".join(row.strategy for row in self.rows)
        raise InputError(f"strategy '{strategy}' was not evaluated; evaluated are {known}")

    def to_json(self) -> dict[str, Any]:
        """The table and every single run as JSON-able values."""
        return {
            "reference": self.reference,
            "test": "paired t, two-sided, Holm-corrected over strategies, from five repeats on",
            "undecided": self.undecided,
            "verdict": self.verdict,
            "possible_auc": self.possible_auc,
            "strategies": [row.to_json() for row in self.rows],
            "runs": [result.to_json() for result in self.results],
        }


@dataclass(frozen=True)
class _Group:
    """All runs of one strategy: metric values by name, float64 [repeats], draws averaged."""

    runs: tuple[RepeatResult, ...]
    repeats: tuple[int, ...]
    values: Mapping[str, Float64Array]
    val_score: Float64Array


def needs_long_real(results: Sequence[RepeatResult]) -> bool:
    """Whether one with ten times the steps would tell if the classifiers were trained enough.

    No AUC is above 1: where ``real`` reaches 0.97 by itself, ten times the steps tell nothing more.
    """
    reached = [run.metrics["auc"] for run in results if run.strategy.name == "real"]
    return bool(reached) and float(np.mean(reached)) < ENOUGH


def summarise(
    results: Sequence[RepeatResult],
    reference: str = "selected",
    possible_auc: float | None = None,
) -> DownstreamTable:
    """Compare strategies over their repeats.

    Args:
        results: every run; strategies appear in the order of their first run.
        reference: the strategy the others are tested against, pairing equal repeats.
        possible_auc: what real images reach with ten times the steps, where that was measured.

    Raises:
        InputError: no results, a run given twice, or draws of a strategy with other repeats.
    """
    if not results:
        raise InputError("there are no downstream results to summarise")
    names = tuple(dict.fromkeys(result.strategy.group for result in results))
    # Classifiers of an earlier version, found on disk, know fewer metrics.
    known = [m for m in results[0].metrics if all(m in run.metrics for run in results)]
    groups = {
        name: _group([result for result in results if result.strategy.group == name], known)
        for name in names
    }
    base = groups.get(reference)
    p_values = {metric: _tests(groups, reference, metric) for metric in TESTED}
    rows = []
    for name, group in groups.items():
        metrics = {}
        for metric, values in group.values.items():
            difference = None
            if base is not None and name != reference:
                pairs = _paired(group, base, metric)
                difference = float(pairs.mean()) if len(pairs) else None
            p = p_values[metric].get(name) if metric in TESTED else None
            metrics[metric] = _spread(values, difference, p)
        rows.append(_row(name, group, metrics, groups))
    named = None if base is None else reference
    return DownstreamTable(named, tuple(rows), tuple(results), possible_auc)


def _group(runs: Sequence[RepeatResult], metrics: Sequence[str]) -> _Group:
    seen = [(run.strategy.name, run.repeat) for run in runs]
    if len(set(seen)) != len(seen):
        twice = next(key for key in seen if seen.count(key) > 1)
        raise InputError(f"strategy '{twice[0]}' has repeat {twice[1]} twice")
    draws = {run.strategy.name for run in runs}
    repeats = tuple(sorted({run.repeat for run in runs}))
    if len(runs) != len(draws) * len(repeats):
        raise InputError(
            f"the draws of strategy '{runs[0].strategy.group}' have different repeats: "
            "evaluate all of them equally often"
        )
    by_repeat = [[run for run in runs if run.repeat == repeat] for repeat in repeats]
    values = {
        metric: np.array([np.mean([run.metrics[metric] for run in same]) for same in by_repeat])
        for metric in metrics
    }
    val_score = np.array([np.mean([run.val_score for run in same]) for same in by_repeat])
    return _Group(tuple(runs), repeats, values, val_score)


def _paired(group: _Group, base: _Group, metric: str) -> Float64Array:
    """Differences to the reference at the repeats both have."""
    common = sorted(set(group.repeats) & set(base.repeats))
    own = [group.repeats.index(repeat) for repeat in common]
    other = [base.repeats.index(repeat) for repeat in common]
    return np.asarray(group.values[metric][own] - base.values[metric][other], np.float64)


def _tests(groups: Mapping[str, _Group], reference: str, metric: str) -> dict[str, float]:
    """Holm-corrected p of every strategy that can be tested."""
    if reference not in groups:
        return {}
    raw = {}
    for name, group in groups.items():
        if name == reference:
            continue
        pairs = _paired(group, groups[reference], metric)
        p = paired_t_test(pairs) if len(pairs) >= TESTED_FROM else None
        if p is not None:
            raw[name] = p
    return dict(zip(raw, holm(list(raw.values())), strict=True))


def _spread(
    values: Float64Array, difference: float | None = None, p: float | None = None
) -> Spread:
    interval = mean_interval(values)
    if interval is None:
        return Spread(float(values.mean()), difference=difference, p=p)
    return Spread(float(values.mean()), float(values.std(ddof=1)), *interval, difference, p)


def _row(
    name: str, group: _Group, metrics: Mapping[str, Spread], groups: Mapping[str, _Group]
) -> StrategyRow:
    runs = group.runs
    final = [run.final_weights for run in runs if run.final_weights is not None]
    return StrategyRow(
        name,
        runs[0].strategy.kind,
        tuple(dict.fromkeys(member for run in runs for member in run.strategy.members)),
        len({run.strategy.name for run in runs}),
        len(group.repeats),
        metrics,
        _spread(group.val_score),
        {metric: _gap(metric, group, groups) for metric in TESTED},
        float(np.mean([run.epochs for run in runs])),
        float(np.mean([run.seconds for run in runs])),
        tuple(np.mean(final, axis=0).tolist()) if final else None,
    )


def _gap(metric: str, group: _Group, groups: Mapping[str, _Group]) -> float | None:
    if "real" not in groups or "all" not in groups:
        return None
    upper = float(groups["real"].values[metric].mean())
    lower = float(groups["all"].values[metric].mean())
    if upper - lower <= 1e-9:
        return None
    return (float(group.values[metric].mean()) - lower) / (upper - lower)
