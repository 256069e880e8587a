"""What a part of a sweep's budget buys: front hypervolume and downstream score against the whole.

The sweep runs once without a budget; the CPU-hours (GPU-hours where trials get GPUs) of its
trials are 100 %. It then runs again from nothing with ``--gpu-hours`` at each part of that, by each
scheduler, in a storage of its own. ``cut`` is the control: the first sweep as it would have been
had it ended when that part was spent, without classifiers. Fronts are of one data set, extractor
and reference point, so their hypervolumes compare.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensgan.config import SweepSpec
    from ensgan.sweep.events import Event
    from ensgan.sweep.member_job import MemberResult
    from ensgan.sweep.planning.budget import Budget
    from ensgan.sweep.runner import SweepResult

SWEEP = Path(__file__).resolve().parents[1] / "sweeps" / "budget-nano.yaml"
METRICS = ("accuracy", "g_mean", "auc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sweep", type=Path, default=SWEEP, help="sweep file")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", dest="settings")
    parser.add_argument("--parts", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--schedulers", nargs="+", default=["front"], choices=["front", "asha"])
    parser.add_argument("--data-dir", type=Path, help="where data sets lie")
    parser.add_argument("--storage", type=Path, help="keep the sweeps here, and go on with them")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """All sweeps, the whole one first."""
    from ensgan.cluster.session import ray_session
    from ensgan.sweep.planning.budget import Budget
    from ensgan.sweep.sweep_file import load_sweep

    spec = load_sweep(args.sweep, args.settings)
    with tempfile.TemporaryDirectory(prefix="ensgan-budget-") as temporary, ray_session():
        storage = args.storage or Path(temporary)
        whole, _, hours = _sweep(spec, storage / "whole", args.data_dir, None)
        expected = {member.name: member.sha256 for member in whole.members}
        rows = [_row("whole", 1.0, whole, hours, {})]
        for part in args.parts:
            rows.append(_cut(whole, spec, part * hours, part))
            for scheduler in args.schedulers:
                budget = Budget(gpu_hours=part * hours, scheduler=scheduler)
                place = storage / f"{scheduler}-{round(100 * part)}"
                result, stopped, taken = _sweep(spec, place, args.data_dir, budget)
                rows.append(_row(scheduler, part, result, taken, stopped))
                found = {member.name: member.sha256 for member in result.members}
                assert found.items() <= expected.items(), "a budget changed a member"
    for row in rows:
        row["hypervolume_over_whole"] = row["hypervolume"] / rows[0]["hypervolume"]
    return {
        "sweep": spec.name,
        "dataset": spec.dataset.name,
        "planned": len(expected),
        "whole_hours": hours,
        "rows": rows,
    }


def _sweep(
    spec: SweepSpec, storage: Path, data_dir: Path | None, budget: Budget | None
) -> tuple[SweepResult, dict[str, str], float]:
    """The sweep, the GANs that left with the reason, and the hours of all its trials.

    Under a budget these include what trials did after their last snapshot.
    """
    from ensgan.launch.sweep import run_sweep

    stopped: dict[str, str] = {}
    hours: list[float] = []

    def on_event(event: Event) -> None:
        if event.kind == "stopped":
            stopped[event.fields["gan"]] = event.fields["reason"]
        elif event.kind == "budget":
            hours.append(event.fields["hours"])

    begin = time.monotonic()
    result = run_sweep(spec, storage=storage, data_dir=data_dir, budget=budget, on_event=on_event)
    assert not result.failed, result.failed
    seconds = time.monotonic() - begin
    print(f"# {storage.name}: {len(result.members)} members, {seconds:.0f} s", file=sys.stderr)
    return result, stopped, hours[-1] if hours else _hours(result.members, spec)


def _hours(members: tuple[MemberResult, ...], spec: SweepSpec) -> float:
    """What the members took, as a budget counts it."""
    gpus = spec.cluster.gpus_per_trial
    assert gpus != "auto", "parts of a GPU differ by GAN: set cluster.gpus_per_trial to a number"
    share = gpus or spec.cluster.cpus_per_trial
    return share * sum(end - begin for each in members for begin, end in each.work) / 3600


def _row(
    scheduler: str, part: float, result: SweepResult, hours: float, stopped: dict[str, str]
) -> dict[str, Any]:
    point = result.selected.point
    chosen = result.table.row("selected").metrics
    return {
        "scheduler": scheduler,
        "part": part,
        "hours": hours,
        "members": len(result.members),
        "left_early": sorted(gan for gan, why in stopped.items() if "spent" not in why),
        "hypervolume": result.front.hypervolume,
        "intra_d": point.intra_d,
        "inter_d": point.inter_d,
        "downstream": {
            name: {"mean": s.mean, "sd": s.sd} for name in METRICS if (s := chosen[name])
        },
        "real": {name: result.table.row("real").metrics[name].mean for name in METRICS},
        "seconds": dict(result.seconds),
    }


def _cut(whole: SweepResult, spec: SweepSpec, hours: float, part: float) -> dict[str, Any]:
    """The whole sweep's members in the order they were finished, as far as the hours go."""
    from ensgan.search import search, select

    kept: list[MemberResult] = []
    for member in sorted(whole.members, key=lambda each: each.work[-1][1]):
        if _hours((*kept, member), spec) <= hours * (1 + 1e-9):
            kept.append(member)
    names = [each.name for each in whole.members if each in kept]
    row: dict[str, Any] = {"scheduler": "cut", "part": part, "members": len(names)}
    row["hours"] = _hours(tuple(kept), spec)
    if len(names) < 2:
        return {**row, "hypervolume": 0.0}
    scores = whole.scores.part(names)
    front = search(scores, sampler=spec.search.sampler, trials=spec.search.trials, seed=spec.seed)
    point = select(front, "knee").point
    return {
        **row,
        "hypervolume": front.hypervolume,
        "intra_d": point.intra_d,
        "inter_d": point.inter_d,
    }


def show(result: dict[str, Any]) -> None:
    print(
        f"{result['sweep']} on {result['dataset']}: {result['planned']} members, "
        f"{result['whole_hours']:.4f} hours of trials\n\n"
        "| budget | scheduler | hours | members | left early | hypervolume | of the whole | "
        "G* Intra-d | Inter-d | accuracy | g-mean | AUC |\n|" + "---|" * 12
    )
    for row in result["rows"]:
        scores = [
            f"{s['mean']:.3f} ± {s['sd'] or 0:.3f}" if s else "–"
            for s in (row.get("downstream", {}).get(name) for name in METRICS)
        ]
        cells = [
            f"{row['part']:.0%}" if row["scheduler"] != "whole" else "none",
            row["scheduler"],
            f"{row['hours']:.4f}",
            str(row["members"]),
            ", ".join(row.get("left_early", ())) or "–",
            f"{row['hypervolume']:.4f}",
            f"{row['hypervolume_over_whole']:.3f}",
            f"{row['intra_d']:.3f}" if "intra_d" in row else "–",
            f"{row['inter_d']:.3f}" if "inter_d" in row else "–",
            *scores,
        ]
        print("| " + " | ".join(cells) + " |")
