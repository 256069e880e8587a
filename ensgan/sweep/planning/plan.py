"""The dry run: what a sweep would do and what it would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from ensgan import train
from ensgan.config.vary import Value, is_draws, searched
from ensgan.errors import ConfigError
from ensgan.sweep.folder import SweepFolder
from ensgan.sweep.manifest import Manifest
from ensgan.sweep.opening import Changes, changes_of, training_folders
from ensgan.sweep.planning import cost
from ensgan.sweep.planning.measured import Measured
from ensgan.sweep.planning.variations import Configuration
from ensgan.sweep.resolving import Resolved, round_size
from ensgan.text import counted, some
from ensgan.types import row_of
from ensgan.zoo.footprint import Footprint, footprint

NAMES_SHOWN = 12
"""Most members that a sentence names."""


@dataclass(frozen=True)
class Outlook:
    """What is left to do.

    Attributes:
        sentences: what would be done; empty for a sweep that has not begun.
        missing: members that would be made, without those whose snapshot is on disk.
        steps: still to train, by GAN; GANs that need none are left out.
    """

    sentences: tuple[str, ...]
    missing: tuple[str, ...]
    steps: Mapping[str, int] = field(default_factory=dict)


def look_ahead(resolved: Resolved, folder: SweepFolder, *, retrain: bool = False) -> Outlook:
    """Compare a sweep file with what its folder holds.

    Raises:
        ConfigError: the sweep would be refused; says why.
        DataError: the folder's manifest cannot be used.
    """
    steps, trained = _steps_left(resolved, folder)
    if not folder.has_begun:
        return Outlook((), resolved.names, steps)
    before = folder.read()
    changes = changes_of(folder, before, resolved)
    try:
        changes.require(folder, retrain=retrain)
    except ConfigError as error:
        raise ConfigError(f"refused because {error.source}", error.problems) from error
    # A snapshot on disk counts as made even before it is sampled: only that is left, and is quick.
    made = trained | {name for name, member in before.members.items() if member.is_there}
    missing = tuple(name for name in resolved.names if name not in made)
    sentences = list(_sentences(before, changes, missing))
    if folder.is_locked():
        sentences.append("not now: a process runs it")
    nothing = f"nothing to do: '{resolved.spec.name}' is {before.status}"
    return Outlook(tuple(sentences or [nothing]), missing, steps)


def _sentences(before: Manifest, changes: Changes, missing: Sequence[str]) -> Iterable[str]:
    left = [name for name in missing if name not in changes.added]
    if changes.added:
        new = [name for name in changes.added if name in missing]
        known = len(changes.added) - len(new)
        yield f"would add {_counted(changes.added)}" + (
            f", {known} of them trained already" if known else ""
        )
    if left:
        yield f"would make {_counted(left)}: they are still to come"
    if changes.removed:
        yield f"would take away {_counted(changes.removed)}; their files stay"
    for gan, names in changes.again.items():
        yield f"would train {gan} from its start again for {', '.join(names)}"
    # Changes of training and members show above, as members that are added or made again.
    other = [line for line in changes.settings if not line.startswith(("train.", "members:"))]
    if other:
        yield f"would run later stages again ({'; '.join(other)})"
    elif before.status == "running" and not left:
        yield "would go on with the stages after training"


def _counted(names: Sequence[str]) -> str:
    return f"{counted(len(names), 'member')} ({some(names, NAMES_SHOWN)})"


def _steps_left(resolved: Resolved, folder: SweepFolder) -> tuple[dict[str, int], set[str]]:
    """Steps that each GAN still has to train, and the members that need no training."""
    left: dict[str, int] = {}
    trained: set[str] = set()
    places = training_folders(resolved, folder)
    for gan, place in zip(resolved.configurations, places, strict=True):
        steps = gan.settings.snapshot_steps
        done = {step for step in steps if train.is_finished(place, f"{gan.name}@{step}")}
        trained.update(f"{gan.name}@{step}" for step in done)
        missing = [step for step in steps if step not in done]
        if missing:
            # Training goes on from the last snapshot before the first missing one.
            again = train.starts_over(place, gan.name, gan.settings)
            before = 0 if again else max((s for s in done if s < missing[0]), default=0)
            left[gan.name] = missing[-1] - before
    return left, trained


@dataclass(frozen=True)
class GanPlan:
    """One trial.

    Attributes:
        steps: that are left to train.
        variation: values of the settings that the sweep varies.
        seconds_per_step: see :class:`ensgan.sweep.planning.cost.Rates`.
        seconds: of these steps.
        memory_bytes: estimated peak: weights, gradients, optimiser state, averaged weights and the
            activations of one backward pass.
        snapshot_bytes: of one generator file.
    """

    gan: str
    variation: Mapping[str, Value]
    steps: int
    snapshots: int
    batch: int
    seconds_per_step: float
    seconds: float
    generator_parameters: int
    discriminator_parameters: int
    memory_bytes: int
    snapshot_bytes: int


@dataclass(frozen=True)
class Plan:
    """The whole sweep.

    Attributes:
        slots: trials at once on this machine: as many as its CPUs and the trials' shares of its
            GPUs (of one GPU where it has none) let run.
        training_seconds: of all trials together, each alone on its device; ``wall_seconds`` on the
            slots, where those that share a GPU share its speed. Training alone.
        device: of the rates, see :class:`ensgan.sweep.planning.cost.Rates`.
        wants_gpu: trials will run on GPUs.
        gpu_hours: of training, None on CPUs; gains by packing GANs into one process are left out.
        remark: what the figures rest on and leave open; "" if there is nothing to say.
    """

    sweep: str
    rows: tuple[GanPlan, ...]
    members: int
    steps: int
    images: int
    slots: int
    training_seconds: float
    wall_seconds: float
    classifiers: int
    disk_bytes: int
    free_bytes: int
    device: str
    wants_gpu: bool
    gpu_hours: float | None
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able values."""
        return asdict(self)


def make_plan(
    resolved: Resolved,
    storage: Path,
    left: Outlook | None = None,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Plan:
    """Count what every GAN computes and divide by what this machine does in a second.

    Nothing is trained, nothing is written.

    Args:
        resolved: the sweep.
        storage: where it would be kept.
        left: what of it is left to do; None for all.
        on_progress: called with the GANs counted and all of them.
    """
    spec = resolved.spec
    shape, classes = resolved.dataset.shape, resolved.dataset.num_classes
    wants_gpu = bool(spec.cluster.gpus_per_trial)
    rates = cost.Rates(resolved, Measured(storage / "measured.json"))
    trainings = [
        (gan, gan.settings.steps if left is None else left.steps.get(gan.name, 0))
        for gan in resolved.configurations
    ]
    trainings = [training for training in trainings if training[1]]
    sizes = {
        gan.name: footprint(gan.row, shape, classes, batch=gan.settings.optimiser(gan.row).batch)
        for gan, _ in trainings
    }
    works = cost.step_works([gan for gan, _ in trainings], sizes, shape, classes, on_progress)
    rows = []
    for gan, steps in trainings:
        seconds = rates.seconds_per_step(gan, works[gan.name])
        rows.append(_gan_plan(resolved, gan, sizes[gan.name], steps, seconds))
    slots, cards = _slots(resolved)
    in_all = sum(row.seconds for row in rows)
    # Trials that share a GPU are assumed to take as long as one after another would.
    wall = max(makespan([row.seconds for row in rows], slots), in_all / cards if wants_gpu else 0.0)
    # A trial's hour costs the GPUs it takes; several on one card share its hour, counted above.
    gpus = spec.cluster.gpus_per_trial
    whole = 1.0 if gpus == "auto" else max(1.0, gpus)
    members = resolved.names if left is None else left.missing
    given = {member.name for member in spec.members if member.generator is None}
    written = cost.written_bytes(storage / "sweeps" / spec.name) if left is not None else 0
    return Plan(
        sweep=spec.name,
        rows=tuple(rows),
        members=len(members),
        steps=sum(row.steps for row in rows),
        images=resolved.count * sum(name not in given for name in members),
        slots=slots,
        training_seconds=in_all,
        wall_seconds=wall,
        classifiers=spec.evaluate.repeats * len(spec.evaluate.strategies),
        disk_bytes=max(0, cost.disk_bytes(resolved) - written),
        free_bytes=cost.free_bytes(storage),
        device=rates.device,
        wants_gpu=wants_gpu,
        gpu_hours=in_all / 3600 * whole if wants_gpu else None,
        remark=_remark(resolved, rates),
    )


def _remark(resolved: Resolved, rates: cost.Rates) -> str:
    remarks = [rates.basis()]
    vary = resolved.spec.train.vary
    if is_draws(vary):
        # Only draws vanish silently: equal entries of a grid or list are refused.
        made = Counter(map(row_of, resolved.variations))
        fewer = [f"{gan} in {n:,}" for gan, n in made.items() if n < vary["sample"]]
        if fewer:
            remarks.append(
                f"of {vary['sample']:,} draws some come to the same training (widths are rounded "
                "to whole channels, and settings that a GAN lacks are left out): "
                + f"{', '.join(fewer)}"
            )
    if drawn := searched(vary):
        remarks.append(
            f"draws depend on results: {drawn['search']} draws {round_size(drawn['sample'])} "
            "configurations per GAN and round; those that are not drawn yet are quasi-random "
            "here, and costs are estimates from them"
        )
    if rates.device == cost.TABULATED:
        remarks.append("no GPU here: slots are those of one, run --dry-run on a node that has it")
    return "\n".join(filter(None, remarks))


def _slots(resolved: Resolved) -> tuple[int, int]:
    """Trials at once on this machine, and its GPUs (one where it has none)."""
    cluster, dataset = resolved.spec.cluster, resolved.dataset
    gpus, gpu_bytes = cost.local_gpus()
    gpus = gpus or 1
    most = None if cluster.gans_per_process == "auto" else cluster.gans_per_process
    shares = []
    # Estimating memory is slow, and only shares by memory depend on it.
    by_memory = cluster.gpus_per_trial == "auto" and gpu_bytes is not None
    for gan in resolved.configurations:
        memory = 0
        if by_memory:
            memory = cost.device_bytes(gan.row, gan.settings, dataset.shape, dataset.num_classes)
        shares.append(cost.gpu_share(cluster, memory, gpu_bytes, most))
    # Shares by memory differ per GAN; their mean gives the right slots for the sweep as a whole.
    share = sum(shares) / len(shares) if shares else 0.0
    cpus = psutil.cpu_count(logical=True) or 1
    slots = max(1, cost.slots_of(cluster.cpus_per_trial, share, cpus, gpus))
    return min(slots, cluster.max_concurrent or slots, max(1, len(shares))), gpus


def makespan(seconds: list[float], slots: int) -> float:
    """Wall time of jobs on equal slots, the longest first."""
    # As the executor does it: whichever slot is free first takes the longest job that is left.
    loads = [0.0] * slots
    for job in sorted(seconds, reverse=True):
        loads[loads.index(min(loads))] += job
    return max(loads)


def _gan_plan(
    resolved: Resolved, gan: Configuration, sizes: Footprint, steps: int, per_step: float
) -> GanPlan:
    return GanPlan(
        gan=gan.name,
        variation=dict(gan.values if resolved.spec.train.vary is not None else {}),
        steps=steps,
        snapshots=gan.settings.snapshots,
        batch=gan.settings.optimiser(gan.row).batch,
        seconds_per_step=per_step,
        seconds=per_step * steps,
        generator_parameters=sizes.generator_parameters,
        discriminator_parameters=sizes.discriminator_parameters,
        memory_bytes=sizes.training_bytes,
        snapshot_bytes=cost.FLOAT_BYTES * sizes.generator_parameters,
    )
