"""A study as a Markdown page: everything on it comes from results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ensgan.downstream import Spread, StrategyRow
from ensgan.report.study import METRICS, StudyPart, objectives
from ensgan.report.study_plots import WORDS, correlation_words


@dataclass(frozen=True)
class Circumstances:
    """Under what a study was made.

    Attributes:
        command: as it was typed, without paths of the machine.
        commit: of the code; empty when not known.
        date: day and time, UTC.
        machine: processor, cores, memory, load, versions.
        seconds: wall time of the command that wrote the page; what was on disk cost nothing.
    """

    command: str
    commit: str
    date: str
    machine: str
    seconds: float


def study_page(
    title: str,
    parts: Sequence[StudyPart],
    figures: Mapping[str, Sequence[str]],
    circumstances: Circumstances,
    notes: str = "",
) -> str:
    """The page.

    Args:
        title: its heading.
        parts: one an extractor.
        figures: by the title of a part, the picture files to show, relative to the page.
        circumstances: when, where and how.
        notes: Markdown of the author's, put under a heading of its own.
    """
    blocks = [f"# {title}", _how(parts, circumstances), _summary(parts)]
    for part in parts:
        blocks.append(f"## {part.title}")
        blocks.append(_chosen(part))
        blocks.append(_table(part))
        blocks += [f"![{part.title}]({name})" for name in figures[part.title]]
        blocks.append(_usefulness(part))
    if notes.strip():
        blocks.append(f"## Notes\n\n{notes.strip()}")
    blocks.append(_reading())
    return "\n\n".join(blocks) + "\n"


def _how(parts: Sequence[StudyPart], at: Circumstances) -> str:
    evaluation = parts[0].evaluation
    sweep, options = evaluation.sweep, evaluation.options
    spec, classifier = sweep.spec, options.classifier
    sizes = {name: len(split) for name, split in sweep.dataset.load().splits().items()}
    gans = len({member.name.partition("@")[0] for member in sweep.members})
    failed = f"; failed: {', '.join(sweep.failed)}" if sweep.failed else ""
    images = classifier.images_per_epoch or sizes["train"]
    network = "ResNet-18" if classifier.width == 64 else "ResNet-18 narrowed"
    lines = [
        f"Data: {sweep.dataset.name}, {spec.dataset.image_size} × {spec.dataset.image_size}, "
        + ", ".join(f"{name} {count}" for name, count in sizes.items()),
        f"Pool: sweep `{spec.name}`, {len(sweep.members)} members of {gans} GANs, width × "
        f"{spec.train.width:g}, {spec.train.steps:,} steps{_overrides(spec.train.overrides)}, "
        f"{spec.train.snapshots} snapshots each{failed}",
        f"Classifier: {network} (first stage {classifier.width} channels), at most "
        f"{classifier.epochs} epochs of {images:,} images, batch {classifier.batch}, "
        f"{options.repeats} repeats with paired seeds; labels: {classifier.labels}",
        f"Command: `{at.command}`",
        f"Commit: {at.commit or 'unknown'} · {at.date} · {at.machine}",
        f"Time: {at.seconds:.0f} s for this command (results on disk are not made again); one "
        f"classifier took {_per_classifier(parts):.1f} s on average, beside whatever else ran; "
        f"training the pool took {_training_seconds(parts):,.0f} s of trials",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _overrides(overrides: Mapping[str, object]) -> str:
    return f" (other settings for {', '.join(overrides)})" if overrides else ""


def _per_classifier(parts: Sequence[StudyPart]) -> float:
    runs = [run.seconds for part in parts for run in part.evaluation.table.results]
    return sum(runs) / len(runs)


def _training_seconds(parts: Sequence[StudyPart]) -> float:
    members = parts[0].evaluation.sweep.members
    return sum(member.seconds.get("train", 0.0) for member in members)


def _summary(parts: Sequence[StudyPart]) -> str:
    lines = ["## In short", ""]
    for part in parts:
        for metric in METRICS:
            order = part.order(metric)
            names = [f"**{row.strategy}**" if row.strategy == "selected" else row.strategy
                     for row in order]  # fmt: skip
            lines.append(f"- {part.extractor}, order by {WORDS[metric]}: {' > '.join(names)}")
        lines.append(f"- {part.extractor}: {_verdict(part)}")
        for metric in METRICS:
            found = part.correlations[metric]
            lines.append(
                f"- {part.extractor}, {WORDS[metric]} against Intra-d: "
                f"{correlation_words(found['intra_d'])}; against Inter-d: "
                f"{correlation_words(found['inter_d'])}"
            )
    return "\n".join(lines)


def _verdict(part: StudyPart) -> str:
    """Where G* stands, by tests."""
    metric = METRICS[0]
    rows = [row for row in part.evaluation.table if row.strategy != "selected"]
    tested = [row for row in rows if row.metrics[metric].p is not None]
    if not tested:
        return "no strategy could be tested against G*"

    def among(better: bool) -> str:
        names = [
            row.strategy
            for row in tested
            if (row.metrics[metric].p or 0.0) < 0.05
            and ((row.metrics[metric].difference or 0.0) > 0) == better
        ]
        return ", ".join(names) or "none"

    return (
        f"by {WORDS[metric]} at 5 % (Holm), better than G*: {among(True)}; worse than G*: "
        f"{among(False)}; the others are not told apart with {rows[0].repeats} repeats"
    )


def _chosen(part: StudyPart) -> str:
    sweep = part.evaluation.sweep
    point = sweep.selected.point
    counts = int(sweep.scores.counts[0])
    return (
        f"G* ({len(point.members)} members): {', '.join(point.members)}. "
        f"{sweep.selected.reason}.\n\n"
        f"Scored with {counts:,} images a member, k = {sweep.scores.k}; front of "
        f"{len(sweep.front)} points from {sweep.front.distinct:,} subsets "
        f"({sweep.front.sampler}), hypervolume {sweep.front.hypervolume:.4f}."
    )


def _table(part: StudyPart) -> str:
    head = [
        "strategy", "n", "Intra-d", "Inter-d", "accuracy", "per class", "g-mean", "AUC",
        "95 %", "AUC − G*", "p", "gap closed",
    ]  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in part.order(METRICS[0]):
        lines.append(f"| {' | '.join(_cells(part, row))} |")
    return "\n".join(lines)


def _cells(part: StudyPart, row: StrategyRow) -> list[str]:
    sweep, auc = part.evaluation.sweep, row.metrics["auc"]
    intra = inter = None
    if row.members and row.draws == 1:
        intra, inter = objectives(
            sweep.scores, row.members, sweep.spec.search.inter, sweep.front.form
        )
    classes = [m.mean for name, m in row.metrics.items() if name.startswith("accuracy_class_")]
    size = "–" if not row.members else str(len(row.members))
    if row.draws > 1:
        size = f"{row.draws} draws"
    closed = row.gap_closed["auc"]
    return [
        f"**{row.strategy}** (G*)" if row.strategy == "selected" else row.strategy,
        size,
        _number(intra),
        _number(inter),
        _spread(row.metrics["accuracy"]),
        " / ".join(f"{value:.3f}" for value in classes),
        _spread(row.metrics["g_mean"]),
        _spread(auc),
        "–" if auc.low is None else f"{auc.low:.3f}–{auc.high:.3f}",
        "–" if auc.difference is None else f"{auc.difference:+.3f}",
        "–" if auc.p is None else f"{auc.p:.2g}",
        "–" if closed is None else f"{closed:.0%}",
    ]


def _usefulness(part: StudyPart) -> str:
    singles = sum(ensemble.inter_d is None for ensemble in part.ensembles)
    sentences = [
        f"{WORDS[metric]} against Intra-d: "
        f"{correlation_words(part.correlations[metric]['intra_d'])}; against Inter-d: "
        f"{correlation_words(part.correlations[metric]['inter_d'])}."
        for metric in METRICS
    ]
    return (
        "Do the scores predict usefulness? "
        + " ".join(sentences)
        + f" (95 % bootstrap intervals over the ensembles; {singles} single members have no "
        "Inter-d.)"
    )


def _reading() -> str:
    return (
        "Mean ± standard deviation over repeats on the real test split; 95 % intervals of the mean "
        "by Student's t; p of a two-sided paired t-test against G*, Holm-corrected over the "
        "strategies; gap closed: (strategy − all) / (real − all) of AUC, absent where real is not "
        "better than all. The intervals speak of training's randomness, not of the test patients'. "
        "What each strategy is: docs/downstream.md."
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _spread(spread: Spread) -> str:
    return f"{spread.mean:.3f}" + ("" if spread.sd is None else f" ± {spread.sd:.3f}")
