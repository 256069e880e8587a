"""What scoring every snapshot as it is made costs beside the training of that snapshot.

Figures come from the member records that a trial writes (``ensgan.sweep.member_job.grow``): seconds
of training since the snapshot before, of making its images, of embedding and of scoring them. The
real images' radii are measured once, before the trials. A GAN's first snapshot also loads the
extractor and the real features: it is shown apart.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

STAGES = ("sample", "embed", "score")
GOAL = 0.05


def of_rows(
    sweep: Path, rows: list[str], settings: list[str], updates: int, data_dir: Path | None
) -> list[dict[str, Any]]:
    """Train some rows of a sweep for two snapshots each, in this process.

    Args:
        sweep: sweep file.
        rows: GANs; settings, images per member and extractor are the sweep's.
        settings: ``a.b=value`` as of ``ensgan sweep --set``.
        updates: updates between two snapshots; 0 for the sweep's own. With fewer, training is
            extrapolated to the sweep's spacing (an update costs the same all along).
        data_dir: where data sets lie.
    """
    from ensgan.sweep.folder import SweepFolder
    from ensgan.sweep.inputs import write_inputs
    from ensgan.sweep.member_job import grow
    from ensgan.sweep.planning.sweep_file import load_sweep
    from ensgan.sweep.resolving import resolve
    from ensgan.sweep.training_stage import member_jobs

    # No classifier is trained here, and no member comes from elsewhere.
    alone = ["evaluate.strategies=[]", "select.rule=knee", "members=[]"]
    spec = load_sweep(sweep, [*settings, *alone])
    asked = {row.name: setting for row, setting in _planned(resolve(spec, data_dir))}
    strange = set(rows) - set(asked)
    if strange:
        raise SystemExit(f"{', '.join(sorted(strange))}: the sweep trains {', '.join(asked)}")
    found = []
    for name in rows:
        spacing = updates or asked[name].spacing
        override = {"steps": 2 * spacing}
        chosen = spec.model_dump()
        chosen["train"] |= {"gans": [name], "snapshots": 2, "overrides": {name: override}}
        if name in spec.train.overrides:
            before = spec.train.overrides[name].model_dump(exclude_none=True)
            chosen["train"]["overrides"][name] = before | override
        resolved = resolve(type(spec).model_validate(chosen), data_dir)
        with tempfile.TemporaryDirectory(prefix="ensgan-online-") as place:
            folder = SweepFolder(Path(place))
            (job,) = member_jobs(resolved, write_inputs(resolved, folder))
            for number, member in enumerate(grow(job)):
                factor = asked[name].spacing / spacing
                seconds = {**member.seconds, "train": factor * member.seconds["train"]}
                found.append(row(member.name, seconds, first=number == 0, trained=spacing))
    return found


def _planned(resolved: Any) -> Iterable[tuple[Any, Any]]:
    return ((each.row, each.settings) for each in resolved.configurations)


def of_records(folder: Path) -> list[dict[str, Any]]:
    """The same from a sweep that ran: its folder, ``STORAGE/sweeps/NAME``."""
    from ensgan.files import read_json
    from ensgan.types import gan_of, step_of

    files = sorted((folder / "members").glob("*.json"))
    if not files:
        raise SystemExit(f"{folder} holds no member records: name STORAGE/sweeps/NAME")
    members = [read_json(file) for file in files]
    members = [member for member in members if "train" in member["seconds"]]
    first: dict[str, int] = {}
    for member in members:
        gan, step = gan_of(member["name"]), step_of(member["name"])
        first[gan] = min(step, first.get(gan, step))
    return [
        row(m["name"], m["seconds"], first=step_of(m["name"]) == first[gan_of(m["name"])])
        for m in members
    ]


def row(name: str, seconds: dict[str, float], *, first: bool, trained: int = 0) -> dict[str, Any]:
    train = seconds["train"]
    return {
        "member": name,
        "first": first,
        "updates_measured": trained or None,
        "seconds": {key: seconds[key] for key in ("train", *STAGES)},
        "share_of_embed_and_score": (seconds["embed"] + seconds["score"]) / train,
        "share_with_images": sum(seconds[stage] for stage in STAGES) / train,
    }


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals over all snapshots, and the spread over those that are not a GAN's first."""
    train = sum(each["seconds"]["train"] for each in rows)
    later = [each for each in rows if not each["first"]] or rows
    result: dict[str, Any] = {
        "snapshots": len(rows),
        "goal": GOAL,
        "total_shares": {
            stage: sum(each["seconds"][stage] for each in rows) / train for stage in STAGES
        },
    }
    for key in ("share_of_embed_and_score", "share_with_images"):
        shares = [each[key] for each in later]
        result[key] = {
            "median": statistics.median(shares),
            "largest": max(shares),
            "above_goal": sum(share > GOAL for share in shares),
        }
    return {**result, "rows": rows}


def show_online(result: dict[str, Any]) -> None:
    for each in result["rows"]:
        seconds = ", ".join(f"{key} {value:.2f}" for key, value in each["seconds"].items())
        print(
            f"{each['member']}{' (first)' if each['first'] else ''}: {seconds} s; embedding and "
            f"scoring {each['share_of_embed_and_score']:.2%} of training, with the images "
            f"{each['share_with_images']:.2%}"
        )
    totals = ", ".join(f"{stage} {share:.2%}" for stage, share in result["total_shares"].items())
    print(f"of the training of all {result['snapshots']} snapshots: {totals}")
    for key, words in (
        ("share_of_embed_and_score", "embedding and scoring"),
        ("share_with_images", "with the images"),
    ):
        found = result[key]
        print(
            f"{words}, without a GAN's first snapshot: median {found['median']:.2%}, largest "
            f"{found['largest']:.2%}, above {result['goal']:.0%}: {found['above_goal']}"
        )
