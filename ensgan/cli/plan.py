"""``ensgan sweep --dry-run``: what would run and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType

from ensgan.cli.output import FittingTable, emit, progress, warn
from ensgan.text import counted, duration

if TYPE_CHECKING:
    from ensgan.sweep.planning.plan import Plan


MOST_ROWS = 100
"""Most rows that are printed; --json has all of them."""


def show_plan(
    spec: Path,
    settings: list[str],
    storage: Path | None,
    data_dir: Path | None,
    as_json: bool,
    *,
    fresh: bool,
    retrain: bool,
    without_added: bool,
    many: bool,
) -> None:
    """Print what running a sweep file would do; arguments as of ``ensgan sweep``."""
    from ensgan.store import default_storage, open_store
    from ensgan.sweep.planning.plan import look_ahead, make_plan
    from ensgan.sweep.planning.sweep_file import load_sweep
    from ensgan.sweep.resolving import resolve_in

    root = (storage or default_storage()).resolve()
    asked = load_sweep(spec, settings)
    how = {"fresh": fresh, "without_added": without_added, "many": many, "whole": True}
    listen = lambda event: warn(event.fields["message"])  # noqa: E731
    resolved, folder = resolve_in(root, asked, data_dir, listen, **how)
    open_store(resolved.spec.track.uri, storage)  # refuses an address that can be none
    left = None if fresh else look_ahead(resolved, folder, retrain=retrain)
    with progress("counting the operations of each GAN") as on_progress:
        plan = make_plan(resolved, root, left, on_progress=on_progress)
    would = [] if left is None else list(left.sentences)

    def table() -> Group:
        shown = [_plan_table(plan)] if plan.members or not would else []
        more = len(plan.rows) - MOST_ROWS
        hidden = [f"and {more:,} more GANs (--json shows all)"] if shown and more > 0 else []
        return Group(*would, *shown, *hidden)

    emit({**plan.to_json(), "would": would}, as_json=as_json, table=table)


def _plan_table(plan: Plan) -> RenderableType:
    """The plan in words, and one row per GAN if any is trained."""
    if not plan.rows:
        return _plan_sentence(plan)
    table = FittingTable(
        *("GAN", "steps", "batch", "s/step", "hours", "params G", "params D", "memory MB"),
        title=_plan_sentence(plan),
        spare=("params D", "params G", "batch", "s/step", "memory MB", "steps"),
    )
    for row in plan.rows[:MOST_ROWS]:
        table.add_row(
            row.gan,
            f"{row.steps:,}",
            str(row.batch),
            f"{row.seconds_per_step:.3f}",
            f"{row.seconds / 3600:.2f}",
            f"{row.generator_parameters:,}",
            f"{row.discriminator_parameters:,}",
            f"{row.memory_bytes / 2**20:.0f}",
        )
    return table


def _plan_sentence(plan: Plan) -> str:
    """The plan in words."""
    missing = "" if plan.disk_bytes <= plan.free_bytes else " – NOT ENOUGH"
    shown = f"{duration(plan.training_seconds)} in all"
    if plan.gpu_hours is not None:
        shown = f"{plan.gpu_hours:,.1f} GPU-hours"
    remark = f"\n{plan.remark}" if plan.remark else ""
    gans, training = "", ""
    if plan.rows:
        gans = f" of {counted(len(plan.rows), 'GAN')}, {plan.steps:,} steps"
        training = (
            f"training about {duration(plan.wall_seconds)} on {counted(plan.slots, 'slot')} "
            f"({shown}), "
        )
    return (
        f"{plan.sweep}: {counted(plan.members, 'member')}{gans}, {plan.images:,} images to "
        f"generate, {counted(plan.classifiers, 'classifier')} to train\n"
        f"{training}disk {plan.disk_bytes / 2**20:,.0f} MB "
        f"of {plan.free_bytes / 2**30:,.0f} GB free{missing}{remark}"
    )
