"""The downstream table: means, spreads, intervals and paired tests over repeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ensgan.downstream.statistics import RANKED, holm, mean_interval, middle, paired_t_test
from ensgan.downstream.strategy import NO_WEIGHTS, Kind
from ensgan.errors import InputError
from ensgan.text import counted
from ensgan.types import Float64Array

if TYPE_CHECKING:
    from ensgan.downstream.classifier import RepeatResult

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
        test_images: 95 % interval of the mean AUC over bootstraps of the test images, all repeats
            as they are; None for results of earlier versions.
        test_difference: the same of its paired difference to the reference.
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
    test_images: tuple[float, float] | None = None
    test_difference: tuple[float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as JSON-able values."""
        return {**asdict(self), **NO_WEIGHTS}


@dataclass(frozen=True)
class DownstreamTable:
    """All strategies, in the order they were evaluated.

    Attributes:
        reference: the strategy the others are tested against; None when it was not evaluated.
        rows: one per strategy.
        results: the single runs behind them.
        possible_auc: what real images reach with ten times the steps, where that was measured.
        sampling: where the members' images came from, in a sentence; empty where it is unknown.
    """

    reference: str | None
    rows: tuple[StrategyRow, ...]
    results: tuple[RepeatResult, ...] = ()
    possible_auc: float | None = None
    sampling: str = ""

    @property
    def undecided(self) -> str:
        """Why these classifiers cannot tell strategies apart; empty where they can.

        They can where ``real`` reaches 0.97 of ``possible_auc``. Without the row ``real``, or
        where ``possible_auc`` was not measured, the answer is empty.
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
        if (repeats := self.row(self.reference).repeats) < TESTED_FROM:
            return f"no verdict: {counted(repeats, 'repeat')} cannot decide, {TESTED_FROM} may"
        groups: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
        for row in self.rows:
            auc, group = row.metrics["auc"], "not told apart"
            if auc.p is not None and auc.difference is not None and auc.p < 0.05:
                group = "better" if auc.difference > 0 else "worse"
            if row.strategy != self.reference:
                groups[group].append(row.strategy)
        words = [f"{group}: {', '.join(names) or 'none'}" for group, names in groups.items()]
        where = f"by AUC at 5 % (Holm, {repeats} repeats), against {self.reference}"
        return f"{where}: {'; '.join(words)}"

    @property
    def cautions(self) -> tuple[str, ...]:
        """What makes the table worth less than it looks: one sentence each, without a full stop.

        A class that even the classifiers on real images never find, and ways to use the same pool
        that are ahead of the reference by the mean of :data:`RANKED`.
        """
        sentences, rows = [], {row.strategy: row for row in self.rows}
        real = rows.get("real")
        if real is not None and real.metrics["g_mean"].mean <= 1e-9:
            sentences.append(
                "even the classifiers on real images miss a whole class (g-mean 0.000, accuracy "
                f"{real.metrics['accuracy'].mean:.3f}): accuracy and g-mean tell nothing here"
            )
        if self.reference is not None:
            of_reference = rows[self.reference].metrics[RANKED].mean
            ahead = [
                f"{row.strategy} ({row.metrics[RANKED].mean:.3f})"
                for row in self.ranked()
                if row.kind == "synthetic" and row.metrics[RANKED].mean > of_reference
            ]
            if ahead:
                sentences.append(f"G* ({of_reference:.3f}) is behind {', '.join(ahead)} by AUC")
        return tuple(sentences)

    def ranked(self) -> list[StrategyRow]:
        """The rows, the best by :data:`RANKED` first."""
        return sorted(self.rows, key=lambda row: -row.metrics[RANKED].mean)

    def __iter__(self) -> Iterator[StrategyRow]:
        return iter(self.rows)

    def row(self, strategy: str) -> StrategyRow:
        """The row of one strategy.

        Raises:
            InputError: it was not evaluated.
        """
        rows = {row.strategy: row for row in self.rows}
        if strategy not in rows:
            known = ", ".join(rows)
            raise InputError(f"strategy '{strategy}' was not evaluated; evaluated are {known}")
        return rows[strategy]

    def to_json(self) -> dict[str, Any]:
        """The table and every single run as JSON-able values."""
        return {
            "reference": self.reference,
            "test": "paired t, two-sided, Holm-corrected over strategies, from five repeats on",
            "undecided": self.undecided,
            "verdict": self.verdict,
            "cautions": list(self.cautions),
            "possible_auc": self.possible_auc,
            "sampling": self.sampling,
            "strategies": [row.to_json() for row in self.rows],
            "runs": [result.to_json() for result in self.results],
        }


def needs_long_real(results: Sequence[RepeatResult]) -> bool:
    """Whether a classifier on real images with ten times the steps would show undertraining.

    No AUC is above 1: where ``real`` reaches 0.97 by itself, ten times the steps tell nothing more.
    """
    reached = [run.metrics["auc"] for run in results if run.strategy.name == "real"]
    return bool(reached) and float(np.mean(reached)) < ENOUGH


def summarise(
    results: Sequence[RepeatResult], reference: str = "selected", possible_auc: float | None = None
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
    by_name: dict[str, list[RepeatResult]] = {}
    for result in results:
        by_name.setdefault(result.strategy.group, []).append(result)
    # Results on disk of an earlier version know fewer metrics.
    known = [m for m in results[0].metrics if all(m in run.metrics for run in results)]
    groups = {name: _group(runs, known) for name, runs in by_name.items()}
    spreads: dict[str, dict[str, Spread]] = {name: {} for name in groups}
    for metric in known:
        differences = _differences(groups, reference, metric)
        p_values = _corrected(differences) if metric in TESTED else {}
        for name, group in groups.items():
            values = group.values[metric]
            spreads[name][metric] = _spread(values, differences.get(name), p_values.get(name))
    named = reference if reference in groups else None
    rows = tuple(_row(name, spreads[name], groups, named) for name in groups)
    return DownstreamTable(named, rows, tuple(results), possible_auc)


@dataclass(frozen=True)
class _Group:
    """All runs of one strategy: metrics and ``val_score``, float64 [repeats], draws averaged."""

    runs: Sequence[RepeatResult]
    repeats: tuple[int, ...]
    values: Mapping[str, Float64Array]

    @property
    def resampled(self) -> Float64Array | None:
        """Mean AUC on each bootstrap of the test images; None where a run has none."""
        if not all(run.resampled_auc for run in self.runs):
            return None
        means: Float64Array = np.mean([run.resampled_auc for run in self.runs], axis=0)
        return means


def _group(runs: Sequence[RepeatResult], metrics: Sequence[str]) -> _Group:
    (twice, times), *_ = Counter((run.strategy.name, run.repeat) for run in runs).most_common(1)
    if times > 1:
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
    values["val_score"] = np.array([np.mean([r.val_score for r in same]) for same in by_repeat])
    return _Group(runs, repeats, values)


def _differences(
    groups: Mapping[str, _Group], reference: str, metric: str
) -> dict[str, Float64Array]:
    """Differences of every other strategy to the reference, at the repeats both have."""
    if reference not in groups:
        return {}
    base, pairs = groups[reference], {}
    for name, group in groups.items():
        _, here, there = np.intersect1d(group.repeats, base.repeats, return_indices=True)
        if name != reference and len(here):
            pairs[name] = group.values[metric][here] - base.values[metric][there]
    return pairs


def _corrected(differences: Mapping[str, Float64Array]) -> dict[str, float]:
    """Holm-corrected p of every strategy that can be tested."""
    tested = {name: pairs for name, pairs in differences.items() if len(pairs) >= TESTED_FROM}
    p_values = {name: paired_t_test(pairs) for name, pairs in tested.items()}
    raw = {name: p for name, p in p_values.items() if p is not None}
    return dict(zip(raw, holm(list(raw.values())), strict=True))


def _spread(
    values: Float64Array, differences: Float64Array | None = None, p: float | None = None
) -> Spread:
    difference = None if differences is None else float(differences.mean())
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return Spread(float(values.mean()), sd, *mean_interval(values), difference, p)


def _row(
    name: str, metrics: Mapping[str, Spread], groups: Mapping[str, _Group], reference: str | None
) -> StrategyRow:
    group = groups[name]
    runs, resampled = group.runs, group.resampled
    base = None if reference in (None, name) else groups[reference].resampled
    return StrategyRow(
        name,
        runs[0].strategy.kind,
        tuple(dict.fromkeys(member for run in runs for member in run.strategy.members)),
        len({run.strategy.name for run in runs}),
        len(group.repeats),
        metrics,
        _spread(group.values["val_score"]),
        {metric: _gap(metric, group, groups) for metric in TESTED},
        float(np.mean([run.epochs for run in runs])),
        float(np.mean([run.seconds for run in runs])),
        None if resampled is None else middle(resampled),
        None if resampled is None or base is None else middle(resampled - base),
    )


def _gap(metric: str, group: _Group, groups: Mapping[str, _Group]) -> float | None:
    if "real" not in groups or "all" not in groups:
        return None
    three = (groups["real"], groups["all"], group)
    upper, lower, mean = (float(one.values[metric].mean()) for one in three)
    return None if upper - lower <= 1e-9 else (mean - lower) / (upper - lower)
